"""Options and small words that the coordinator's and auditor's verbs share."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.cells import cell_len, set_cell_size
from rich.text import Text

HomeOption = Annotated[
    Path,
    typer.Option("--home", envvar="ACCORD_HOME", help="This party's folder."),
]
DEFAULT_HOME = Path("~/.accord")


def verbs(help_: str) -> typer.Typer:
    """Make a group of verbs in the style of all; it stays a group with a single verb too."""
    app = typer.Typer(help=help_, no_args_is_help=True, add_completion=False)
    app.callback()(lambda: None)
    return app


def table(*columns: str, rows: Sequence[Sequence[str]]) -> Text:
    """Line columns up; nothing is wrapped or cut, so that ids can be copied and searched for."""
    lines = [columns, *rows]
    widths = [max(cell_len(line[place]) for line in lines) for place in range(len(columns))]
    aligned = [
        "  ".join(set_cell_size(cell, width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    ]
    return Text("\n".join(line.rstrip() for line in aligned))


def size(count: int) -> str:
    """Write a number of bytes for people."""
    value = float(count)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"
