"""`accord-node backup` and `accord-node restore`: the node's folder as one sealed file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from accord_client.cli.options import DEFAULT_HOME, HomeOption, open_home
from accord_common.cli import Format, FormatOption, emit, read_passphrase

BACKUP_EXAMPLE = "Example: accord-node backup /backup/node-2026-01-31.accord"
RESTORE_EXAMPLE = "Example: accord-node restore /backup/node-2026-01-31.accord --home /srv/node"
VARIABLE = "ACCORD_BACKUP_PASSPHRASE"

BackupPassphraseOption = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file",
        help=f"File with the backup's own passphrase; else ${VARIABLE}, else asked.",
    ),
]


def backup(
    file: Annotated[Path, typer.Argument(help="Where to; an existing file is not replaced.")],
    home: HomeOption = DEFAULT_HOME,
    passphrase_file: BackupPassphraseOption = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Write keys, ledger, memory, agreements, registrations and opt-outs into one sealed file.

    The daemon may run meanwhile. Tables are not in it, nor what rounds under way must forget. Keep
    the passphrase elsewhere than the file; it must not be that of the identity key.
    """
    from accord_client.backup import back_up
    from accord_common.fields import now

    opened = open_home(home)
    passphrase = read_passphrase(passphrase_file, confirm=True, variable=VARIABLE, of="backup")
    contents = back_up(opened, file, passphrase, now())
    answer = contents.model_dump(exclude={"files"}) | {
        "file": str(file),
        "files": len(contents.files),
    }
    emit(
        answer,
        format_,
        f"{file}: {len(contents.files)} files of {contents.name}, {contents.entries} ledger "
        f"entries, head {contents.head[:16]}",
    )


def restore(
    file: Annotated[Path, typer.Argument(help="What accord-node backup wrote.")],
    home: HomeOption = DEFAULT_HOME,
    passphrase_file: BackupPassphraseOption = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Set the node up again in a new or empty folder. It begins frozen.

    It charges and answers nothing until it has compared its ledger with the receipts at the
    registry, which it does when it starts; what the ledger then lacks, you charge with accord-node
    reconcile. It takes part in no run that was under way. Never run two copies of one node.
    """
    from accord_client.backup import restore as restore_
    from accord_common.fields import now

    passphrase = read_passphrase(passphrase_file, variable=VARIABLE, of="backup")
    opened, contents = restore_(file, home.expanduser(), passphrase, now())
    answer = contents.model_dump(exclude={"files"}) | {
        "home": str(opened.path),
        "files": len(contents.files),
    }
    emit(
        answer,
        format_,
        f"{contents.name} of {contents.made} is in {opened.path}: {contents.entries} ledger "
        f"entries hold.\nIt is frozen until it has compared them with the registry.\n"
        f"Next: accord-node start --home {opened.path}, and accord-node check",
    )
