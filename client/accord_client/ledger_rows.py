"""The ledger's questions to SQLite; each runs in a transaction that the caller opened."""

import sqlite3
from collections import Counter
from collections.abc import Generator, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Literal

from accord_common.envelope import Envelope, record_hash
from accord_common.fields import Hash, Id, parse_time
from accord_common.privacy.accounting import Tally
from accord_common.privacy.events import (
    LEDGER_ENTRY,
    NO_NOISE,
    NO_PREDECESSOR,
    LedgerEntry,
    Spend,
)
from accord_common.privacy.rules import LEDGER_RULE, LedgerRule, Rules

Table = Literal["entries", "rules"]
Row = tuple[int, str, str, bytes]  # sequence, payload, signer, signature

KINDS: dict[Table, str] = {"entries": LEDGER_ENTRY, "rules": LEDGER_RULE}  # envelopes of each
_COLUMNS = "sequence, payload, signer, signature"


def rows(
    db: sqlite3.Connection, given: Mapping[str, str], table: Table = "entries"
) -> Generator[Row, None, None]:
    """Yield the rows whose columns equal all of `given`, oldest first."""
    where = " AND ".join(f"{column} = ?" for column in given) or "TRUE"
    query = f"SELECT {_COLUMNS} FROM {table} WHERE {where} ORDER BY sequence"
    yield from db.execute(query, tuple(given.values()))


def count(db: sqlite3.Connection, given: Mapping[str, str]) -> int:
    """Return how many entries' columns equal all of `given`."""
    where = " AND ".join(f"{column} = ?" for column in given) or "TRUE"
    query = f"SELECT count(*) FROM entries WHERE {where}"
    (found,) = db.execute(query, tuple(given.values())).fetchone()
    return int(found)


def append(
    db: sqlite3.Connection, sequence: int, envelope: Envelope, table: Table = "entries"
) -> None:
    """Add one signed record."""
    ((signer, signature),) = envelope.signatures
    db.execute(
        f"INSERT INTO {table} ({_COLUMNS}) VALUES (?, ?, ?, ?)",
        (sequence, envelope.payload.decode(), signer, signature),
    )


def tip(db: sqlite3.Connection, table: Table = "entries") -> tuple[int, Hash]:
    """Return the next record's sequence number and predecessor."""
    row = db.execute(f"SELECT sequence, payload FROM {table} ORDER BY sequence DESC LIMIT 1")
    last = row.fetchone()
    if last is None:
        return 0, NO_PREDECESSOR
    return last[0] + 1, record_hash(KINDS[table], last[1].encode())


def rules(db: sqlite3.Connection) -> Rules:
    """Read the rules in force."""
    return Rules.of(LedgerRule.from_bytes(row[1].encode()) for row in rows(db, {}, "rules"))


def spent(db: sqlite3.Connection, group: Iterable[Id]) -> Tally:
    """Sum what the populations of a group spent, over everything that is in the ledger."""
    return sum((tally(db, population) for population in group), start=Tally.of([]))


def tally(db: sqlite3.Connection, population: Id, until: int | None = None) -> Tally:
    """Sum what a population spent, over all that is in the ledger, or over the first `until`."""
    steps: Counter[tuple[str, str]] = Counter()
    adjacencies = set()
    non_private = 0
    rows = db.execute(
        "SELECT adjacency, noise, rate, count(*), sum(steps) FROM entries WHERE population = ? "
        + ("" if until is None else "AND sequence < ? ")
        + "GROUP BY adjacency, noise, rate",
        (population,) if until is None else (population, until),
    )
    for adjacency, noise, rate, releases, count in rows:
        if noise == NO_NOISE:
            non_private += releases
            continue
        adjacencies.add(adjacency)
        steps[noise, rate] += count
    return Tally.build(steps, adjacencies, non_private)


def charged(db: sqlite3.Connection) -> list[Id]:
    """Return every population that has an entry, by id."""
    return [row[0] for row in db.execute("SELECT DISTINCT population FROM entries ORDER BY 1")]


def edge(db: sqlite3.Connection, group: Sequence[Id], most: int, *, last: bool) -> list[Row]:
    """Return the first rows of a group, or the last ones; oldest first."""
    marks, order = ", ".join("?" * len(group)), "DESC" if last else "ASC"
    query = f"SELECT {_COLUMNS} FROM entries WHERE population IN ({marks})"
    found = db.execute(f"{query} ORDER BY sequence {order} LIMIT ?", (*group, most)).fetchall()
    return found[::-1] if last else found


def first_since(db: sqlite3.Connection, moment: datetime) -> int:
    """How many entries were recorded before `moment`, by a clock that was not set back."""
    low, high = 0, tip(db)[0]
    while low < high:
        middle = (low + high) // 2
        row = db.execute("SELECT payload FROM entries WHERE sequence = ?", (middle,)).fetchone()
        earlier = parse_time(LedgerEntry.from_bytes(row[0].encode()).recorded) < moment
        low, high = (middle + 1, high) if earlier else (low, middle)
    return low


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


def envelope_of(row: Row, table: Table = "entries") -> Envelope:
    """Rebuild a record's envelope: kind, bytes and signature have one encoding (`envelope.py`)."""
    _, payload, signer, signature = row
    return Envelope(KINDS[table], payload.encode(), ((signer, signature),))
