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

from sqlalchemy import String, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.errors import VerificationError
from accord_server.registry.blocking import finish
from accord_server.registry.db import Database
from accord_server.registry.engines import sqlite_url
from accord_server.registry.evidence import of_evidence
from accord_server.registry.log.tables import LogNodeRow
from accord_server.registry.projected import PROJECTIONS
from accord_server.registry.records.rebuild import rebuild
from accord_server.registry.records.verify_log import Verified, verify_log
from accord_server.registry.tables import Base, RecordRow

_ROWS = 500  # at once
_Row = tuple[Any, ...]


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
            await copy.append(lambda made: finish(rebuild(made)))
            async with copy.read() as made:
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
    """Both in the order of their keys, side by side; a few hundred rows of each are held."""
    names = [column.name for column in table.columns if column.name in of_evidence(table.name)]
    keys = [names.index(column.name) for column in table.primary_key]
    there, expected = _rows(stored, table, names), _rows(made, table, names)
    row, wanted = await anext(there, None), await anext(expected, None)
    while row is not None or wanted is not None:
        place, expecting = _key(row, keys), _key(wanted, keys)
        if place is not None and (expecting is None or place < expecting):
            raise _damaged(f"{_named(table, place)} follows from no record")
        if expecting is not None and (place is None or expecting < place):
            lacking = f"{_named(table, expecting)}, which the records make, is not there"
            raise _damaged(lacking)
        assert place is not None and row is not None and wanted is not None
        for column, found, made_of in zip(names, row, wanted, strict=True):
            if found != made_of:
                told = f"{column} is {found!r}; its records make {made_of!r}"
                raise _damaged(f"{_named(table, place)}: {told}")
        row, wanted = await anext(there, None), await anext(expected, None)


async def _rows(session: AsyncSession, table: Any, names: list[str]) -> AsyncIterator[_Row]:
    """The rows in one order in every database, and in Python: strings by their code points."""
    order = list(table.primary_key)
    if session.get_bind().dialect.name == "postgresql":  # whose own order is its locale's
        order = [one.collate("C") if isinstance(one.type, String) else one for one in order]
    query = select(*(table.columns[name] for name in names)).order_by(*order)
    found = await session.stream(query.execution_options(yield_per=_ROWS))
    async for part in found.partitions():
        for row in part:
            yield tuple(row)


def _key(row: _Row | None, keys: list[int]) -> _Row | None:
    return None if row is None else tuple(row[at] for at in keys)


def _named(table: Any, key: _Row) -> str:
    return " ".join(map(str, (table.name, *key)))


def _damaged(what: str) -> VerificationError:
    return VerificationError(
        "damaged-projection",
        what,
        hint="The records are whole: `accord registry rebuild` makes the rest from them anew.",
    )
