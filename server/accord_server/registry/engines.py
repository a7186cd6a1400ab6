"""The two databases that a registry may have: where they are, and how one connects.

Guarantees: an address never holds a password (libpq's places do: `passfile`, `$PGPASSFILE`,
`$PGPASSWORD`, `~/.pgpass`), so it may be shown; over a network the server must prove its name
unless `sslmode` says otherwise; every statement and every wait for a lock is bounded; a connection
that died is replaced before it is used. No SQL parameter gets into an error or a log.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import asyncpg
import psycopg
from psycopg.rows import TupleRow
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from accord_common.errors import UsageError

# Execution options: of sessions that may write; of those that ask one thing, and need no BEGIN.
WRITES, GLANCES = "accord_writes", "accord_glances"
CONNECT_TIMEOUT_S = 10.0
_SCHEMES = frozenset({"postgresql", "postgres"})
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a process may take of its database; 0 s is without end.

    `connections` are beside the one that appends. `statement_s` is PostgreSQL's alone. `lock_s`
    bounds the wait for a connection, and for the writer of another process.
    """

    connections: int = 10
    statement_s: float = 30.0
    lock_s: float = 10.0


def sqlite_url(path: Path) -> str:
    """Return the address of a database in a file."""
    return f"sqlite:///{path}"


def check_url(url: str) -> str:
    """Return a PostgreSQL address that may be kept and shown.

    Raises:
        UsageError: `bad-database-url`, `password-in-url`; neither quotes the address.
    """
    try:
        parts = urlsplit(url)
        secret = parts.password is not None or "password" in parse_qs(parts.query)
    except ValueError:
        raise _bad_url() from None
    if parts.scheme not in _SCHEMES or not parts.path.strip("/"):
        raise _bad_url()
    if secret:
        raise UsageError(
            "password-in-url",
            "the database's address holds a password",
            hint="Keep it in a file of mode 0600, with passfile=/path in the address, "
            "in ~/.pgpass, or in $PGPASSWORD.",
        )
    return url


def make_engine(url: str, bounds: Bounds) -> AsyncEngine:
    """Make an engine; nothing connects yet."""
    if not url.startswith("sqlite"):
        return _postgresql(verified(url), bounds)
    engine = create_async_engine(
        url.replace("sqlite", "sqlite+aiosqlite", 1),
        hide_parameters=True,
        pool_size=bounds.connections,
        max_overflow=0,
        pool_timeout=bounds.lock_s,
    )
    _prepare_sqlite(engine.sync_engine, bounds)
    return engine


def make_blocking_engine(url: str, bounds: Bounds) -> Engine:
    """Make an engine of one connection, for a thread that appends; nothing connects yet."""
    if not url.startswith("sqlite"):
        return _blocking_postgresql(verified(url), bounds)
    engine = create_engine(url, hide_parameters=True, pool_size=1, max_overflow=0)
    _prepare_sqlite(engine, bounds)
    return engine.execution_options(**{WRITES: True})


def _prepare_sqlite(engine: Engine, bounds: Bounds) -> None:
    def prepare(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        try:
            connection.isolation_level = None  # the driver begins nothing by itself: see "begin"
            cursor = connection.cursor()
            for pragma in (
                f"busy_timeout = {round(bounds.lock_s * 1000)}",
                "journal_mode = WAL",
                "synchronous = FULL",  # an answered append survives a power cut
                "foreign_keys = ON",
            ):
                cursor.execute(f"PRAGMA {pragma}")
            cursor.close()
        except BaseException:  # the pool would leave it open, and its thread would not end
            connection.close()
            raise

    event.listen(engine, "connect", prepare)
    event.listen(engine, "begin", _begin_sqlite)


def _begin_sqlite(connection: Connection) -> None:
    options = connection.get_execution_options()
    if options.get(GLANCES, False):
        return
    writes = options.get(WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _postgresql(url: str, bounds: Bounds) -> AsyncEngine:
    _require_files(url)

    async def connect() -> asyncpg.Connection:
        return await asyncpg.connect(
            url,
            timeout=CONNECT_TIMEOUT_S,
            # What the server does not end by itself, a cut network does not keep for ever.
            command_timeout=bounds.statement_s + CONNECT_TIMEOUT_S if bounds.statement_s else None,
            server_settings={
                "application_name": "accord-registry",
                "statement_timeout": f"{round(bounds.statement_s * 1000)}",
                "lock_timeout": f"{round(bounds.lock_s * 1000)}",
            },
        )

    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=connect,
        hide_parameters=True,
        pool_size=bounds.connections,
        max_overflow=0,
        pool_timeout=bounds.lock_s,
    )
    event.listen(engine.sync_engine, "checkout", _require_open)
    return engine


def _require_open(
    connection: DBAPIConnection, record: ConnectionPoolEntry, _: PoolProxiedConnection
) -> None:
    """Replace a connection that the server has ended: its end was read; `pool_pre_ping` asks."""
    driver = record.driver_connection
    if isinstance(driver, asyncpg.Connection) and driver.is_closed():
        raise DisconnectionError


class _Bounded(psycopg.Connection[TupleRow]):
    """A connection that ends where its server is silent: `keepalives` find dead hosts alone."""

    silent_s: float | None = None

    def wait(self, *args: Any, **kwargs: Any) -> Any:
        """As Connection's; OperationalError after `silent_s`."""
        try:
            return super().wait(*args, **kwargs | {"timeout": self.silent_s})
        except psycopg.OperationalError:
            if self.pgconn.transaction_status == psycopg.pq.TransactionStatus.ACTIVE:
                self.close()  # nothing was answered: a rollback would wait as long again
            raise


def _blocking_postgresql(url: str, bounds: Bounds) -> Engine:
    _require_files(url)

    def connect() -> psycopg.Connection:
        connection = _Bounded.connect(
            url,
            connect_timeout=round(CONNECT_TIMEOUT_S),
            application_name="accord-registry",
            # A cut network ends the wait for the socket after 4 such times.
            keepalives_idle=round(CONNECT_TIMEOUT_S),
            keepalives_interval=round(CONNECT_TIMEOUT_S),
            keepalives_count=3,
            tcp_user_timeout=round(4 * CONNECT_TIMEOUT_S * 1000),
            autocommit=True,  # `blocking.begin` says when a transaction begins
        )
        connection.execute(f"SET statement_timeout = {round(bounds.statement_s * 1000)}")
        connection.execute(f"SET lock_timeout = {round(bounds.lock_s * 1000)}")
        if bounds.statement_s:
            connection.silent_s = bounds.statement_s + CONNECT_TIMEOUT_S
        return connection

    engine = create_engine(
        "postgresql+psycopg://",
        creator=connect,
        hide_parameters=True,
        pool_size=1,
        max_overflow=0,
    )
    # `blocking.commit` sends statements before it has the others' counts of rows.
    engine.dialect.supports_sane_rowcount = False
    return engine


def verified(url: str) -> str:
    """Ask for the server's proof of its name where the address says nothing about TLS."""
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    host = parts.hostname or query.get("host", [""])[0]
    if "sslmode" in query or not host or host.startswith("/") or host in _LOOPBACK:
        return url
    extra = urlencode({"sslmode": "verify-full"})
    return parts._replace(query=f"{parts.query}&{extra}" if parts.query else extra).geturl()


def _require_files(url: str) -> None:
    """Name a missing file: the driver would say that a password is wrong, or nothing is there."""
    query = parse_qs(urlsplit(url).query)
    for name in ("passfile", "sslrootcert", "sslcert", "sslkey"):
        for path in query.get(name, []):
            if not Path(path).is_file():
                raise UsageError("no-file", f"the database's {name}, {path}, is not there")


def _bad_url() -> UsageError:
    return UsageError(
        "bad-database-url",
        "the database's address is not of the form postgresql://USER@HOST:PORT/NAME",
        hint="Example: postgresql://accord@db.example.org/accord?sslrootcert=/etc/accord/db-ca.pem",
    )
