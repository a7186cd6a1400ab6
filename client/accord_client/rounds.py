"""What secure aggregation remembers over a restart: one sealed row for each run, `rounds.db`.

Guarantees: a row is on disk when `keep` returns (WAL, synchronous=FULL), so what it decides was
decided before anything that follows from it leaves; it replaces only what its writer had seen, so a
late writer never undoes a later decision; a run that was erased is never written again. A row lies
only encrypted (AES-256-GCM under a key of this file's own, derived from the node key, bound to the
run); what it replaces, and what is erased, is overwritten in the file (secure_delete), and `flush`
cuts the log that may still have it.

Not covered: what a file system or a disk keeps of blocks that were overwritten; somebody who has
the node key and the file while a round lasts.
"""

import os
import threading
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from accord_client.disk import named_failures, open_database
from accord_common.errors import ConflictError, DamageError
from accord_common.identity import SigningKey

FILE_NAME = "rounds.db"

_SCHEMA = """
PRAGMA secure_delete = ON;
CREATE TABLE IF NOT EXISTS rounds (run TEXT PRIMARY KEY, sealed BLOB NOT NULL) STRICT;
"""
_NAME = "round-secrets"  # in errors
_NONCE_BYTES = 12
_ERASED = b""  # what a run that is over leaves: its row, empty


class Rounds:
    """The open file. Any thread may call; calls are serialised."""

    def __init__(self, path: Path, key: SigningKey) -> None:
        """Open `path`, making it (mode 0600) where it is missing.

        Raises:
            DamageError: `round-secrets-broken` where the file is damaged.
            ConflictError: `round-secrets-unwritable`, as any other call may.
        """
        self._cipher = AESGCM(key.derive(b"accord round secrets v1"))
        self._lock = threading.Lock()
        self._path = path
        self._db = open_database(_NAME, path, _SCHEMA)
        self.flush()  # a process that died between a write and its `flush` left what was replaced

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def keep(self, run: str, data: bytes, *, replaces: bytes | None) -> None:
        """Seal what a run must remember, in the place of `replaces`, which the caller saw last.

        Raises:
            ConflictError: `round-decided` where the file holds anything else by now, or the run
                was erased; nothing was written.
            DamageError: `round-secrets-broken`.
        """
        nonce = os.urandom(_NONCE_BYTES)
        sealed = nonce + self._cipher.encrypt(nonce, data, run.encode())
        with self._lock, named_failures(_NAME, self._path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                found = self._sealed(run)
                if found == _ERASED or self._open(run, found) != replaces:
                    raise ConflictError(
                        "round-decided",
                        f"run {run} is over, or another session of it decided here meanwhile",
                        hint="This session takes no further part; nothing that it made has left.",
                    )
                self._db.execute("INSERT OR REPLACE INTO rounds VALUES (?, ?)", (run, sealed))
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # a full disk has ended it already, or has not
                    self._db.execute("ROLLBACK")
                raise

    def kept(self, run: str) -> bytes | None:
        """Return what `keep` was given last; None before that, and after `erase`.

        Raises:
            DamageError: `round-secrets-broken`.
        """
        with self._lock, named_failures(_NAME, self._path):
            return self._open(run, self._sealed(run))

    def erase(self, run: str) -> None:
        """Forget a run that is over, for good: nothing is kept of it again."""
        with self._lock, named_failures(_NAME, self._path):
            changed = self._db.execute(
                "INSERT INTO rounds VALUES (?, ?)"
                " ON CONFLICT (run) DO UPDATE SET sealed = excluded.sealed"
                " WHERE sealed != excluded.sealed",
                (run, _ERASED),
            ).rowcount
        if changed:
            self.flush()

    def flush(self) -> None:
        """Move the log into the file and cut it, so that nothing older is left in either."""
        with self._lock, named_failures(_NAME, self._path):
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _sealed(self, run: str) -> bytes | None:
        rows = self._db.execute("SELECT sealed FROM rounds WHERE run = ?", (run,)).fetchall()
        return bytes(rows[0][0]) if rows else None

    def _open(self, run: str, sealed: bytes | None) -> bytes | None:
        if sealed is None or sealed == _ERASED:
            return None
        try:
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], run.encode())
        except InvalidTag as error:
            raise DamageError(
                "round-secrets-broken",
                f"what rounds.db holds of run {run} does not open with this node's key",
                hint="This node takes no further part in the run; an older copy must not be used.",
            ) from error
