"""Checkpoints of the registry's log that this node keeps, in one SQLite file, `heads.db`.

Guarantees: the newest is kept, and each one that a record of this node carries; a change is on the
disk when the call returns. Left out: whether one grew from another (`witness`).
"""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from accord_client.disk import named_failures, open_database
from accord_common.envelope import Envelope
from accord_common.log.checkpoint import Checkpoint

FILE_NAME = "heads.db"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS heads (
    size INTEGER PRIMARY KEY, envelope BLOB NOT NULL, told INTEGER NOT NULL DEFAULT 0
) STRICT;
"""
_NAME = "heads"  # in errors


class Heads:
    """The open file. Any thread may call; calls are serialised."""

    def __init__(self, path: Path) -> None:
        """Open `path`, making it (mode 0600) where it is missing.

        Raises:
            DamageError: `heads-broken` where the file is damaged.
            ConflictError: `heads-unwritable`, as any other call may.
        """
        self._lock = threading.Lock()
        self._path = path
        self._db = open_database(_NAME, path, _SCHEMA)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def newest(self) -> Envelope | None:
        """The newest checkpoint, or None."""
        with self._using() as db:
            query = "SELECT envelope FROM heads ORDER BY size DESC LIMIT 1"
            rows = db.execute(query).fetchall()
        return Envelope.from_bytes(rows[0][0]) if rows else None

    def all(self) -> list[Envelope]:
        """Every checkpoint that is kept, by size."""
        with self._using() as db:
            rows = db.execute("SELECT envelope FROM heads ORDER BY size").fetchall()
        return [Envelope.from_bytes(row[0]) for row in rows]

    def keep(self, checkpoint: Envelope) -> None:
        """Keep the newest; those before it that no record of this node carries go."""
        size = Checkpoint.from_bytes(checkpoint.payload).size
        with self._using() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                db.execute("DELETE FROM heads WHERE told = 0")
                db.execute(
                    "INSERT OR IGNORE INTO heads (size, envelope) VALUES (?, ?)",
                    (size, checkpoint.to_bytes()),
                )
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

    def tell(self, size: int) -> None:
        """A record of this node is about to carry the head of this size: keep it for good."""
        with self._using() as db:
            db.execute("UPDATE heads SET told = 1 WHERE size = ? AND told = 0", (size,))

    def forget(self) -> None:
        """Begin anew: nothing that was seen binds any more."""
        with self._using() as db:
            db.execute("DELETE FROM heads")

    @contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        with self._lock, named_failures(_NAME, self._path):
            yield self._db
