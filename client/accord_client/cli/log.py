"""`accord-node log`: what this node has seen of the registry's log, for steward and auditor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from accord_client.cli.options import DEFAULT_HOME, HomeOption, open_home
from accord_common.cli import Format, FormatOption, YesOption, confirm, emit, note, verbs

app = verbs("Show what this node has seen of the registry's log.")


@app.command(epilog="Example: accord-node log show")
def show(home: HomeOption = DEFAULT_HOME, format_: FormatOption = Format.TEXT) -> None:
    """Show the newest checkpoint that was kept, and whether the log still holds to it."""
    from accord_client.stores import open_stores
    from accord_client.witness import broken
    from accord_common.log.checkpoint import Checkpoint

    with open_stores(open_home(home)) as stores:
        heads = [Checkpoint.from_bytes(envelope.payload) for envelope in stores.heads.all()]
        found = broken(stores)
    newest = heads[-1] if heads else None
    lines = [
        "no checkpoint has been seen yet"
        if newest is None
        else f"{newest.size} records at {newest.created}\nroot    {newest.root}\n"
        f"log key {newest.log}\n{len(heads)} checkpoints are kept",
        *([] if found is None else [f"NOT BELIEVED [{found['code']}] {found['message']}"]),
        *([] if found is None else [f"for an auditor: {found['evidence']}"]),
    ]
    answer = {
        "newest": None if newest is None else newest.to_json(),
        "kept": len(heads),
        "broken": found,
    }
    emit(answer, format_, "\n".join(lines))


@app.command(epilog="Example: accord-node log export checkpoints.jsonl")
def export(
    file: Annotated[Path, typer.Argument(help="The file to write.")],
    home: HomeOption = DEFAULT_HOME,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Write every checkpoint that is kept, for accord audit verify --checkpoint."""
    from accord_client.stores import open_stores
    from accord_common.files import replace_file

    with open_stores(open_home(home)) as stores:
        heads = stores.heads.all()
    replace_file(file, b"".join(envelope.to_bytes() + b"\n" for envelope in heads))
    emit({"file": str(file), "kept": len(heads)}, format_, f"{len(heads)} checkpoints in {file}")


@app.command(epilog="Example: accord-node log accept")
def accept(
    home: HomeOption = DEFAULT_HOME, yes: YesOption = False, format_: FormatOption = Format.TEXT
) -> None:
    """Take the registry's log as it is for a new beginning, and take part in runs again.

    Right where its operator has told you why, such as a registry restored from a backup. What this
    node saw before is in the folder evidence, which stays.
    """
    from accord_client.stores import open_stores
    from accord_client.witness import accept as accept_
    from accord_client.witness import broken

    opened = open_home(home)
    with opened.registry() as registry, open_stores(opened) as stores:
        found = broken(stores)
        if found is None:
            emit({"accepted": None}, format_, "The log is as this node has seen it.")
            return
        note(f"[{found['code']}] {found['message']}\nfor an auditor: {found['evidence']}")
        confirm("Go on with the registry's log as it is now?", yes=yes)
        head = accept_(stores, registry)
    emit({"accepted": head.to_json()}, format_, f"Goes on from {head.size} records.")
