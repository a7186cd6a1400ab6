"""`accord agreement amend` and `accord agreement diff`: from one version to the next."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from accord_common.agreement import AGREEMENT, Agreement
from accord_common.amendments import changes, diff_text
from accord_common.api.client import RegistryClient
from accord_common.api.finding import find_agreement
from accord_common.cli import Format, FormatOption, emit
from accord_common.envelope import record_hash
from accord_common.errors import UsageError
from accord_common.fields import MAX_RECORD_BYTES
from accord_common.home import Home
from accord_server.cli.options import DEFAULT_HOME, HashArgument, HomeOption
from accord_server.coordinator.amending import terms_of
from accord_server.coordinator.templates import write_new

AMEND_EXAMPLE = "Example: accord agreement amend 3f9a0c21 --output next.yaml"
DIFF_EXAMPLE = "Example: accord agreement diff 3f9a0c21 agreement.json"

Version = Annotated[
    str, typer.Argument(help="A hash, its first digits, or a file that `draft` wrote.")
]


def amend(
    agreement: HashArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the terms go.")],
    home: HomeOption = DEFAULT_HOME,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Write an agreement's terms to be edited into its next version.

    Of one from which a party withdrew: into a new agreement among those who remain.
    """
    with Home.open(home.expanduser()).registry() as client:
        view = find_agreement(client, agreement)
    withdrawn = view.status == "withdrawn"
    write_new(output, terms_of(view.agreement, view.hash, withdrawn=withdrawn))
    ended = "A party withdrew: these are terms of a new agreement, without `replaces`.\n"
    emit(
        {
            "file": str(output),
            "replaces": None if withdrawn else view.hash,
            "version": 1 if withdrawn else view.agreement.version + 1,
        },
        format_,
        f"Written to {output}. Edit it.\n{ended if withdrawn else ''}Next: accord agreement draft "
        f"{output} --out agreement.json",
    )


def diff(
    old: Version, new: Version, home: HomeOption = DEFAULT_HOME, format_: FormatOption = Format.TEXT
) -> None:
    """Say what changed between two versions, and what of it permits more than before."""
    opened = Home.open(home.expanduser())
    with opened.registry() as client:
        (old_hash, before), (new_hash, after) = _version(client, old), _version(client, new)
    if before.id != after.id:
        raise UsageError(
            "other-agreement",
            f"{before.title!r} and {after.title!r} are not versions of one agreement",
            hint="accord agreement list shows titles and versions.",
        )
    emit(
        {
            "old": old_hash,
            "new": new_hash,
            "changes": [asdict(change) for change in changes(before, after)],
        },
        format_,
        diff_text(before, after),
    )


def read_file(file: Path) -> Agreement:
    """Read an agreement that `draft` wrote.

    Raises:
        UsageError: `unreadable-file`.
        FormatError: it is none.
    """
    try:
        data = file.expanduser().read_bytes()
    except OSError as error:
        raise UsageError(
            "unreadable-file",
            f"{file}: {error.strerror}",
            hint="Name the file that `accord agreement draft --out` wrote.",
        ) from error
    return Agreement.from_bytes(data.rstrip(b"\n"), max_bytes=MAX_RECORD_BYTES)


def _version(client: RegistryClient, text: str) -> tuple[str, Agreement]:
    file = Path(text).expanduser()
    if file.is_file():
        agreement = read_file(file)
        return record_hash(AGREEMENT, agreement.to_bytes()), agreement
    view = find_agreement(client, text)
    return view.hash, view.agreement
