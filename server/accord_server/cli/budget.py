"""`accord budget`: what runs have spent on each dataset, as far as receipts show."""

from typing import Annotated

import typer

from accord_common.api.finding import find_run
from accord_common.api.schemas import AgreementView
from accord_common.cli import Format, FormatOption, emit, table, verbs
from accord_common.home import Home
from accord_common.privacy import words
from accord_server.cli import budget_verify
from accord_server.cli.options import DEFAULT_HOME, HomeOption

app = verbs("Show what runs have spent on each dataset.")


@app.command(epilog="Example: accord budget show --run 0197a1b2-...")
def show(
    dataset: Annotated[str | None, typer.Option(help="Only this dataset: id or name.")] = None,
    run: Annotated[str | None, typer.Option(help="Only this run: id, or its last digits.")] = None,
    home: HomeOption = DEFAULT_HOME,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Show epsilon spent by each run on each dataset, beside the cap.

    Epsilons of runs do not add up: composed they cost less. The ledger at each institution decides.
    """
    with Home.open(home.expanduser()).registry() as client:
        wanted = None if run is None else find_run(client, run).id
        rows = client.budgets(run=wanted)
        names = _names(client.agreements())
    rows = [row for row in rows if dataset in (None, row.dataset, names.get(row.dataset))]
    answer = [row.model_dump() | {"name": names.get(row.dataset, "")} for row in rows]
    cells = [
        [
            names.get(row.dataset, row.dataset),
            row.run,
            str(row.attempts),
            words.cost(row.epsilon),
            row.cap,
            row.delta,
        ]
        for row in rows
    ]
    columns = ("dataset", "run", "attempts", "epsilon", "cap", "delta")
    legend = f"\n\n{words.NO_GUARANTEE}" if any(row.non_private for row in rows) else ""
    emit(answer, format_, table(*columns, rows=cells) + legend)


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


def _names(views: list[AgreementView]) -> dict[str, str]:
    return {
        dataset.id: f"{view.agreement.party(dataset.owner).name}/{dataset.name}"
        for view in views
        for dataset in view.agreement.datasets
    }


app.command("verify", epilog=budget_verify.EXAMPLE)(budget_verify.verify)
