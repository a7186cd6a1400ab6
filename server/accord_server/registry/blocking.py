"""A session whose statements run where they are called: for a thread that may wait.

What an append asks takes the database some hundredths of a millisecond; the way of an AsyncSession
to its driver's thread and back, several times a statement, takes ten times that. Code that is
written for an AsyncSession works with this one as it is, if it waits for nothing but its session.

With PostgreSQL what costs is each round trip: a transaction begins together with its first
statement, and all that it writes is sent with the commit, in one pipeline.
"""

from collections.abc import Coroutine
from contextlib import nullcontext
from typing import Any, TypeVar

import psycopg
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, object_mapper

_T = TypeVar("_T")


class BlockingSession(AsyncSession):
    """An AsyncSession on a connection in a transaction; `sync_session` is what does the work."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(expire_on_commit=False)
        self.sync_session.bind = connection

    async def execute(self, *args: Any, **kwargs: Any) -> Any:
        """As AsyncSession's."""
        return self.sync_session.execute(*args, **kwargs)

    async def get(self, *args: Any, **kwargs: Any) -> Any:
        """As AsyncSession's."""
        return self.sync_session.get(*args, **kwargs)

    async def flush(self, *args: Any, **kwargs: Any) -> None:
        """As AsyncSession's."""
        self.sync_session.flush(*args, **kwargs)


def begin(engine: Engine, turn: str) -> Connection:
    """Begin a transaction; closing the connection undoes it, unless it was committed.

    Args:
        engine: a blocking one.
        turn: what a transaction begins with on PostgreSQL; SQLite's writers have turns anyway. It
            finds whether the connection still lives, and a dead one is replaced.
    """
    if engine.dialect.name != "postgresql":
        return _begun(engine.connect(), "")
    try:
        return _begun(engine.connect(), f"BEGIN; {turn}")
    except DBAPIError as error:
        if not error.connection_invalidated:
            raise
        return _begun(engine.connect(), f"BEGIN; {turn}")


def _begun(connection: Connection, statement: str) -> Connection:
    try:
        connection.begin()
        if statement:
            connection.exec_driver_sql(statement)
    except BaseException:
        connection.close()
        raise
    return connection


def commit(session: Session, connection: Connection) -> None:
    """Write what a session still holds, and commit."""
    driver = connection.connection.driver_connection
    sending = driver.pipeline if isinstance(driver, psycopg.Connection) else nullcontext
    if any(_is_numbered(row) for row in session.new):
        session.flush()
    try:
        with sending():
            session.flush()
            connection.commit()
    except BaseException:
        connection.rollback()  # of a commit that failed, its connection's close undoes nothing
        raise


def _is_numbered(row: object) -> bool:
    """Whether the database gives a row its key, which is an answer to wait for."""
    return None in object_mapper(row).primary_key_from_instance(row)


def finish(work: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine to its end, here and now.

    Raises:
        RuntimeError: it waits for something else than a BlockingSession; its writes are undone by
            whoever holds the transaction.
    """
    try:
        work.send(None)
    except StopIteration as end:
        found: _T = end.value
        return found
    work.close()
    raise RuntimeError("an append waits for something else than its session")
