"""Taking a backup while the registry serves.

Guarantees: the database is copied in one read transaction, so the log, its projections and every
lease are of one moment, and no writer waits; a file that has the backup's name is whole and synced.
"""

import asyncio
import hashlib
import shutil
import tempfile
from collections.abc import Callable
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

from sqlalchemy import func, select

from accord_common.errors import UsageError
from accord_common.fields import format_time, now
from accord_common.files import replacing
from accord_server.registry.backup.bundle import BLOBS, DATABASE, Manifest, Writer
from accord_server.registry.backup.copying import copy_rows
from accord_server.registry.blobs.repository import path_of
from accord_server.registry.db import Database
from accord_server.registry.engines import sqlite_url
from accord_server.registry.settings import Settings
from accord_server.registry.setup import using
from accord_server.registry.tables import BlobRow, RecordRow

Say = Callable[[str], None]
_Blobs = list[tuple[str, int]]


async def back_up(settings: Settings, file: Path, say: Say) -> Manifest:
    """Write a backup of a registry; `say` is told what is being done.

    Raises:
        UsageError: `file-exists`, `cannot-write`, and those of `Database.check`.
        VerificationError: `damaged-blob`.
    """
    if file.exists():
        raise UsageError("file-exists", f"{file} exists", hint="Give each backup its own name.")
    try:
        with tempfile.TemporaryDirectory(prefix=f".{file.name}.", dir=file.parent) as folder:
            copy = Path(folder) / DATABASE
            say("copying the database")
            manifest, blobs = await _copied(settings, copy)
            await asyncio.to_thread(_write, settings, file, copy, manifest, blobs, say)
        return manifest
    except OSError as error:
        raise UsageError(
            "cannot-write",
            f"{file}: {error.strerror or error}",
            hint="Check the folder, and its free space.",
        ) from error


async def _copied(settings: Settings, copy: Path) -> tuple[Manifest, _Blobs]:
    async with (
        using(settings.open_patiently()) as database,
        using(Database(sqlite_url(copy))) as target,
    ):
        await database.check()
        await target.migrate()
        async with database.read() as source, target.write() as session:
            await copy_rows(source, session)
        async with target.read() as session:
            records = (await session.execute(select(func.count(RecordRow.sequence)))).scalar_one()
            head = select(RecordRow.leaf).order_by(RecordRow.sequence.desc()).limit(1)
            leaf = (await session.execute(head)).scalar_one_or_none()
            query = select(BlobRow.hash, BlobRow.size).order_by(BlobRow.hash)
            blobs: _Blobs = [(name, size) for name, size in (await session.execute(query)).all()]
    with copy.open("rb") as data:  # closed by now: SQLite has put its log into the file
        digest = hashlib.file_digest(data, "sha256").hexdigest()
    manifest = Manifest(
        format=1,
        release=version("accord"),
        created=format_time(now()),
        log_key=settings.read_log_key().public,
        url=settings.url,
        host=settings.host,
        port=settings.port,
        records=records,
        head=leaf,
        size=copy.stat().st_size,
        sha256=digest,
    )
    return manifest, blobs


def _write(
    settings: Settings, file: Path, copy: Path, manifest: Manifest, blobs: _Blobs, say: Say
) -> None:
    needed = manifest.size + sum(size for _, size in blobs)
    if needed > (free := shutil.disk_usage(file.parent).free):
        raise UsageError(
            "disk-full",
            f"the backup takes {needed} bytes; {file.parent} has {free} left",
            hint="Free space, or name a file elsewhere.",
        )
    with replacing(file) as out, closing(Writer(out)) as writer:
        writer.manifest(manifest, settings.read_log_key())
        writer.file(DATABASE, copy, manifest.size, manifest.sha256)
        for index, (name, size) in enumerate(blobs, 1):
            say(f"blob {index} of {len(blobs)}")
            writer.file(BLOBS + name, path_of(settings.blobs, name), size, name)
