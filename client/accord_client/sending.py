"""The two tables of `node.db` that a record passes on its way out: waiting, then sent.

Guarantees: a record keeps its place, so that what is sent again comes in the order in which it was
made; the newest ones stay after they were sent, for a registry that is restored from a backup and
lacks them. Each function works inside the caller's transaction (`state`).
"""

import sqlite3
from dataclasses import dataclass

from accord_common.envelope import Envelope

SCHEMA = """
CREATE TABLE IF NOT EXISTS queue (
    position INTEGER PRIMARY KEY AUTOINCREMENT, run TEXT NOT NULL, round INTEGER, attempt INTEGER,
    envelope BLOB NOT NULL, noted INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE IF NOT EXISTS sent (
    position INTEGER PRIMARY KEY, run TEXT NOT NULL, round INTEGER, attempt INTEGER,
    hash TEXT NOT NULL, envelope BLOB NOT NULL
) STRICT;
"""
_SENT_KEPT = 10_000  # records, about 2 KiB each: far more than a day's, and backups are daily


@dataclass(frozen=True, slots=True)
class Queued:
    """A record on its way to the registry; `noted` once the outbox has its line."""

    position: int
    run: str
    round: int | None
    attempt: int | None
    envelope: Envelope
    noted: bool


def enqueue(
    db: sqlite3.Connection, run: str, round_: int | None, attempt: int | None, envelope: Envelope
) -> None:
    """Add a record behind all others."""
    db.execute(
        "INSERT INTO queue (run, round, attempt, envelope) VALUES (?, ?, ?, ?)",
        (run, round_, attempt, envelope.to_bytes()),
    )


def drop(db: sqlite3.Connection, item: Queued, *, taken: bool) -> None:
    """Drop a record that the registry will never take; keep one that it has for `recall`."""
    if taken:
        db.execute(
            "INSERT OR REPLACE INTO sent VALUES (?, ?, ?, ?, ?, ?)",
            (
                item.position,
                item.run,
                item.round,
                item.attempt,
                item.envelope.hash,
                item.envelope.to_bytes(),
            ),
        )
        db.execute("DELETE FROM sent WHERE position <= ?", (item.position - _SENT_KEPT,))
    db.execute("DELETE FROM queue WHERE position = ?", (item.position,))


def recall(db: sqlite3.Connection, run: str, head: str | None) -> int:
    """Queue again what the registry had of a run behind its `head`, None for its beginning.

    Returns how many; 0 where this node never sent that head, which then says nothing of what the
    registry lacks.
    """
    after = 0
    if head is not None:
        row = db.execute("SELECT position FROM sent WHERE hash = ?", (head,)).fetchone()
        if row is None:
            return 0
        (after,) = row
    moved = db.execute(
        "INSERT INTO queue (position, run, round, attempt, envelope)"
        " SELECT position, run, round, attempt, envelope FROM sent WHERE run = ? AND position > ?",
        (run, after),
    )
    db.execute("DELETE FROM sent WHERE run = ? AND position > ?", (run, after))
    return moved.rowcount


def forget(db: sqlite3.Connection, run: str) -> None:
    """Keep nothing that was sent of a run: it goes on from another history."""
    db.execute("DELETE FROM sent WHERE run = ?", (run,))
