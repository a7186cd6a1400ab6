"""The database: sessions that read, sessions that write.

Guarantees: writers take turns, over all processes, from the first statement of a transaction to its
end, so what one has read still holds when it commits, and what one has written is seen in the order
of its numbers; a reader sees one state and never waits for them. `records` refuses UPDATE and
DELETE in the database itself.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar, TypeVarTuple

from sqlalchemy import Row, Select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_sessionmaker

from accord_server.registry import schema
from accord_server.registry.blocking import BlockingSession, begin, commit
from accord_server.registry.budgets import projections
from accord_server.registry.engines import (
    GLANCES,
    WRITES,
    Bounds,
    make_blocking_engine,
    make_engine,
)
from accord_server.registry.faults import faults

_T = TypeVar("_T")
_Columns = TypeVarTuple("_Columns")
_WRITER_LOCK = 0x6163636F7264  # any fixed number; PostgreSQL's advisory lock of the writers
_TURN = f"SELECT pg_advisory_xact_lock({_WRITER_LOCK})"


class Database:
    """One database, by its address: `sqlite:///PATH` or `postgresql://...`.

    Everything raises DatabaseFault where the database does not answer as it should.
    """

    def __init__(self, url: str, bounds: Bounds | None = None) -> None:
        self._where = url.partition("?")[0]
        engine = make_engine(url, bounds or Bounds())
        self._appending = make_blocking_engine(url, bounds or Bounds())
        self._appender = ThreadPoolExecutor(1, "accord-append")
        self.dialect = engine.dialect.name
        reading = engine
        if self.dialect == "postgresql":  # SQLite's transactions are no less by themselves
            reading = engine.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )
        self._engine = engine
        self._glancing = engine.execution_options(**{GLANCES: True})
        if self.dialect == "postgresql":
            self._glancing = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._writing = engine.execution_options(**{WRITES: True})
        self._readers = async_sessionmaker(reading, expire_on_commit=False)
        self._writers = async_sessionmaker(self._writing, expire_on_commit=False)
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """A session that sees one consistent state; nothing it does is kept."""
        with faults(self._where):
            async with self._readers() as session:
                with faults(self._where, OSError):
                    await session.connection()
                yield session

    async def glance(
        self, query: Select[*_Columns], asked: Mapping[str, object]
    ) -> Row[*_Columns] | None:
        """The row that one statement finds, if there is one; a session costs twice the time."""
        with faults(self._where, OSError):
            async with self._glancing.connect() as connection:
                return (await connection.execute(query, asked)).one_or_none()

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncSession]:
        """A session in one transaction: kept if the block ends well, undone otherwise."""
        with faults(self._where):
            async with self._turn, self._writers() as session, session.begin():
                with faults(self._where, OSError):
                    await self._wait_for_turn(await session.connection())
                yield session

    async def append(self, work: Callable[[BlockingSession], _T]) -> _T:
        """Do `work` in a thread and a transaction: kept if it returns, undone otherwise."""
        async with self._turn:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._appender, self._append, work)

    def _append(self, work: Callable[[BlockingSession], _T]) -> _T:
        with faults(self._where):
            with faults(self._where, OSError):
                connection = begin(self._appending, _TURN)
            with connection:
                session = BlockingSession(connection)
                with session.sync_session as writes:
                    found = work(session)
                    commit(writes, connection)
            return found

    async def look(self) -> schema.Found:
        """Say what the database holds; nothing is changed."""
        async with self.read() as session:
            return await (await session.connection()).run_sync(schema.look)

    async def migrate(self) -> schema.Found:
        """Bring the schema to this release's; return what was found. UsageError: `schema`'s."""
        async with self.write() as session:
            found = await (await session.connection()).run_sync(schema.migrate)
            if found.state == "older" and (found.revision or "") < projections.SINCE:
                await projections.replay(session)
            return found

    async def check(self) -> None:
        """Raise UsageError unless the schema is this release's."""
        async with self.read() as session:
            await (await session.connection()).run_sync(schema.check)

    async def close(self) -> None:
        """Close all connections."""
        await asyncio.to_thread(self._appender.shutdown)
        self._appending.dispose()
        await self._engine.dispose()

    async def _wait_for_turn(self, connection: AsyncConnection) -> None:
        if self.dialect == "postgresql":
            await connection.exec_driver_sql(_TURN)
