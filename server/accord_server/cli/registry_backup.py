"""`accord registry backup | restore`: one file that restores a registry, on either database."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from accord_common.cli import Format, FormatOption, emit, note
from accord_common.errors import UsageError
from accord_common.identity import SigningKey
from accord_server.cli.registry_options import (
    HOME,
    CaOption,
    CertificateOption,
    DatabaseOption,
    HomeOption,
    KeyOption,
)
from accord_server.logs import log_as_json
from accord_server.registry import settings as stored
from accord_server.registry.backup.restore import read_manifest
from accord_server.registry.backup.restore import restore as restore_
from accord_server.registry.backup.take import back_up
from accord_server.registry.figures import LAST_BACKUP


def backup(
    file: Annotated[Path, typer.Argument(help="The backup to write; must not exist.")],
    home: HomeOption = HOME,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Write database and models into one file, of one moment, while the registry serves.

    The file holds no secret: neither the log key nor the server's key. Keep log.pem apart.
    """
    settings = stored.load(home.expanduser().absolute())
    log_as_json()
    taken = asyncio.run(back_up(settings, file.absolute(), note))
    (settings.home / LAST_BACKUP).touch(mode=0o600)  # its time is shown to Prometheus
    emit(
        {"file": str(file)} | taken.model_dump(),
        format_,
        f"Backup of {taken.records} records in {file}\n"
        f"It is restored with the log key {taken.log_key[:16]}: keep {settings.log_key} apart.",
    )


def restore(
    file: Annotated[Path, typer.Argument(help="A file of `accord registry backup`.")],
    log_key: Annotated[Path, typer.Option("--log-key", help="The registry's log.pem.")],
    certificate: CertificateOption,
    key: KeyOption,
    ca: CaOption,
    home: HomeOption = HOME,
    database_url: DatabaseOption = "",
    format_: FormatOption = Format.TEXT,
) -> None:
    """Make a registry from a backup, in an empty folder and database, after verifying all of it.

    It serves at the address that it had; ACCORD_REGISTRY_URL, _HOST and _PORT name another.
    """
    log_as_json()
    try:
        signer = SigningKey.from_pem(log_key.read_bytes())
    except OSError as error:
        raise UsageError(
            "no-file",
            f"{log_key}: {error.strerror}",
            hint="Name the copy of log.pem that was kept apart from the backups.",
        ) from error
    manifest = read_manifest(file, signer)
    settings = stored.overridden(
        {"url": manifest.url, "host": manifest.host, "port": manifest.port},
        home=home.expanduser().absolute(),
        certificate=certificate.absolute(),
        key=key.absolute(),
        ca=ca.absolute(),
        database_url=database_url,
    )
    asyncio.run(restore_(settings, file, signer, note))
    emit(
        {"home": str(settings.home)} | manifest.model_dump(),
        format_,
        f"Restored {manifest.records} records, as of {manifest.created}, in {settings.home}\n"
        f"Next: accord registry start --home {settings.home}",
    )
