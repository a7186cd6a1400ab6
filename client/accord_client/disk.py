"""What a disk that fails is called, for the node's files beside the ledger (`ledger_store`).

Guarantees: a full, read-only or failing disk and a damaged file come out as errors with a code, not
as SQLite's or the system's own; a transaction that raised one left nothing.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from accord_common.errors import ConflictError, DamageError


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
