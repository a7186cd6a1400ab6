"""A ledger read from end to end: damage that no signature shows, and how it is named."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from accord_client.ledger import Ledger
from accord_common.envelope import Envelope
from accord_common.errors import VerificationError
from accord_common.fields import new_id
from accord_common.identity import SigningKey
from accord_common.privacy.rules import CapRule
from tests.client.ledgers import WIDE, clock
from tests.common.privacy.spends import POPULATION, rounds

KEY = SigningKey.generate()


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    opened = Ledger.create(path, KEY)
    for one in [*rounds(2), *rounds(2, run="c" * 64, population=new_id())]:
        opened.charge(one, [WIDE], clock)
    for cap in (WIDE, None):
        opened.rule(CapRule(type="cap", population=POPULATION, cap=cap), clock)
    yield opened
    opened.close()


def refusal(call: Callable[[], object]) -> VerificationError:
    with pytest.raises(VerificationError) as caught:
        call()
    return caught.value


def tamper(path: Path, script: str) -> None:
    """Somebody with the file in hand."""
    with closing(sqlite3.connect(path)) as db:
        for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'"):
            script = f"DROP TRIGGER {name}; {script}"
        db.executescript(script)


def test_a_whole_ledger_gives_its_head(ledger: Ledger) -> None:
    assert ledger.verify({KEY.public}) == ledger.head == ledger.entries()[-1][1].hash


def test_a_damaged_index_is_noticed_though_all_signatures_hold(ledger: Ledger, path: Path) -> None:
    ledger.close()
    data = path.read_bytes()
    indexed = POPULATION.encode() + b"add-remove" + b"1" + b"0.01"
    assert data.count(indexed) == 2
    path.write_bytes(data.replace(indexed, indexed.replace(b"remove1", b"remove9")))
    with closing(Ledger.open(path, KEY)) as reopened:
        error = refusal(lambda: reopened.verify({KEY.public}))
    assert error.code == "ledger-broken"
    assert "index tally" in error.message


def test_sums_that_the_file_computes_otherwise_are_noticed(ledger: Ledger, path: Path) -> None:
    """A column that says one step whatever was signed: SQLite itself finds nothing wrong."""
    tamper(
        path,
        """
        PRAGMA writable_schema = ON;
        UPDATE sqlite_master SET sql = replace(
            sql, 'json_extract(payload, ''$.spend.steps'')', 'CAST(1 AS INTEGER)'
        ) WHERE name = 'entries';
        PRAGMA writable_schema = RESET;
        REINDEX;
        """,
    )
    ledger.close()
    with closing(Ledger.open(path, KEY)) as reopened:
        error = refusal(lambda: reopened.verify({KEY.public}))
        population = reopened.entries()[0][0].spend.population
    assert (error.code, error.message) == (
        "ledger-broken",
        f"{path}: the sums of population {population} are not those of its entries",
    )


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("DELETE FROM entries WHERE sequence = 1", "entry 1 is numbered 2"),
        ("DELETE FROM rules WHERE sequence = 0", "rule 0 is numbered 1"),
        (
            "UPDATE header SET envelope = CAST(envelope || ' ' AS BLOB)",
            "the header changed, and the filter's orders with it",
        ),
    ],
)
def test_what_was_tampered_with_is_named(ledger: Ledger, path: Path, script: str, why: str) -> None:
    tamper(path, script)
    error = refusal(lambda: ledger.verify({KEY.public}))
    assert (error.code, error.message) == ("ledger-broken", f"{path}: {why}")
    assert "restore the newest backup" in error.hint


def test_a_key_that_is_not_named_is_told_from_damage(ledger: Ledger, path: Path) -> None:
    error = refusal(lambda: ledger.verify({SigningKey.generate().public}))
    assert error.code == "ledger-unknown-key"
    assert error.message.startswith(f"{path}: header is signed by {KEY.public[:16]}")
    assert error.hint == "Name the node's earlier keys too, if it rotated them."


def test_a_header_that_nobody_signed_opens_nothing(ledger: Ledger, path: Path) -> None:
    signed = ledger.header
    forged = Envelope(signed.kind, signed.payload.replace(b'"2.5"', b'"2.6"'), signed.signatures)
    tamper(path, f"UPDATE header SET envelope = x'{forged.to_bytes().hex()}'")
    error = refusal(lambda: Ledger.open(path, KEY))
    assert error.code == "ledger-broken"
    assert error.message.startswith(f"{path}: header: ")


def test_an_entry_that_does_not_decode_is_named(ledger: Ledger, path: Path) -> None:
    tamper(path, "UPDATE entries SET payload = payload || ' ' WHERE sequence = 2")
    error = refusal(ledger.entries)
    assert error.code == "ledger-broken"
    assert error.message.startswith(f"{path}: entry 2: ")
