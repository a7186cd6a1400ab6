"""What a node must remember over restarts, in one SQLite file, `node.db`.

Runs and what was decided about them, the last attempt that was begun, the records a run rests on
(verbatim, so that a restart needs no registry), the records the registry has yet to get, and the
newest of those that it had, for one that is restored from a backup and lacks them.

Guarantees: every change is one transaction, on disk when the call returns (WAL, synchronous=FULL),
or it raises `state-unwritable` or `state-broken` and changed nothing; several processes of one node
may use the file; an attempt is begun at most once and never behind a later one; a record is queued
in the same transaction as the fact that it reports.

Not covered: spending. That is the ledger's, which this file never overrules.
"""

import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from accord_client import sending
from accord_client.disk import named_failures, open_database
from accord_client.sending import Queued
from accord_common.api.schemas import FINAL_STATES
from accord_common.envelope import Envelope
from accord_common.errors import (
    ConflictError,
    NotFoundError,
    ProtocolError,
)
from accord_common.fields import format_time, parse_time

FILE_NAME = "node.db"

Decision = Literal["ask", "accept", "refuse"]
SERVED_STATES = frozenset({"ready", "running"})

_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    id TEXT PRIMARY KEY, manifest TEXT NOT NULL, title TEXT NOT NULL, dataset TEXT NOT NULL,
    decision TEXT NOT NULL, code TEXT NOT NULL, reason TEXT NOT NULL, head TEXT,
    round INTEGER NOT NULL DEFAULT -1, attempt INTEGER NOT NULL DEFAULT -1,
    state TEXT NOT NULL, updated TEXT NOT NULL,
    refused_round INTEGER, refused_code TEXT NOT NULL DEFAULT '',
    refused_reason TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE TABLE IF NOT EXISTS records (hash TEXT PRIMARY KEY, envelope BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
"""

_RUN_COLUMNS = (
    "id, manifest, title, dataset, decision, code, reason, head, round, attempt, state,"
    " refused_round, refused_code, refused_reason"
)


@dataclass(frozen=True, slots=True)
class Run:
    """A run that named this node.

    Attributes:
        decision: `ask` while the steward has not decided.
        head: the node's newest record in the run: its consent, then its receipts.
        round: the newest round that was begun, -1 before the first; `attempt` likewise.
        state: as registry or aggregator last said.
        refused_round: since which round this node has sent no update but refused, None where it
            has not; `refused_code` and `refused_reason` say why, for the steward alone.
    """

    id: str
    manifest: str
    title: str
    dataset: str
    decision: Decision
    code: str
    reason: str
    head: str | None
    round: int
    attempt: int
    state: str
    refused_round: int | None = None
    refused_code: str = ""
    refused_reason: str = ""


class State:
    """The open file. Any thread may call; calls are serialised."""

    def __init__(self, path: Path) -> None:
        """Open `path`, making it (mode 0600) where it is missing.

        Raises:
            VerificationError: `state-broken` where the file is damaged.
            ConflictError: `state-unwritable` where it cannot be opened for writing.
        """
        self._lock = threading.Lock()
        self._path = path
        self._db = open_database("state", path, _SCHEMA + sending.SCHEMA)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def runs(self) -> list[Run]:
        """Every run known here, newest first (ids are ordered by time)."""
        return [Run(*row) for row in self._all(f"SELECT {_RUN_COLUMNS} FROM runs ORDER BY id DESC")]

    def run(self, run_id: str) -> Run | None:
        """Return one run, or None."""
        rows = self._all(f"SELECT {_RUN_COLUMNS} FROM runs WHERE id = ?", run_id)
        return Run(*rows[0]) if rows else None

    def ask(self, run_id: str, manifest: str, title: str, dataset: str, now: datetime) -> None:
        """Remember a run that waits for the steward; keeps what is known already."""
        with self._transaction() as db:
            db.execute(
                "INSERT OR IGNORE INTO runs (id, manifest, title, dataset, decision, code, reason,"
                " state, updated) VALUES (?, ?, ?, ?, 'ask', '', '', 'awaiting-consent', ?)",
                (run_id, manifest, title, dataset, format_time(now)),
            )

    def decide(
        self,
        run: Run,
        consent: Envelope,
        rests_on: Iterable[Envelope],
        now: datetime,
    ) -> None:
        """Store a decision, what it rests on, and queue the consent: all or nothing.

        Raises:
            ConflictError: `already-decided`: a run is decided once, by whichever process is first.
        """
        with self._transaction() as db:
            done = db.execute(
                "INSERT INTO runs (id, manifest, title, dataset, decision, code, reason, head,"
                " state, updated) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (id) DO UPDATE SET manifest = excluded.manifest,"
                " decision = excluded.decision, code = excluded.code, reason = excluded.reason,"
                " head = excluded.head, updated = excluded.updated WHERE decision = 'ask'",
                (
                    run.id,
                    run.manifest,
                    run.title,
                    run.dataset,
                    run.decision,
                    run.code,
                    run.reason,
                    consent.hash,
                    run.state,
                    format_time(now),
                ),
            )
            if done.rowcount != 1:
                raise ConflictError("already-decided", f"run {run.id} has been decided")
            for envelope in rests_on:
                db.execute(
                    "INSERT OR IGNORE INTO records VALUES (?, ?)",
                    (envelope.hash, envelope.to_bytes()),
                )
            sending.enqueue(db, run.id, None, None, consent)

    def follow(self, run_id: str, state: str, now: datetime) -> None:
        """Store what is said about a run's state; a final state is never left."""
        final = ", ".join("?" * len(FINAL_STATES))
        with self._transaction() as db:
            db.execute(
                "UPDATE runs SET state = ?, updated = ?"
                f" WHERE id = ? AND state != ? AND state NOT IN ({final})",
                (state, format_time(now), run_id, state, *sorted(FINAL_STATES)),
            )

    def begin(self, run_id: str, round_: int, attempt: int) -> None:
        """Mark an attempt as begun.

        Raises:
            ProtocolError: `stale-attempt` unless it comes after every attempt begun before.
        """
        with self._transaction() as db:
            row = db.execute("SELECT round, attempt FROM runs WHERE id = ?", (run_id,)).fetchone()
            if row is None:
                raise NotFoundError("unknown-run", f"run {run_id} is not known here")
            if (round_, attempt) <= tuple(row):
                raise ProtocolError(
                    "stale-attempt",
                    f"round {round_} attempt {attempt} comes after round {row[0]} attempt {row[1]}",
                    hint="The aggregator must open a new attempt.",
                )
            db.execute(
                "UPDATE runs SET round = ?, attempt = ? WHERE id = ?", (round_, attempt, run_id)
            )

    def refuse(self, run_id: str, round_: int, code: str, reason: str) -> None:
        """Remember why this node takes no part in a round, until its next `report`."""
        with self._transaction() as db:
            db.execute(
                "UPDATE runs SET refused_round = coalesce(refused_round, ?), refused_code = ?,"
                " refused_reason = ? WHERE id = ?",
                (round_, code, reason, run_id),
            )

    def report(self, run_id: str, round_: int, attempt: int, receipt: Envelope) -> None:
        """Make a receipt the run's newest record, and queue it; a refusal before it is over."""
        with self._transaction() as db:
            db.execute(
                "UPDATE runs SET head = ?, refused_round = NULL, refused_code = '',"
                " refused_reason = '' WHERE id = ?",
                (receipt.hash, run_id),
            )
            sending.enqueue(db, run_id, round_, attempt, receipt)

    def rechain(
        self,
        run_id: str,
        head: str,
        place: tuple[int, int],
        again: Callable[[Envelope, str], Envelope | None],
    ) -> None:
        """Go on in a run from `head` at the registry, behind the attempt at `place`.

        `again` makes each record that waits follow the one before it; None drops it.
        """
        with self._transaction() as db:
            waiting = db.execute(
                "SELECT position, envelope FROM queue WHERE run = ? ORDER BY position", (run_id,)
            ).fetchall()
            for position, data in waiting:
                envelope = again(Envelope.from_bytes(data), head)
                if envelope is None:
                    db.execute("DELETE FROM queue WHERE position = ?", (position,))
                    continue
                db.execute(
                    "UPDATE queue SET envelope = ?, noted = 0 WHERE position = ?",
                    (envelope.to_bytes(), position),
                )
                head = envelope.hash
            db.execute(
                "UPDATE runs SET round = ?, attempt = ? WHERE id = ? AND (round, attempt) < (?, ?)",
                (*place, run_id, *place),
            )
            db.execute("UPDATE runs SET head = ? WHERE id = ?", (head, run_id))
            sending.forget(db, run_id)

    def leave(self, code: str, reason: str, now: datetime) -> None:
        """Take no further part in any run under way; one whose consent never left is undecided."""
        final = ", ".join("?" * len(FINAL_STATES))
        with self._transaction() as db:
            db.execute(
                "DELETE FROM runs WHERE decision = 'ask'"
                " OR id IN (SELECT run FROM queue WHERE round IS NULL)"
            )
            db.execute("DELETE FROM queue WHERE round IS NULL")  # consents
            db.execute(
                "UPDATE runs SET decision = 'refuse', code = ?, reason = ?, updated = ?"
                f" WHERE decision = 'accept' AND state NOT IN ({final})",
                (code, reason, format_time(now), *sorted(FINAL_STATES)),
            )

    def disown(self, run_id: str, code: str, reason: str, now: datetime) -> None:
        """Take no part in a run, whatever was decided about it here."""
        with self._transaction() as db:
            db.execute(
                "UPDATE runs SET decision = 'refuse', code = ?, reason = ?, updated = ?"
                " WHERE id = ?",
                (code, reason, format_time(now), run_id),
            )

    def record(self, hash_: str) -> Envelope:
        """Return a record that an accepted run rests on; `unknown-record`."""
        rows = self._all("SELECT envelope FROM records WHERE hash = ?", hash_)
        if not rows:
            raise NotFoundError("unknown-record", f"record {hash_[:16]} is not kept here")
        return Envelope.from_bytes(rows[0][0])

    def queued(self) -> int:
        """How many records the registry has yet to get."""
        return int(self._all("SELECT count(*) FROM queue")[0][0])

    def next_queued(self, after: int = 0) -> Queued | None:
        """Return the oldest queued record behind position `after`, or None."""
        rows = self._all(
            "SELECT position, run, round, attempt, envelope, noted FROM queue"
            " WHERE position > ? ORDER BY position LIMIT 1",
            after,
        )
        if not rows:
            return None
        position, run, round_, attempt, envelope, noted = rows[0]
        return Queued(position, run, round_, attempt, Envelope.from_bytes(envelope), bool(noted))

    def note(self, position: int) -> None:
        """Remember that the outbox has the line of a queued record."""
        with self._transaction() as db:
            db.execute("UPDATE queue SET noted = 1 WHERE position = ?", (position,))

    def posted(self, item: Queued, *, taken: bool) -> None:
        """The registry has a record, or will never take it."""
        with self._transaction() as db:
            sending.drop(db, item, taken=taken)

    def recall(self, run_id: str, head: str | None) -> int:
        """Queue again what the registry had behind its `head`; see `sending.recall`."""
        with self._transaction() as db:
            return sending.recall(db, run_id, head)

    def waits(self, run_id: str) -> bool:
        """Whether the registry has yet to get a record of a run."""
        return bool(self._all("SELECT 1 FROM queue WHERE run = ? LIMIT 1", run_id))

    def get(self, key: str) -> str | None:
        """Return a remembered value."""
        rows = self._all("SELECT value FROM meta WHERE key = ?", key)
        return str(rows[0][0]) if rows else None

    def put(self, key: str, value: str) -> None:
        """Remember a value."""
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def moment(self, key: str) -> datetime | None:
        """Return a remembered time."""
        value = self.get(key)
        return None if value is None else parse_time(value)

    def _all(self, sql: str, *values: object) -> list[Any]:
        with (
            self._lock,
            named_failures("state", self._path),
            closing(self._db.execute(sql, values)) as cursor,
        ):
            return cursor.fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, named_failures("state", self._path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # a full disk has ended it already, or has not
                    self._db.execute("ROLLBACK")
                raise
