"""The node's database files beside the ledger (`ledger_store`), and what a failing disk is called.

Guarantees: what was committed is on the disk (WAL, synchronous=FULL); a full, read-only or failing
disk and a damaged file come out as errors with a code, not as SQLite's or the system's own; a
transaction that raised one left nothing.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from accord_common.errors import ConflictError, DamageError

BUSY_TIMEOUT_S = 30.0  # another process of this node holds a file for milliseconds


def open_database(what: str, path: Path, schema: str) -> sqlite3.Connection:
    """Open a database, made (mode 0600) where it is missing; any thread may use the connection.

    Args:
        what: names it in errors, see `named_failures`.
        path: its file.
        schema: statements that bring it to its schema, wherever it stands.

    Raises:
        ConflictError: `<what>-unwritable`.
        DamageError: `<what>-broken`.
    """
    with named_failures(what, path):
        path.touch(mode=0o600, exist_ok=True)
        db = sqlite3.connect(
            path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            db.executescript(schema)
        except sqlite3.Error:
            db.close()
            raise
    return db


@contextmanager
def named_failures(what: str, path: Path) -> Iterator[None]:
    """Name what fails in the block after `what`, the file at `path`.

    Raises:
        ConflictError: `<what>-unwritable`.
        DamageError: `<what>-broken`.
    """
    try:
        yield
    except sqlite3.ProgrammingError:  # a bug of the caller, such as using a closed file
        raise
    except sqlite3.OperationalError as error:  # full, read-only, locked, input/output, a folder
        if error.sqlite_errorcode in (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT):
            raise _broken(what, path, error) from error
        raise _unwritable(what, path, error) from error
    except sqlite3.DatabaseError as error:  # corrupt, or no database at all
        raise _broken(what, path, error) from error
    except OSError as error:
        raise _unwritable(what, path, error) from error


def _unwritable(what: str, path: Path, error: Exception) -> ConflictError:
    return ConflictError(
        f"{what}-unwritable",
        f"{path}: {error}",
        hint="Nothing was sent. Free disk space, check owner and mode, then try again.",
    )


def _broken(what: str, path: Path, error: Exception) -> DamageError:
    return DamageError(
        f"{what}-broken",
        f"{path}: {error}",
        hint="Restore it from a backup, together with what lies beside it.",
    )
