"""Restoring a backup: into an empty registry, on either database.

Guarantees: nothing is restored over anything; what is restored was signed by the log key, is whole,
and verifies from the first record to the last, and its projections follow from them; until all that
is done the folder holds no registry that could be started, so whoever is interrupted begins again.
"""

import asyncio
import hashlib
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.errors import UsageError, VerificationError
from accord_common.files import replacing, write_secret
from accord_common.identity import SigningKey
from accord_server.registry import schema
from accord_server.registry.backup.bundle import (
    DATABASE,
    PIECE_BYTES,
    Manifest,
    Reader,
    damaged,
    reading,
)
from accord_server.registry.backup.copying import copy_rows
from accord_server.registry.backup.take import Say
from accord_server.registry.blobs.repository import path_of
from accord_server.registry.blocking import finish
from accord_server.registry.db import Database
from accord_server.registry.engines import sqlite_url
from accord_server.registry.projected import PROJECTIONS
from accord_server.registry.records.rebuild import rebuild
from accord_server.registry.records.verify_log import verify_log
from accord_server.registry.settings import SETTINGS, Settings
from accord_server.registry.setup import check_certificate, make_home, require_empty, using
from accord_server.registry.tables import BlobRow

_UNVERIFIED = f".{DATABASE}.restoring"


def read_manifest(file: Path, key: SigningKey) -> Manifest:
    """Say what a backup holds, from its signed manifest.

    Raises:
        UsageError: `no-file`, `wrong-log-key`.
        FormatError: `damaged-backup`.
    """
    with reading(file) as bundle:
        return bundle.manifest(key.public)


async def restore(settings: Settings, file: Path, key: SigningKey, say: Say) -> Manifest:
    """Make a registry from a backup; `say` is told what is being done.

    Raises:
        UsageError: `registry-exists`, `foreign-database`, `wrong-log-key`, `wrong-schema`,
            `bad-certificate`.
        FormatError: `damaged-backup`.
        VerificationError: `damaged-record`, `damaged-projections`, `damaged-blob`.
    """
    check_certificate(settings)
    if (settings.home / SETTINGS).exists():
        raise UsageError(
            "registry-exists",
            f"{settings.home} holds a registry",
            hint="Restore into another folder, or move this one away.",
        )
    make_home(settings)
    copy = settings.home / _UNVERIFIED
    try:
        _remove(copy)
        async with using(settings.open_patiently()) as database:
            await require_empty(database, settings)
            with reading(file) as bundle:
                manifest = bundle.manifest(key.public)
                say("reading the database")
                bundle.database(manifest, copy)
                async with using(Database(sqlite_url(copy))) as source:
                    await _verify(source, manifest, say)
                    await asyncio.to_thread(
                        _blobs, bundle, settings.blobs, await _named(source), say
                    )
                    say("writing the database")
                    async with source.read() as rows, database.write() as session:
                        await (await session.connection()).run_sync(schema.migrate)
                        await copy_rows(rows, session)
    finally:
        _remove(copy)
    if not settings.log_key.exists():
        write_secret(settings.log_key, key.to_pem())
    settings.save()
    return manifest


async def _verify(source: Database, manifest: Manifest, say: Say) -> None:
    await source.migrate()
    say(f"verifying {manifest.records} records")
    async with source.read() as session:
        found = await verify_log(session)
        if (found.records, found.leaf) != (manifest.records, manifest.head):
            raise damaged("its log does not end as its manifest says")
    async with source.read() as session:
        before = await _projections(session)
    await source.append(lambda session: finish(rebuild(session)))
    async with source.read() as session:
        if await _projections(session) != before:
            raise VerificationError(
                "damaged-projections",
                "what the database says of partners, agreements and runs does not follow from "
                "its records",
                hint="Run `accord registry rebuild` where the backup came from; take it again.",
            )


async def _projections(session: AsyncSession) -> list[str]:
    """A digest of each projection's rows."""
    found = []
    for table in PROJECTIONS:
        columns = table.__table__.columns
        rows = await session.stream(select(*columns).order_by(*table.__table__.primary_key))
        digest = hashlib.sha256()
        async for row in rows:
            digest.update(repr(tuple(row)).encode())
        found.append(digest.hexdigest())
    return found


async def _named(source: Database) -> dict[str, int]:
    async with source.read() as session:
        rows = await session.execute(select(BlobRow.hash, BlobRow.size))
        return {name: size for name, size in rows.all()}


def _blobs(bundle: Reader, folder: Path, named: dict[str, int], say: Say) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    count = len(named)
    for name, size, data in bundle.blobs():
        if named.pop(name, None) != size:
            raise damaged(f"its database knows no blob {name[:16]} of {size} bytes")
        say(f"blob {count - len(named)} of {count}")
        digest = hashlib.sha256()
        with replacing(path_of(folder, name)) as target:
            while piece := data.read(PIECE_BYTES):
                digest.update(piece)
                target.write(piece)
            if digest.hexdigest() != name:
                raise damaged(f"blob {name[:16]} is not what its name says")
    if named:
        raise damaged(f"blob {min(named)[:16]} is missing")


def _remove(copy: Path) -> None:
    for path in (copy, copy.with_name(copy.name + "-wal"), copy.with_name(copy.name + "-shm")):
        path.unlink(missing_ok=True)
