"""What goes wrong with the database, by name.

Guarantees: who asks over the network is told the code and nothing else; the operator finds address
and cause in the log, and on the console. Neither quotes a statement's values.
"""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg
import psycopg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from accord_common.errors import TransportError

_DRIVER = (
    DBAPIError,
    PoolTimeout,
    ConnectionError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    psycopg.Error,
)

FULL = "registry-disk-full"

# The first entry that begins a SQLSTATE (PostgreSQL's appendix A) counts.
_SQLSTATES = {
    "28": "database-auth",
    "3D": "database-missing",
    "42501": "database-permission",
    "25006": "database-read-only",
    "53100": FULL,
    "53": "database-busy",
    "55P03": "database-busy",
    "57014": "database-busy",
    "40": "database-busy",
    "57P": "database-unreachable",
    "08": "database-unreachable",
}
_SQLITE = {
    "SQLITE_BUSY": "database-busy",
    "SQLITE_LOCKED": "database-busy",
    "SQLITE_FULL": FULL,
    "SQLITE_READONLY": "database-read-only",
    "SQLITE_CANTOPEN": "database-unreachable",
    "SQLITE_IOERR": "database-unreachable",
    "SQLITE_CORRUPT": "database-damaged",
    "SQLITE_NOTADB": "database-damaged",
}
_HINTS = {
    "database-unreachable": "Check that the database runs, and its address and port.",
    "database-auth": "Check user and password (passfile, ~/.pgpass, $PGPASSWORD) and pg_hba.conf.",
    "database-tls": "Check sslrootcert and the name in the server's certificate.",
    "database-missing": "Make it first: createdb --encoding=UTF8 --template=template0 NAME.",
    "database-permission": "The user must own the database's schema.",
    "database-read-only": "Name the primary, or add target_session_attrs=read-write.",
    FULL: "Make room on its disk; nothing was lost.",
    "database-busy": "Try again; another process may hold it, such as a migration or a rebuild.",
    "database-damaged": "Restore the newest backup with `accord registry restore`.",
    "database-settings": "Check the address given with --database-url.",
}


def full(cause: Exception) -> TransportError:
    """What is told where the registry's disk is full, whatever was to be written."""
    told = TransportError(
        FULL,
        "the registry's disk takes nothing more; nothing of this was kept",
        hint="Whoever runs the registry must make room. Nodes and aggregator send again.",
    )
    told.__cause__ = cause  # for its log
    return told


class DatabaseFault(TransportError):
    """The database did not do what it was asked; the same call may work later."""

    @property
    def told(self) -> TransportError:
        """What is told to who asks over the network."""
        if self.code == FULL:
            return full(self)
        return TransportError(
            self.code,
            "the registry's database does not answer as it should",
            hint="Try again; whoever runs the registry finds the cause in its log.",
        )


@contextmanager
def faults(where: str, *also: type[Exception]) -> Iterator[None]:
    """Raise what the driver raises, and `also`, as DatabaseFault where it has a name."""
    try:
        yield
    except (*_DRIVER, *also) as error:
        if (code := _code(error)) is None:
            raise
        cause = _cause(error)
        text = str(cause).splitlines()[0] if str(cause) else type(cause).__name__
        raise DatabaseFault(code, f"{where}: {text}", hint=_HINTS[code]) from error


def _cause(error: Exception) -> BaseException:
    """The driver's own error: SQLAlchemy's adds the statement."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        return error.orig.__cause__ or error.orig
    return error


def _code(error: Exception) -> str | None:
    cause = _cause(error)
    if isinstance(error, PoolTimeout):
        return "database-busy"
    name = getattr(cause, "sqlite_errorname", None) or ""
    for start, code in _SQLITE.items():
        if name.startswith(start):
            return code
    state = getattr(cause, "sqlstate", None) or ""
    for start, code in _SQLSTATES.items():
        if state.startswith(start):
            return code
    if isinstance(cause, ssl.SSLError) or "SSL" in str(cause):
        return "database-tls"
    if isinstance(cause, asyncpg.ClientConfigurationError):
        return "database-settings"
    # libpq names a lost or refused connection in words alone.
    if isinstance(cause, (OSError, psycopg.OperationalError)) or (
        isinstance(error, DBAPIError) and _lost(error)
    ):
        return "database-unreachable"
    return None


def _lost(error: DBAPIError) -> bool:
    return error.connection_invalidated
