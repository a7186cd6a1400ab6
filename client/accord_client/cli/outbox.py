"""`accord-node outbox`: everything that left the building."""

from typing import Annotated

import typer

from accord_client.cli.options import DEFAULT_HOME, HomeOption, open_home
from accord_common.cli import Format, FormatOption, emit, table, verbs

app = verbs("See what left, and verify it.")


@app.command("list", epilog="Example: accord-node outbox list --last 50")
def list_(
    last: Annotated[int, typer.Option(min=0, help="How many lines; 0 for all.")] = 20,
    home: HomeOption = DEFAULT_HOME,
    format_: FormatOption = Format.TEXT,
) -> None:
    """List what was sent, newest last: kind, receiver, size, hash, place in a run.

    Lines, rounds and attempts count from 0, as in the file itself.
    """
    from collections import deque

    from accord_client import outbox

    lines = deque(outbox.lines(open_home(home).path / outbox.FILE_NAME), maxlen=last or None)
    headers = ("#", "time", "what", "to", "bytes", "run", "round", "attempt", "sha256")
    rows = [
        (
            line.sequence,
            line.time,
            line.kind,
            line.to,
            line.bytes,
            line.run,
            line.round,
            line.attempt,
            line.sha256,
        )
        for line in lines
    ]
    emit(
        list(lines), format_, table(*headers, rows=rows) if lines else "Nothing has left this node."
    )


@app.command(epilog="Example: accord-node outbox verify")
def verify(home: HomeOption = DEFAULT_HOME, format_: FormatOption = Format.TEXT) -> None:
    """Check every line's signature and place in the chain."""
    from accord_client import outbox

    opened = open_home(home)
    count = outbox.verify(opened.path / outbox.FILE_NAME, opened.node_keys())
    emit({"lines": count, "ok": True}, format_, f"{count} lines, each signed and in its place.")
