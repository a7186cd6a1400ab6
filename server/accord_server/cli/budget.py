"""`accord budget`: what was spent, is reserved and is left."""

from enum import StrEnum
from typing import Annotated

import typer

from accord_common.api.budget_schemas import SpendRow
from accord_common.api.client import RegistryClient
from accord_common.api.finding import find_run
from accord_common.cli import Format, FormatOption, RowsFormat, RowsFormatOption, emit, table, verbs
from accord_common.home import Home
from accord_common.privacy import words
from accord_server.cli import budget_rows, budget_verify
from accord_server.cli.options import DEFAULT_HOME, HomeOption

app = verbs("Show what was spent on each dataset, what is reserved and what is left.")


class By(StrEnum):
    """What a row is about."""

    RUN = "run"
    DATASET = "dataset"
    INSTITUTION = "institution"
    AGREEMENT = "agreement"
    ROUND = "round"


@app.command(epilog="Example: accord budget show --by dataset --format csv > balances.csv")
def show(
    dataset: Annotated[
        str | None, typer.Option(help="Only this dataset: id, name, or institution/name.")
    ] = None,
    run: Annotated[str | None, typer.Option(help="Only this run: id, or its last digits.")] = None,
    by: Annotated[By, typer.Option(help="What each row is about.")] = By.RUN,
    home: HomeOption = DEFAULT_HOME,
    format_: RowsFormatOption = RowsFormat.TEXT,
) -> None:
    """Show what was spent, what open runs may still spend, and what is left of each cap.

    Epsilons of runs do not add up: composed they cost less. The ledger at each institution decides.
    """
    with Home.open(home.expanduser()).registry() as client:
        wanted = None if run is None else find_run(client, run).id
        names = budget_rows.names(client.agreements())
        only = None if dataset is None else budget_rows.find_dataset(names, dataset)
        match by:
            case By.RUN:
                budget_rows.runs(client.budgets(dataset=only, run=wanted), names, format_)
            case By.DATASET:
                budget_rows.datasets(client.balances(dataset=only), format_)
            case By.ROUND:
                budget_rows.rounds(_rounds(client, only, wanted), names, format_)
            case By.INSTITUTION:
                budget_rows.combined(client.combined("institution"), format_)
            case By.AGREEMENT:
                budget_rows.combined(client.combined("agreement"), format_)


@app.command(epilog="Example: accord budget recompute 0197a1b2-...")
def recompute(
    run: Annotated[str, typer.Argument(help="The run: id, or its last digits.")],
    home: HomeOption = DEFAULT_HOME,
    format_: RowsFormatOption = RowsFormat.TEXT,
) -> None:
    """Verify every signature behind a run's spending here, and compute its epsilon from the events.

    Exit 5 where the registry or the signed result says otherwise. Compare the agreement's hash with
    the one that was signed: all rests on it.
    """
    from accord_common.api.notebooks import Client
    from accord_common.errors import VerificationError

    with Home.open(home.expanduser()).registry() as client:
        view = find_run(client, run)
        names = budget_rows.names(client.agreements())
        found = Client(client).recompute(view.id)
    budget_rows.recomputed(found, names, view.agreement, format_)
    if differing := [one for one in found if not one.agrees]:
        raise VerificationError(
            "budget-differs",
            f"{len(differing)} of {len(found)} sites: registry or result say otherwise than the "
            "events that were signed",
            hint="Keep the answer and the run's records: they show who signed what.",
        )


def _rounds(client: RegistryClient, dataset: str | None, run: str | None) -> list[SpendRow]:
    from accord_common.api.notebooks import Client

    return Client(client).rounds(run=run, dataset=dataset)


@app.command(epilog="Example: accord budget total")
def total(
    run: Annotated[str | None, typer.Option(help="Only this run: id, or its last digits.")] = None,
    home: HomeOption = DEFAULT_HOME,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Show what each population has spent over all runs, and what a person may have lost in all.

    Populations that share nobody: the greatest counts. Where all may hold the same person: the sum,
    of epsilons and of deltas. Institutions alone know which; their own ledgers decide.
    """
    from accord_server.coordinator.desk import node_receipts
    from accord_server.coordinator.planning import spent_before
    from accord_server.coordinator.totals import totals

    with Home.open(home.expanduser()).registry() as client:
        wanted = None if run is None else find_run(client, run).id
        agreements = [view.agreement for view in client.agreements()]
        found = totals(spent_before(node_receipts(client, wanted)), agreements)
    rows = [
        *((", ".join(one.datasets), one.spent, one.adjacency) for one in found.populations),
        ("in one of them: the greatest", found.disjoint, found.adjacency),
        ("in all of them: the sum", found.overlapping, found.adjacency),
    ]
    cells = [
        (
            name,
            figure.filter or words.UNBOUNDED,
            figure.fixed_plan or words.UNBOUNDED,
            figure.delta,
            adjacency,
        )
        for name, figure, adjacency in rows
    ]
    emit(
        found,
        format_,
        table("people of", "filter", "fixed plan", "delta", "adjacency", rows=cells)
        + "\nfilter: what counts against caps. fixed plan: tighter (PLD), where all was fixed "
        "beforehand."
        if found.populations
        else "No receipt shows that anything was spent.",
    )


app.command("verify", epilog=budget_verify.EXAMPLE)(budget_verify.verify)
