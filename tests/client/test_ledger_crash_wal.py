"""A ledger whose log (SQLite's WAL) is cut anywhere, or has a flipped bit: a prefix, or broken.

Never another tally than that of the entries that are there, and never without notice: what is
missing at the end shows where a receipt names it.
"""

import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from accord_client.ledger import Ledger
from accord_client.reconciling import behind, compare
from accord_client.stores import LEDGER_FILE, open_stores
from accord_common.errors import VerificationError
from accord_common.fields import new_id, now
from accord_common.home import Home
from accord_common.identity import SigningKey
from accord_common.privacy.events import LedgerEntry
from accord_common.privacy.filter import Cap, RdpFilter
from tests.client.institutions import make_institutions
from tests.client.test_node_session import Bench
from tests.common.privacy.spends import POPULATION, spend

WIDE = Cap(epsilon="100000", delta="0.00001")
HEADER, FRAME = 32, 24 + 4096  # bytes (SQLite's file format, "The WAL file format")
OTHER = new_id()
ENTRIES = 12


class Original:
    """A ledger with entries of two populations, its file and its log as they lie beside it."""

    def __init__(self, folder: Path, folded_at: int) -> None:
        self.folded_at = folded_at
        self.key = SigningKey.generate()
        folder.mkdir()
        path = folder / LEDGER_FILE
        ledger = Ledger.create(path, self.key)
        self.entries: list[LedgerEntry] = []
        with closing(sqlite3.connect(path)) as db:
            for number in range(ENTRIES):
                population = (POPULATION, OTHER)[number % 2]
                one = spend(round=number, steps=number + 1, population=population)
                self.entries.append(ledger.charge(one, [WIDE], now)[0])
                if number == folded_at:
                    db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            self.file = path.read_bytes()
            self.log = path.with_name(f"{LEDGER_FILE}-wal").read_bytes()
        ledger.close()

    def found(self, folder: Path, log: bytes) -> int | None:
        """How many entries a ledger with this log has; None where it says that it is broken."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        (folder / LEDGER_FILE).write_bytes(self.file)
        (folder / f"{LEDGER_FILE}-wal").write_bytes(log)
        try:
            ledger = Ledger.open(folder / LEDGER_FILE, self.key)
            with closing(ledger):
                ledger.verify({self.key.public})
                return self._prefix(ledger)
        except VerificationError as error:
            assert error.code == "ledger-broken"
            return None

    def _prefix(self, ledger: Ledger) -> int:
        entries = [entry for entry, _ in ledger.entries()]
        assert entries == self.entries[: len(entries)]
        for population in (POPULATION, OTHER):
            spends = [entry.spend for entry in entries if entry.spend.population == population]
            expected = RdpFilter(WIDE).epsilon(spends)
            assert ledger.epsilon(population, WIDE.delta) == pytest.approx(expected, rel=1e-12)
        for entry in self.entries[len(entries) :]:
            assert not ledger.holds(entry, "e" * 64)
        ledger.charge(spend(round=ENTRIES), [WIDE], now)
        ledger.verify({self.key.public})
        return len(entries)


# After which entry the log was folded into the file: none; one, behind which the log begins anew;
# the last, so that all that is cut off the log is in the file.
@pytest.fixture(params=[-1, 5, ENTRIES - 1], ids=["log", "file and log", "both"])
def original(request: pytest.FixtureRequest, tmp_path: Path) -> Original:
    return Original(tmp_path / "original", request.param)


def test_a_log_cut_at_any_frame_leaves_a_prefix_or_is_noticed(
    original: Original, tmp_path: Path
) -> None:
    frames = (len(original.log) - HEADER) // FRAME
    found = [
        original.found(tmp_path / "cut", original.log[: HEADER + count * FRAME])
        for count in range(frames + 1)
    ]
    assert found[-1] == ENTRIES
    whole = original.folded_at + 1  # entries that the file has of its own
    if whole < ENTRIES:
        there = [count for count in found if count is not None]
        assert there == sorted(there) and len(there) == len(found)
        assert set(there) == set(range(whole, ENTRIES + 1))
    else:
        assert found[0] == ENTRIES and None in found


@pytest.mark.soak(sample=12, full=2000)
def test_a_log_cut_or_flipped_anywhere_leaves_a_prefix_or_is_noticed(
    original: Original, tmp_path: Path, size: int, seed: int
) -> None:
    draw = random.Random(seed)
    for number in range(size):
        place = draw.randrange(len(original.log))
        log = original.log[:place]
        if number % 2:
            log += bytes([original.log[place] ^ 1 << draw.randrange(8)]) + original.log[place + 1 :]
        original.found(tmp_path / "cut", log)


def test_a_receipt_of_an_entry_that_was_cut_off_freezes_the_node(tmp_path: Path) -> None:
    three = make_institutions(tmp_path)
    party, cut = three.parties[1], tmp_path / "cut"
    with three.open(party) as stores:
        bench = Bench(three, stores, three.manifest())
        bench.serve(0, 0)
        log = three.homes[party].path / f"{LEDGER_FILE}-wal"
        kept = log.stat().st_size
        bench.serve(0, 1)
        shutil.copytree(three.homes[party].path, cut, ignore=shutil.ignore_patterns("*-shm"))
    with (cut / log.name).open("r+b") as file:
        file.truncate(kept)
    with open_stores(Home.open(cut)) as stores:
        assert stores.ledger.verify({stores.key.public}) == stores.ledger.head
        bench.stores = stores
        assert bench.charged() == [(0, 0)]
        silent: Any = SimpleNamespace(runs=list)  # a registry that knows of nothing
        compare(stores, silent)
        frozen = behind(stores)
        assert frozen is not None and "entry 1" in frozen.message
        bench.open()
        assert bench.refusal(0, 2).code == "ledger-behind"
        assert bench.charged() == [(0, 0)]
