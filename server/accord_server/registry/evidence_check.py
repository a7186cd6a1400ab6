"""A registry's database against its own records: what `accord audit verify FOLDER` asks.

Guarantees: nothing is written to the database; every column that `evidence` declares is compared
with what the records make, on a copy of the records alone; the first row that differs is named with
its key and the column. Beside the log's own verification (`records.verify_log`) that is all there
is to find without a checkpoint that somebody else kept.
"""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.errors import VerificationError
from accord_server.registry.db import Database
from accord_server.registry.engines import sqlite_url
from accord_server.registry.evidence import of_evidence
from accord_server.registry.log.tables import LogNodeRow
from accord_server.registry.projected import PROJECTIONS
from accord_server.registry.records.rebuild import rebuild
from accord_server.registry.records.verify_log import Verified, verify_log
from accord_server.registry.tables import Base, RecordRow

_ROWS = 500  # at once


async def verify_database(database: Database) -> Verified:
    """Verify the log and everything that was made from it.

    Raises:
        VerificationError: `damaged-record`, `damaged-log`, `damaged-projection`, `log-forked`,
            `log-rolled-back`; each names what does not hold.
    """
    async with database.read() as session:
        found = await verify_log(session)
        async with rebuilt(session) as made:
            await compare(session, made)
    return found


@asynccontextmanager
async def rebuilt(session: AsyncSession) -> AsyncIterator[AsyncSession]:
    """A session on a database of its own, made from the records alone; gone after the block."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Database(sqlite_url(Path(folder) / "rebuilt.db"))
        try:
            await copy.migrate()
            async with copy.write() as made:
                await _copy(session, made, RecordRow.__table__)
                await rebuild(made)
                yield made
        finally:
            await copy.close()


async def compare(stored: AsyncSession, made: AsyncSession) -> None:
    """Compare every row of evidence that is made from records.

    Raises:
        VerificationError: `damaged-projection`, naming the first that differs.
    """
    tables: tuple[type[Base], ...] = (*PROJECTIONS, LogNodeRow)
    for table in tables:
        await _compare(stored, made, table.__table__)


async def _copy(source: AsyncSession, target: AsyncSession, table: Any) -> None:
    rows = await source.stream(select(table).order_by(*table.primary_key))
    async for part in rows.mappings().partitions(_ROWS):
        await target.execute(insert(table), [dict(row) for row in part])


async def _compare(stored: AsyncSession, made: AsyncSession, table: Any) -> None:
    """Both in the order of their keys, side by side."""
    names = [column.name for column in table.columns if column.name in of_evidence(table.name)]
    query = select(*(table.columns[name] for name in names)).order_by(*table.primary_key)
    keys = [names.index(column.name) for column in table.primary_key]
    there = [tuple(row) for row in await stored.execute(query)]
    expecting = {_key(row, keys): tuple(row) for row in await made.execute(query)}
    for row in there:
        name = f"{table.name} {' '.join(str(row[at]) for at in keys)}"
        expected = expecting.pop(_key(row, keys), None)
        if expected is None:
            raise _damaged(f"{name} follows from no record")
        for column, found, wanted in zip(names, row, expected, strict=True):
            if found != wanted:
                raise _damaged(f"{name}: {column} is {found!r}; its records make {wanted!r}")
    if expecting:
        lacking = " ".join(str(part) for part in min(expecting, key=str))
        raise _damaged(f"{table.name} {lacking}, which the records make, is not there")


def _key(row: Any, keys: list[int]) -> tuple[Any, ...]:
    return tuple(row[at] for at in keys)


def _damaged(what: str) -> VerificationError:
    return VerificationError(
        "damaged-projection",
        what,
        hint="The records are whole: `accord registry rebuild` makes the rest from them anew.",
    )
