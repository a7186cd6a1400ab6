"""`accord-node dataset opt-out`: patients whose rows are left out from the next reading on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from accord_client.cli.options import DEFAULT_HOME, HomeOption, open_home
from accord_common.cli import Format, FormatOption, emit, note
from accord_common.errors import AccordError, UsageError

if TYPE_CHECKING:
    from accord_client.datasets import LocalDataset

EXAMPLE = "Example: accord-node dataset opt-out tumours opted-out.txt"


def opt_out(
    name: Annotated[str, typer.Argument(help="The dataset's name or id.")],
    file: Annotated[
        Path | None, typer.Argument(help="Identifiers to add, UTF-8 text, one a line.")
    ] = None,
    add: Annotated[
        list[str] | None, typer.Option(help="An identifier to add; may be repeated.")
    ] = None,
    remove: Annotated[
        list[str] | None,
        typer.Option(help="An identifier to take off the list; may be repeated."),
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="Show the list.")] = False,
    home: HomeOption = DEFAULT_HOME,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Leave patients out: from training, validation and everything else that reads rows.

    Identifiers are compared with the column that the schema names as `identifier`. A run that is
    under way leaves them out from its next round. The list never leaves this node.
    """
    from accord_client.datasets import Datasets

    datasets = Datasets.of(open_home(home).path)
    dataset = datasets.find(name)
    opt_outs = datasets.opt_outs(dataset)
    if dataset.table.identifier is None:
        raise UsageError(
            "no-identifier",
            f"schema {dataset.table.name!r} names no identifier, so nobody can be found in it",
            hint="Register the dataset with a schema that declares the patient's column as "
            "`identifier`.",
        )
    added, removed = [*(add or ()), *_lines(file)], remove or []
    if not (added or removed or list_):
        raise UsageError(
            "bad-arguments", "nothing to do", hint="Name a file, --add ID, --remove ID or --list."
        )
    listed = opt_outs.change(add=added, remove=removed) if added or removed else opt_outs.read()
    if list_:
        emit(sorted(listed), format_, "\n".join(sorted(listed)) or "Nobody opted out.")
        return
    counted = _count(dataset, listed)
    text = f"{dataset.name}: {len(listed)} identifiers opted out"
    if counted is not None:
        patients, rows = counted
        text += f"; {patients} of them are in it, with {rows} rows"
        if patients < len(listed):
            note("Identifiers that are not in it may be misspelt; they are kept.")
    emit(
        {
            "opted_out": len(listed),
            "found": counted and counted[0],
            "rows": counted and counted[1],
        },
        format_,
        text,
    )


def _lines(file: Path | None) -> list[str]:
    if file is None:
        return []
    try:
        text = file.expanduser().read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError("unreadable-file", f"{file}: {error}") from error
    if not text.strip():
        raise UsageError("empty-file", f"{file} holds no identifier")
    return text.splitlines()


def _count(dataset: LocalDataset, listed: frozenset[str]) -> tuple[int, int] | None:
    """How many on the list are in the rows, and with how many; None where those cannot be read.

    The list stands either way: no broken table keeps anybody from opting out.
    """
    try:
        people = dataset.source.read(dataset.table).people or ()
    except AccordError as error:
        note(f"The list is stored. The rows could not be read to compare: {error}")
        return None
    mine = [person for person in people if person in listed]
    return len(set(mine)), len(mine)
