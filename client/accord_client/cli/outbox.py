"""`accord-node outbox`: everything that left the building."""

from typing import Annotated

import typer

from accord_client.cli.options import DEFAULT_HOME, HomeOption, open_home
from accord_common.cli import Format, FormatOption, emit

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="See what left, and verify it.")


@app.command("list", epilog="Example: accord-node outbox list --last 50")
def list_(
    last: Annotated[int, typer.Option(min=0, help="How many lines; 0 for all.")] = 20,
    home: HomeOption = DEFAULT_HOME,
    format_: FormatOption = Format.TEXT,
) -> None:
    """List what was sent, newest last: kind, receiver, size, hash, place in a run."""
    from collections import deque

    from rich.table import Table

    from accord_client import outbox

    lines = deque(outbox.lines(open_home(home).path / outbox.FILE_NAME), maxlen=last or None)
    table = Table("#", "time", "what", "to", "bytes", "run", "round", "attempt", "sha256", box=None)
    for line in lines:
        table.add_row(
            str(line.sequence),
            line.time,
            line.kind,
            line.to,
            str(line.bytes),
            line.run or "-",
            "-" if line.round is None else str(line.round),
            "-" if line.attempt is None else str(line.attempt),
            f"{line.sha256[:16]}...",
        )
    emit(list(lines), format_, table if lines else "Nothing has left this node.")


@app.command(epilog="Example: accord-node outbox verify")
def verify(home: HomeOption = DEFAULT_HOME, format_: FormatOption = Format.TEXT) -> None:
    """Check every line's signature and place in the chain."""
    from accord_client import outbox

    opened = open_home(home)
    keys = frozenset({opened.node_key().public})
    count = outbox.verify(opened.path / outbox.FILE_NAME, keys)
    emit({"lines": count, "ok": True}, format_, f"{count} lines, each signed and in its place.")
