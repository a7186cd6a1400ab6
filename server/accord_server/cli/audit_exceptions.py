"""`accord audit exceptions`: everything that does not agree, with the records that show it."""

from typing import Annotated

import typer

from accord_common.cli import RowsFormat, RowsFormatOption, emit_rows, table
from accord_server.cli.options import DEFAULT_HOME, HomeOption

EXAMPLE = "Example: accord audit exceptions --code over-spend"


def exceptions(
    run: Annotated[str | None, typer.Option(help="Only this run: id, or its last digits.")] = None,
    code: Annotated[str | None, typer.Option(help="Only this code, such as over-spend.")] = None,
    home: HomeOption = DEFAULT_HOME,
    format_: RowsFormatOption = RowsFormat.TEXT,
) -> None:
    """List over-spends, runs outside terms, key changes, missing receipts and silent nodes.

    What records show comes first, in their order; then what lasts now. An empty list says that the
    registry finds nothing: `accord budget recompute` does not take its word.
    """
    from accord_common.api.budget_schemas import ExceptionRow
    from accord_common.api.finding import find_run
    from accord_common.home import Home

    with Home.open(home.expanduser()).registry() as client:
        wanted = None if run is None else find_run(client, run).id
        rows = client.exceptions(code=code, run=wanted)
    cells = [
        [
            row.since,
            row.code,
            row.institution,
            row.run,
            ", ".join(record[:16] for record in row.records),
            row.message,
        ]
        for row in rows
    ]
    columns = ("since", "code", "institution", "run", "records", "what")
    text = table(*columns, rows=cells) if rows else "Nothing."
    emit_rows(ExceptionRow, rows, format_, text)
