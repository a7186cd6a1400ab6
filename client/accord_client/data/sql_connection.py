"""Connections to databases that can read and do nothing else.

Guarantees: SQLite is opened with mode=ro and query_only; in PostgreSQL the server itself keeps both
session and transaction read-only, and is asked whether it does before the query. A remote
PostgreSQL is asked for TLS unless the address says how. What takes too long is stopped, also where
the server, or the network to it, says nothing more: a node must not wait for one for ever.

Not covered: functions of the database that act outside its transactions; an account that may only
read is the steward's to make. Other databases: none of their drivers keeps a session read-only.
"""

from __future__ import annotations

import os
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from accord_common.errors import AccordError, DataError, UsageError

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine
    from sqlalchemy.engine import URL

CONNECT_TIMEOUT_S = 10
QUERY_TIMEOUT_S = 300  # a query that takes longer holds up a round that others wait for
_PROGRESS = 10_000  # SQLite instructions between two looks at the clock, well under 1 ms
_READ_ONLY_SESSION = "-c default_transaction_read_only=on"
_READ_ONLY_TRANSACTION = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
_HERE = ("", "localhost", "127.0.0.1", "::1")
_READ_ONLY_STATE, _CANCELLED_STATE = "25006", "57014"  # PostgreSQL, appendix A
_OUTAGES = ("08", "53", "57P", "58", "XX")  # classes of states: connection, resources, shutdown
_GRACE_S = 5  # for the server to say itself that time is up, before the line to it is cut


def parse(url: str) -> URL:
    """Read an address.

    Raises:
        UsageError: `bad-sql-url`, `sql-dialect`.
    """
    from sqlalchemy import exc, make_url

    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except (exc.ArgumentError, ValueError) as error:
        raise UsageError(
            "bad-sql-url",
            "the address is none that SQLAlchemy reads",
            hint="For example postgresql://reader@db.hospital.org/omop or sqlite:////data/omop.db",
        ) from error
    if backend not in ("sqlite", "postgresql"):
        raise UsageError(
            "sql-dialect",
            f"{backend} cannot be kept from writing by its driver",
            hint="Use PostgreSQL or SQLite, or export the rows to Parquet.",
        )
    return parsed


def identity_of(url: URL) -> str:
    """The database behind an address, whoever asks."""
    if is_sqlite(url):
        return str(Path(url.database or "").resolve())
    host = url.host or url.query.get("host", "")
    return f"postgresql {host} {url.port or 5432} {url.database}"


def is_sqlite(url: URL) -> bool:
    """Whether the address is that of a SQLite file."""
    return url.get_backend_name() == "sqlite"


@contextmanager
def reading(place: str, url: URL, password: str | None, deadline: float) -> Iterator[Connection]:
    """Connect, so that one query may run until `deadline`, by the monotonic clock.

    Raises:
        DataError: `sql-unreachable`, `sql-not-readonly`, `sql-refused`, `sql-timeout`.
    """
    from sqlalchemy import exc

    cut = threading.Event()
    engine = _sqlite(url, deadline) if is_sqlite(url) else _postgresql(url, password, deadline, cut)
    connected = False
    try:
        with engine.connect() as connection:
            if not is_sqlite(url):
                _require_read_only(connection)
            connected = True
            yield connection
    except exc.DBAPIError as error:
        if time.monotonic() > deadline:
            raise late(place) from None
        raise _explain(place, error, connected=connected) from None
    finally:
        cut.set()
        engine.dispose()


def late(place: str) -> AccordError:
    """The refusal of a query that takes too long."""
    return DataError(
        "sql-timeout",
        f"{place} did not give all rows within {QUERY_TIMEOUT_S} s",
        hint="Let the query read a table that was prepared for it.",
    )


def _sqlite(url: URL, deadline: float) -> Engine:
    from sqlalchemy import NullPool, create_engine

    def open_() -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"file:{quote(url.database or '')}?mode=ro", uri=True, timeout=CONNECT_TIMEOUT_S
        )
        connection.execute("PRAGMA query_only = ON")
        connection.set_progress_handler(lambda: time.monotonic() > deadline, _PROGRESS)
        return connection

    return create_engine("sqlite://", creator=open_, poolclass=NullPool)


def _postgresql(url: URL, password: str | None, deadline: float, over: threading.Event) -> Engine:
    from sqlalchemy import NullPool, create_engine, event

    engine = create_engine(
        url.set(drivername="postgresql+psycopg", password=password),
        connect_args=_settings(url),
        poolclass=NullPool,
        execution_options=_READ_ONLY_TRANSACTION,
    )

    @event.listens_for(engine, "do_connect")
    def connect(dialect: Any, _record: Any, arguments: Any, settings: Any) -> Any:
        connection = dialect.connect(*arguments, **settings)
        line = socket.socket(fileno=os.dup(connection.fileno()))
        threading.Thread(target=_cut, args=(line, deadline, over), daemon=True).start()
        return connection

    return engine


def _cut(line: socket.socket, deadline: float, over: threading.Event) -> None:
    """Shut a line down some time after the deadline, unless all is over before: readers wake up."""
    with line:
        if not over.wait(max(0.0, deadline + _GRACE_S - time.monotonic())):
            line.shutdown(socket.SHUT_RDWR)


def _settings(url: URL) -> dict[str, Any]:
    """What libpq is told beside the address; of options given twice the server takes the last."""
    options = [
        *([url.query["options"]] if "options" in url.query else []),
        _READ_ONLY_SESSION,
        f"-c statement_timeout={int(QUERY_TIMEOUT_S * 1000)}",
    ]
    settings: dict[str, Any] = {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "application_name": "accord-node",
        "options": " ".join(map(str, options)),
    }
    host = url.host or url.query.get("host", "")
    if host not in _HERE and not str(host).startswith("/") and "sslmode" not in url.query:
        settings["sslmode"] = "require"
    return settings


def _require_read_only(connection: Connection) -> None:
    from sqlalchemy import text

    if (found := connection.scalar(text("SHOW transaction_read_only"))) != "on":
        raise DataError(
            "sql-not-readonly",
            f"the server says transaction_read_only = {found}",
            hint="Connect to PostgreSQL itself: what stands between may drop settings.",
        )


def _explain(place: str, error: Any, *, connected: bool) -> AccordError:
    """Name what the database said; never the statement, whose text is the steward's own."""
    said = str(error.orig).strip().partition("\n")[0]
    state = getattr(error.orig, "sqlstate", None)
    if state == _READ_ONLY_STATE or "readonly database" in said:
        return DataError(
            "sql-not-readonly",
            f"the query would change {place}: {said}",
            hint="Give a SELECT that writes nothing and locks nothing.",
        )
    if state == _CANCELLED_STATE or said == "interrupted":
        return late(place)
    if not connected or _is_the_databases_fault(error.orig):
        return DataError(
            "sql-unreachable",
            f"{place}: {said}",
            hint="Check address, account and password, and that the database is up and whole.",
        )
    return DataError("sql-refused", f"{place}: {said}", hint="Correct the query.")


def _is_the_databases_fault(error: Any) -> bool:
    """Whether the same query may work later: locked, damaged, shut down, out of memory, gone."""
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
        return code & 0xFF != sqlite3.SQLITE_ERROR  # the low byte is the kind, the rest says more
    import psycopg

    lost = isinstance(error, psycopg.OperationalError) and error.sqlstate is None
    return lost or (error.sqlstate or "").startswith(_OUTAGES)
