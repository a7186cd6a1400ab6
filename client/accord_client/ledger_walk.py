"""Reading a ledger's file from end to end, trusting nothing in it; in a transaction of the caller.

Guarantees: SQLite finds the file sound, header, rules and entries are signed by known keys and
chained, rows stand at the places that were signed, and the sums that charges are held to are those
of the signed entries.

Not covered: a missing end: see `ledger.py`.
"""

import sqlite3
from collections.abc import Collection, Generator
from contextlib import closing

from accord_client.ledger_rows import Table, envelope_of, rows, tally
from accord_common.envelope import Envelope
from accord_common.fields import Hash, Id
from accord_common.privacy.accounting import Tally
from accord_common.privacy.events import NO_PREDECESSOR, LedgerEntry
from accord_common.privacy.ledger_chain import broken, check_signer, follow
from accord_common.privacy.rules import LedgerRule


def walk(db: sqlite3.Connection, header: Envelope, keys: Collection[str]) -> Hash:
    """Check everything and return the newest entry's hash.

    Raises:
        VerificationError: `ledger-broken` or `ledger-unknown-key`, naming the first record.
    """
    check_signer("header", header, keys)
    (state,) = db.execute("PRAGMA integrity_check(1)").fetchone()
    if state != "ok":
        raise broken(str(state))
    (stored,) = db.execute("SELECT envelope FROM header").fetchone()
    if stored != header.to_bytes():
        raise broken("the header changed, and the filter's orders with it")
    with closing(_placed(db, "rules")) as placed:
        for _ in follow(placed, LedgerRule, keys):
            pass
    head = NO_PREDECESSOR
    sums: dict[Id, Tally] = {}
    with closing(_placed(db, "entries")) as placed:
        for entry, hash_ in follow(placed, LedgerEntry, keys):
            head, population = hash_, entry.spend.population
            sums[population] = sums.get(population, Tally.of([])) + Tally.of([entry.spend])
    for population, signed in sums.items():
        if tally(db, population) != signed:
            raise broken(f"the sums of population {population} are not those of its entries")
    return head


def _placed(db: sqlite3.Connection, table: Table) -> Generator[Envelope, None, None]:
    noun = "entry" if table == "entries" else "rule"
    with closing(rows(db, {}, table)) as found:
        for expected, row in enumerate(found):
            if row[0] != expected:
                raise broken(f"{noun} {expected} is numbered {row[0]}")
            yield envelope_of(row, table)
