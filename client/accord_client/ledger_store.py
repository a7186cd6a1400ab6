"""The ledger's file: SQLite that only grows, and what its failures are called.

Guarantees: a transaction that returned is on the disk (WAL, synchronous=FULL), one that raised left
nothing; rows are only appended, in sequence; columns are computed from the signed bytes, so they
cannot say anything else. The file is made whole or not at all, mode 0600.

Not covered: whether rows are signed and chained: `ledger.py`.
"""

import os
import secrets
import sqlite3
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from accord_client.disk import FORMAT, require_known
from accord_common.errors import ConflictError, DamageError, NotFoundError
from accord_common.files import sync

_BUSY_TIMEOUT_S = 30  # longest wait for another process of the same node
_APPLICATION_ID = 0x41434C47  # "ACLG": marks the file as a ledger

_SCHEMA = f"""
PRAGMA journal_mode = WAL;
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {FORMAT};
BEGIN;
CREATE TABLE header (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    envelope BLOB NOT NULL
) STRICT;
CREATE TABLE entries (
    sequence INTEGER PRIMARY KEY,
    payload TEXT NOT NULL,
    signer TEXT NOT NULL,
    signature BLOB NOT NULL,
    population TEXT AS (json_extract(payload, '$.spend.population')) VIRTUAL NOT NULL,
    dataset TEXT AS (json_extract(payload, '$.spend.dataset')) VIRTUAL NOT NULL,
    run TEXT AS (json_extract(payload, '$.spend.run')) VIRTUAL NOT NULL,
    round INTEGER AS (json_extract(payload, '$.spend.round')) VIRTUAL NOT NULL,
    attempt INTEGER AS (json_extract(payload, '$.spend.attempt')) VIRTUAL NOT NULL,
    adjacency TEXT AS (json_extract(payload, '$.spend.adjacency')) VIRTUAL NOT NULL,
    noise TEXT AS (json_extract(payload, '$.spend.noise_multiplier')) VIRTUAL NOT NULL,
    rate TEXT AS (json_extract(payload, '$.spend.sampling_rate')) VIRTUAL NOT NULL,
    steps INTEGER AS (json_extract(payload, '$.spend.steps')) VIRTUAL NOT NULL
) STRICT;
CREATE UNIQUE INDEX one_charge_an_attempt ON entries (run, round, attempt);
CREATE INDEX tally ON entries (population, adjacency, noise, rate, steps);
CREATE TRIGGER appended_in_sequence BEFORE INSERT ON entries
WHEN NEW.sequence IS NOT (SELECT coalesce(max(sequence) + 1, 0) FROM entries)
BEGIN SELECT RAISE(ABORT, 'a ledger is appended in sequence'); END;
CREATE TRIGGER never_changed BEFORE UPDATE ON entries
BEGIN SELECT RAISE(ABORT, 'a ledger is never changed'); END;
CREATE TRIGGER never_refunded BEFORE DELETE ON entries
BEGIN SELECT RAISE(ABORT, 'a ledger is never refunded'); END;
CREATE TABLE rules (
    sequence INTEGER PRIMARY KEY,
    payload TEXT NOT NULL,
    signer TEXT NOT NULL,
    signature BLOB NOT NULL
) STRICT;
CREATE TRIGGER rules_appended_in_sequence BEFORE INSERT ON rules
WHEN NEW.sequence IS NOT (SELECT coalesce(max(sequence) + 1, 0) FROM rules)
BEGIN SELECT RAISE(ABORT, 'rules are appended in sequence'); END;
CREATE TRIGGER rules_never_changed BEFORE UPDATE ON rules
BEGIN SELECT RAISE(ABORT, 'a rule is never changed'); END;
CREATE TRIGGER rules_never_removed BEFORE DELETE ON rules
BEGIN SELECT RAISE(ABORT, 'a rule is never removed'); END;
CREATE TRIGGER header_kept BEFORE UPDATE ON header
BEGIN SELECT RAISE(ABORT, 'a ledger keeps its orders'); END;
CREATE TRIGGER header_never_removed BEFORE DELETE ON header
BEGIN SELECT RAISE(ABORT, 'a ledger keeps its orders'); END;
"""


class Store:
    """An open ledger file; its methods may be called from any thread."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection = connection
        self._lock = threading.RLock()

    @classmethod
    def create(cls, path: Path, header: bytes) -> None:
        """Make the file with its header, durable on return.

        Raises:
            ConflictError: `ledger-exists` or `ledger-unwritable`.
        """
        fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}.new")
        try:
            os.close(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            try:
                with _named_failures(path):
                    connection = sqlite3.connect(fresh, isolation_level=None)
                    try:
                        connection.executescript(_SCHEMA)
                        connection.execute("INSERT INTO header VALUES (1, ?)", (header,))
                        connection.execute("COMMIT")
                        # Closing would do it too, but without a word where it fails.
                        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                    finally:
                        connection.close()
                sync(fresh)
                os.link(fresh, path)  # unlike rename, never replaces a ledger
            finally:
                for left in path.parent.glob(f"{fresh.name}*"):  # SQLite's, too
                    left.unlink(missing_ok=True)
            sync(path.parent)
        except FileExistsError as error:
            raise ConflictError(
                "ledger-exists", f"{path} exists", hint="A ledger is never started anew: open it."
            ) from error
        except OSError as error:
            raise _unwritable(path, error) from error

    @classmethod
    def open(cls, path: Path) -> "Store":
        """Open an existing file.

        Raises:
            NotFoundError: `no-ledger`.
            DamageError: `ledger-broken` where the file is no ledger or damaged.
            ConflictError: `ledger-unwritable` where it cannot be opened for writing.
            UsageError: `newer-format`.
        """
        if not path.is_file():
            raise NotFoundError(
                "no-ledger",
                f"{path} does not exist",
                hint="`accord-node init` makes it once; restore it from its backup if it is lost.",
            )
        with _named_failures(path):
            connection = sqlite3.connect(
                f"{path.resolve().as_uri()}?mode=rw",
                uri=True,
                timeout=_BUSY_TIMEOUT_S,
                isolation_level=None,
                check_same_thread=False,
            )
            try:
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute("PRAGMA fullfsync = ON")  # macOS: past the drive's own cache
                (mark,) = connection.execute("PRAGMA application_id").fetchone()
                (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
                if mark != _APPLICATION_ID or mode != "wal":
                    raise broken(path, "the file is no Accord ledger")
                require_known(path, connection)
            except BaseException:
                connection.close()
                raise
        return cls(path, connection)

    @contextmanager
    def reading(self) -> Generator[sqlite3.Connection]:
        """Give one consistent view; nothing is written."""
        with self._lock, _named_failures(self._path):
            yield from self._transaction("BEGIN")

    @contextmanager
    def writing(self) -> Generator[sqlite3.Connection]:
        """Give a transaction that holds the only write lock; on the disk when the block ends."""
        with self._lock, _named_failures(self._path):
            yield from self._transaction("BEGIN IMMEDIATE")

    def close(self) -> None:
        """Close the file."""
        with self._lock, _named_failures(self._path):
            self._connection.close()

    def _transaction(self, begin: str) -> Generator[sqlite3.Connection]:
        self._connection.execute(begin)
        try:
            yield self._connection
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise


def broken(path: Path, why: str) -> DamageError:
    """Return the error for a ledger that does not hold together."""
    return DamageError(
        "ledger-broken",
        f"{path}: {why}",
        hint="Nothing may be spent on it; restore the newest backup and compare its head with the "
        "receipts that the registry holds.",
    )


@contextmanager
def _named_failures(path: Path) -> Generator[None]:
    try:
        yield
    except sqlite3.ProgrammingError:  # a bug of the caller, such as using a closed ledger
        raise
    except sqlite3.OperationalError as error:  # full, read-only, locked, input/output
        if error.sqlite_errorcode in (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT):
            raise broken(path, str(error)) from error
        raise _unwritable(path, error) from error
    except sqlite3.DatabaseError as error:  # corrupt, not a database, a trigger's refusal
        raise broken(path, str(error)) from error


def _unwritable(path: Path, error: Exception) -> ConflictError:
    return ConflictError(
        "ledger-unwritable",
        f"{path} cannot be written: {error}",
        hint="Nothing was spent or sent. Free disk space, check owner and mode, then try again.",
    )
