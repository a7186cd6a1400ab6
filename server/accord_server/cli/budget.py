"""`accord budget`: what runs have spent on each dataset, as far as receipts show."""

from typing import Annotated

import typer

from accord_common.api.finding import find_run
from accord_common.api.schemas import AgreementView
from accord_common.cli import Format, FormatOption, emit, table, verbs
from accord_common.home import Home
from accord_common.privacy import words
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


def _names(views: list[AgreementView]) -> dict[str, str]:
    return {
        dataset.id: f"{view.agreement.party(dataset.owner).name}/{dataset.name}"
        for view in views
        for dataset in view.agreement.datasets
    }
