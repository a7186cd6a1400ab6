"""The database: sessions that read, sessions that write, and the schema's revision.

Guarantees: writers take turns, from the first statement of a transaction to its end, so what one
has read still holds when it commits; readers never wait for them. `records` refuses UPDATE and
DELETE in the database itself. This is the only module that knows which database it is.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import Connection, event, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from accord_common.errors import UsageError

_WRITES = "accord_writes"  # execution option of sessions that may write
_BUSY_TIMEOUT_MS = 10_000  # another process, such as `rebuild` or a backup, may hold the file
_WRITER_LOCK = 0x6163636F7264  # any fixed number; PostgreSQL's advisory lock of the writers

_APPEND_ONLY = {
    "sqlite": (
        "CREATE TRIGGER {table}_no_{event} BEFORE {event} ON {table} "
        "BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END",
    ),
    "postgresql": (
        "CREATE OR REPLACE FUNCTION {table}_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION '{table} is append-only'; END $$",
        "CREATE TRIGGER {table}_no_{event} BEFORE {event} ON {table} "
        "FOR EACH STATEMENT EXECUTE FUNCTION {table}_append_only()",
    ),
}


class Database:
    """One database; `url` is SQLAlchemy's, with an async driver."""

    def __init__(self, url: str) -> None:
        self._engine = create_async_engine(url)
        self._sqlite = self._engine.dialect.name == "sqlite"
        if self._sqlite:
            event.listen(self._engine.sync_engine, "connect", _prepare_sqlite)
            event.listen(self._engine.sync_engine, "begin", _begin_sqlite)
        writing = self._engine.execution_options(**{_WRITES: True})
        self._readers = async_sessionmaker(self._engine, expire_on_commit=False)
        self._writers = async_sessionmaker(writing, expire_on_commit=False)
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """A session that sees one consistent state; nothing it does is kept."""
        async with self._readers() as session:
            yield session

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncSession]:
        """A session in one transaction: kept if the block ends well, undone otherwise."""
        async with self._turn, self._writers() as session, session.begin():
            if not self._sqlite:
                await session.execute(
                    text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _WRITER_LOCK}
                )
            yield session

    async def migrate(self) -> None:
        """Bring the schema to this release's revision.

        Raises:
            UsageError: `wrong-schema` where the database is of a newer release.
        """
        async with self._engine.connect() as connection:
            await connection.run_sync(_migrate)
            await connection.commit()

    async def check(self) -> None:
        """Raise UsageError `wrong-schema` unless the schema has this release's revision."""
        async with self._engine.connect() as connection:
            await connection.run_sync(_check)

    async def close(self) -> None:
        """Close all connections."""
        await self._engine.dispose()


def sqlite_url(path: Path) -> str:
    """Return the address of a database in a file."""
    return f"sqlite+aiosqlite:///{path}"


def append_only(table: str, dialect: str) -> list[str]:
    """Return the statements that make a table refuse UPDATE and DELETE."""
    return [
        statement.format(table=table, event=event_)
        for event_ in ("UPDATE", "DELETE")
        for statement in _APPEND_ONLY[dialect]
    ]


def alembic_config(connection: Connection) -> Config:
    """Return alembic's configuration for an open connection."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _migrate(connection: Connection) -> None:
    try:
        command.upgrade(alembic_config(connection), "head")
    except CommandError as error:
        raise _wrong_schema(connection) from error


def _check(connection: Connection) -> None:
    head = ScriptDirectory.from_config(alembic_config(connection)).get_current_head()
    if MigrationContext.configure(connection).get_current_revision() != head:
        raise _wrong_schema(connection)


def _wrong_schema(connection: Connection) -> UsageError:
    found = MigrationContext.configure(connection).get_current_revision()
    return UsageError(
        "wrong-schema",
        f"the database's schema has revision {found}, which is not this release's",
        hint="Run the release that wrote the database, or a newer one.",
    )


def _prepare_sqlite(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # the driver starts no transaction by itself: see "begin"
    cursor = connection.cursor()
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",  # an answered append survives a power cut
        "foreign_keys = ON",
        f"busy_timeout = {_BUSY_TIMEOUT_MS}",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
