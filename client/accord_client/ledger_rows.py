"""The ledger's questions to SQLite; each runs in a transaction that the caller opened."""

import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping

from accord_common.envelope import Envelope, record_hash
from accord_common.fields import Hash, Id
from accord_common.privacy.accounting import Tally
from accord_common.privacy.events import (
    LEDGER_ENTRY,
    NO_NOISE,
    NO_PREDECESSOR,
    LedgerEntry,
    Spend,
)

Row = tuple[int, str, str, bytes]  # sequence, payload, signer, signature

_COLUMNS = "sequence, payload, signer, signature"


def rows(db: sqlite3.Connection, given: Mapping[str, str]) -> Iterator[Row]:
    """Yield the rows whose columns equal all of `given`, oldest first."""
    where = " AND ".join(f"{column} = ?" for column in given) or "TRUE"
    query = f"SELECT {_COLUMNS} FROM entries WHERE {where} ORDER BY sequence"
    yield from db.execute(query, tuple(given.values()))


def append(db: sqlite3.Connection, sequence: int, envelope: Envelope) -> None:
    """Add one signed entry."""
    ((signer, signature),) = envelope.signatures
    db.execute(
        f"INSERT INTO entries ({_COLUMNS}) VALUES (?, ?, ?, ?)",
        (sequence, envelope.payload.decode(), signer, signature),
    )


def tip(db: sqlite3.Connection) -> tuple[int, Hash]:
    """Return the next entry's sequence number and predecessor."""
    row = db.execute("SELECT sequence, payload FROM entries ORDER BY sequence DESC LIMIT 1")
    last = row.fetchone()
    if last is None:
        return 0, NO_PREDECESSOR
    return last[0] + 1, record_hash(LEDGER_ENTRY, last[1].encode())


def tally(db: sqlite3.Connection, population: Id) -> Tally:
    """Sum what a population spent, over everything that is in the ledger."""
    steps: Counter[tuple[str, str]] = Counter()
    adjacencies = set()
    non_private = 0
    rows = db.execute(
        "SELECT adjacency, noise, rate, count(*), sum(steps) FROM entries WHERE population = ? "
        "GROUP BY adjacency, noise, rate",
        (population,),
    )
    for adjacency, noise, rate, releases, count in rows:
        if noise == NO_NOISE:
            non_private += releases
            continue
        adjacencies.add(adjacency)
        steps[noise, rate] += count
    return Tally.build(steps, adjacencies, non_private)


def is_charged(db: sqlite3.Connection, spend: Spend) -> bool:
    """Say whether this run, round and attempt is in the ledger."""
    found = db.execute(
        "SELECT 1 FROM entries WHERE run = ? AND round = ? AND attempt = ?",
        (spend.run, spend.round, spend.attempt),
    )
    return found.fetchone() is not None


def same_entry(db: sqlite3.Connection, entry: LedgerEntry) -> bool:
    """Say whether this entry stands at its place; the chain vouches for those before it."""
    query = "SELECT payload FROM entries WHERE sequence = ?"
    row = db.execute(query, (entry.sequence,)).fetchone()
    return row is not None and row[0].encode() == entry.to_bytes()


def envelope_of(row: Row) -> Envelope:
    """Rebuild an entry's envelope: kind, bytes and signature have one encoding (`envelope.py`)."""
    _, payload, signer, signature = row
    return Envelope(LEDGER_ENTRY, payload.encode(), ((signer, signature),))
