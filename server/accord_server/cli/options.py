"""Options and small words that the coordinator's and auditor's verbs share."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.table import Table

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


def table(*columns: str, rows: Sequence[Sequence[str]]) -> Table:
    """Make a plain table."""
    made = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for row in rows:
        made.add_row(*row)
    return made


def size(count: int) -> str:
    """Write a number of bytes for people."""
    value = float(count)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"
