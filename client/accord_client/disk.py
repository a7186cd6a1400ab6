"""The node's database files beside the ledger (`ledger_store`), and what a failing disk is called.

Guarantees: what was committed is on the disk (WAL, synchronous=FULL); a full, read-only or failing
disk and a damaged file come out as errors with a code, not as SQLite's or the system's own; a
transaction that raised one left nothing; a file of a newer release is refused before anything is
written to it.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from accord_common.errors import AccordError, ConflictError, DamageError, UsageError

_UNWRITABLE = "-unwritable"

BUSY_TIMEOUT_S = 30.0  # another process of this node holds a file for milliseconds
FORMAT = 1  # of every database of a node, in its `user_version`; grows when an older one migrates


def open_database(what: str, path: Path, schema: str) -> sqlite3.Connection:
    """Open a database, made (mode 0600) where it is missing; any thread may use the connection.

    Args:
        what: names it in errors, see `named_failures`.
        path: its file.
        schema: statements that bring it to its schema, wherever it stands.

    Raises:
        ConflictError: `<what>-unwritable`.
        DamageError: `<what>-broken`.
        UsageError: `newer-format`.
    """
    with named_failures(what, path):
        path.touch(mode=0o600, exist_ok=True)
        db = sqlite3.connect(
            path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        try:
            found = require_known(path, db)
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            db.executescript(schema)
            if found != FORMAT:
                db.execute(f"PRAGMA user_version = {FORMAT}")
        except BaseException:
            db.close()
            raise
    return db


def require_known(path: Path, db: sqlite3.Connection) -> int:
    """Return a file's format, 0 for a new one; UsageError `newer-format` where it is unknown."""
    (found,) = db.execute("PRAGMA user_version").fetchone()
    if found > FORMAT:
        raise UsageError(
            "newer-format",
            f"{path} has format {found}; this release knows {FORMAT} and older ones",
            hint="Install the release that wrote it, or a newer one; nothing was changed.",
        )
    return int(found)


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


def is_unwritable(error: AccordError) -> bool:
    """Whether a file of the node's could not be written: that may pass."""
    return error.code.endswith(_UNWRITABLE)


def _unwritable(what: str, path: Path, error: Exception) -> ConflictError:
    return ConflictError(
        f"{what}{_UNWRITABLE}",
        f"{path}: {error}",
        hint="Nothing was sent. Free disk space, check owner and mode, then try again.",
    )


def _broken(what: str, path: Path, error: Exception) -> DamageError:
    return DamageError(
        f"{what}-broken",
        f"{path}: {error}",
        hint="Restore it from a backup, together with what lies beside it.",
    )
