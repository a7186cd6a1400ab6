"""The ledger: what it refuses, what it survives, what it notices."""

import os
import re
import resource
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from accord_client.ledger import Ledger
from accord_common.envelope import Envelope
from accord_common.errors import (
    AccordError,
    ConflictError,
    NotFoundError,
    PolicyError,
    UsageError,
    VerificationError,
)
from accord_common.fields import new_id
from accord_common.files import write_secret
from accord_common.identity import SigningKey
from accord_common.privacy.accounting import ORDERS
from accord_common.privacy.events import NO_PREDECESSOR, LedgerEntry, Spend
from accord_common.privacy.filter import Cap, RdpFilter
from tests.client.ledgers import WIDE, clock
from tests.common.privacy.spends import POPULATION, rounds, spend

CAP = Cap(epsilon="3", delta="0.00001")
ROOT = Path(__file__).parents[2]


def fill(ledger: Ledger, spends: list[Spend]) -> None:
    for one in spends:
        ledger.charge(one, [WIDE], clock)


def refusal(ledger: Ledger, one: Spend, *caps: Cap) -> AccordError:
    head = ledger.head
    with pytest.raises(AccordError) as caught:
        ledger.charge(one, caps, clock)
    assert ledger.head == head
    return caught.value


def test_a_charge_is_signed_chained_and_kept_verbatim(ledger: Ledger, key: SigningKey) -> None:
    assert ledger.head == NO_PREDECESSOR
    charged = [ledger.charge(one, [WIDE], clock) for one in rounds(3, steps=5)]
    previous = NO_PREDECESSOR
    for number, (entry, envelope) in enumerate(charged):
        assert (entry.sequence, entry.previous) == (number, previous)
        assert entry.recorded == "2026-01-31T12:00:00Z"
        envelope.verify([key.public])
        assert Envelope.from_bytes(envelope.to_bytes()) == envelope
        assert LedgerEntry.from_bytes(envelope.payload) == entry
        previous = envelope.hash
    assert ledger.head == previous == ledger.verify({key.public})
    assert ledger.entries() == charged


def test_entries_are_found_by_population_dataset_and_run(ledger: Ledger) -> None:
    other = new_id()
    fill(ledger, [*rounds(2), *rounds(3, run="c" * 64), *rounds(4, run="d" * 64, population=other)])
    assert len(ledger.entries(population=POPULATION)) == 5
    assert len(ledger.entries(population=POPULATION, run="c" * 64)) == 3
    assert len(ledger.entries(run="d" * 64)) == 4
    assert ledger.entries(dataset=new_id()) == []


def test_only_the_owner_may_read_the_file_and_its_companions(ledger: Ledger, path: Path) -> None:
    fill(ledger, rounds(1))
    files = list(path.parent.iterdir())
    assert {file.name for file in files} >= {"ledger.db", "ledger.db-wal"}
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_a_ledger_is_never_started_anew(ledger: Ledger, path: Path, key: SigningKey) -> None:
    fill(ledger, rounds(1))
    with pytest.raises(ConflictError) as caught:
        Ledger.create(path, key)
    assert caught.value.code == "ledger-exists"
    assert len(ledger.entries()) == 1
    assert not [file for file in path.parent.iterdir() if file.name.endswith(".new")]


def test_a_missing_ledger_is_not_an_empty_one(path: Path, key: SigningKey) -> None:
    with pytest.raises(NotFoundError) as caught:
        Ledger.open(path, key)
    assert caught.value.code == "no-ledger"
    assert not path.exists()


# --- budgets


def test_nothing_fits_beside_a_release_without_privacy_but_under_a_cap_that_permits_it(
    ledger: Ledger,
) -> None:
    exposed = spend(mechanism="none", noise_multiplier="0")
    lenient = Cap(epsilon="3", delta="0.00001", non_private=True)
    for caps in ([CAP], [CAP, lenient], [lenient, CAP]):
        error = refusal(ledger, exposed, *caps)
        assert error.code == "budget-exceeded" and "non-private" in error.message
        with pytest.raises(PolicyError, match="1 non-private release with"):
            ledger.check([exposed], caps)
    ledger.charge(exposed, [lenient], clock)
    assert ledger.tally(POPULATION).non_private == 1
    assert ledger.epsilon(POPULATION, CAP.delta) == 0
    little = spend(round=1, steps=1)
    assert "1 non-private release with" in refusal(ledger, little, CAP).message
    ledger.charge(little, [lenient], clock)
    assert 0 < ledger.epsilon(POPULATION, CAP.delta) < 3
    over = refusal(ledger, spend(round=2, steps=100_000), lenient)  # private events still count
    assert "non-private" not in over.message
    elsewhere = spend(round=3, steps=1, population=new_id())  # other people are untouched
    ledger.charge(elsewhere, [CAP], clock)


def test_a_round_over_the_cap_is_refused_with_the_figures(ledger: Ledger) -> None:
    fill(ledger, [spend(steps=900)])
    spent = RdpFilter(CAP).epsilon([spend(steps=900)])
    error = refusal(ledger, spend(round=1, steps=400), CAP)
    assert isinstance(error, PolicyError)
    assert error.code == "budget-exceeded"
    figures = [
        float(text)
        for text in re.findall(r"epsilon (\d+\.\d+)|reach (\d+\.\d+)", error.message)
        for text in text
        if text
    ]
    assert figures[0] == pytest.approx(spent, abs=1e-4)
    assert figures[1] == pytest.approx(RdpFilter(CAP).epsilon([spend(steps=1300)]), abs=1e-4)
    assert "the cap is 3 at delta 0.00001 (add-remove)" in error.message
    assert "never refunded" in error.hint


def test_check_says_beforehand_what_charge_will_do(ledger: Ledger) -> None:
    plan = rounds(40, steps=30)
    fitting = 0
    for count in range(1, 41):
        try:
            ledger.check(plan[:count], [CAP])
        except PolicyError:
            break
        fitting = count
    assert 0 < fitting < 40
    for one in plan[:fitting]:
        ledger.charge(one, [CAP], clock)
    assert refusal(ledger, plan[fitting], CAP).code == "budget-exceeded"
    ledger.check(plan[:fitting], [CAP])  # all of it is in the ledger: nothing is counted twice
    with pytest.raises(PolicyError):
        ledger.check(plan[fitting : fitting + 1], [CAP])


def test_the_population_is_the_unit_across_runs_agreements_and_datasets(ledger: Ledger) -> None:
    fill(ledger, [spend(steps=900)])
    elsewhere = spend(run="c" * 64, agreement="e" * 64, dataset=new_id(), steps=400)
    assert refusal(ledger, elsewhere, CAP).code == "budget-exceeded"
    ledger.charge(
        elsewhere.model_copy(update={"population": new_id()}), [CAP], clock
    )  # other people


def test_the_tightest_cap_wins(ledger: Ledger) -> None:
    steward = Cap(epsilon="2", delta="0.00001")
    stricter_delta = Cap(epsilon="3", delta="0.0000000001")
    one = spend(steps=800)
    assert "the cap is 2 " in refusal(ledger, one, CAP, steward).message
    assert "the cap is 2 " in refusal(ledger, one, steward, CAP).message
    assert "delta 0.0000000001" in refusal(ledger, one, CAP, stricter_delta).message
    ledger.charge(one, [CAP], clock)


def test_a_spend_without_a_cap_is_refused(ledger: Ledger) -> None:
    error = refusal(ledger, spend())
    assert isinstance(error, UsageError)
    assert error.code == "no-cap"


def test_adjacencies_compose_at_the_stricter(ledger: Ledger) -> None:
    fill(ledger, [spend(steps=700, adjacency="replace-one")])
    together = [spend(steps=900, adjacency="replace-one")]
    assert RdpFilter(CAP).fits([spend(steps=900)])
    assert not RdpFilter(CAP).fits(together)
    error = refusal(ledger, spend(round=1, steps=200, adjacency="add-remove"), CAP)
    assert "(replace-one)" in error.message
    fill(ledger, [spend(round=1, steps=200, adjacency="add-remove")])
    assert ledger.epsilon(POPULATION, "0.00001") == RdpFilter(CAP).epsilon(together)


def test_a_cap_counts_by_the_adjacency_of_its_own_terms(ledger: Ledger) -> None:
    """Tables of one population, one agreed under add/remove and one under replace-one."""
    fill(ledger, [spend(steps=700)])
    one, strict = spend(round=1, steps=200), CAP.model_copy(update={"adjacency": "replace-one"})
    ledger.check([one], [CAP])
    assert "(replace-one)" in refusal(ledger, one, CAP, strict).message
    charged = spend(steps=700, adjacency="replace-one")
    assert RdpFilter(strict).epsilon([spend(steps=700)]) == RdpFilter(CAP).epsilon([charged])


@pytest.mark.parametrize("changes", [{}, {"steps": 1}, {"dataset": new_id(), "attempt": 0}])
def test_an_attempt_is_charged_once(ledger: Ledger, changes: dict[str, object]) -> None:
    fill(ledger, [spend(round=3)])
    again = spend(round=3).model_copy(update=changes)
    error = refusal(ledger, again, WIDE)
    assert isinstance(error, ConflictError)
    assert error.code == "already-charged"
    ledger.charge(spend(round=3, attempt=1), [WIDE], clock)  # a new attempt is a new spend
    assert ledger.epsilon(POPULATION, "0.00001") == RdpFilter(WIDE).epsilon([spend(steps=2000)])


def test_a_hundred_rounds_with_restarts_are_one_composition(path: Path, key: SigningKey) -> None:
    plan = rounds(100, noise_multiplier="1.37", sampling_rate="0.02", steps=50)
    Ledger.create(path, key).close()
    for part in (plan[:33], plan[33:67], plan[67:]):
        ledger = Ledger.open(path, key)
        fill(ledger, part)
        ledger.close()
    ledger = Ledger.open(path, key)
    uninterrupted = RdpFilter(CAP).epsilon(
        [spend(noise_multiplier="1.37", sampling_rate="0.02", steps=5000)]
    )
    assert abs(ledger.epsilon(POPULATION, "0.00001") - uninterrupted) < 1e-9
    assert ledger.orders == ORDERS
    assert ledger.verify({key.public}) == ledger.head
    ledger.close()


# --- processes


def start(mode: str, path: Path, key: SigningKey) -> subprocess.Popen[str]:
    pem = path.with_name("node.pem")
    if not pem.exists():
        write_secret(pem, key.to_pem())
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "tests.client.ledger_crash", mode, path, pem],
        cwd=ROOT,
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join(("common", "client", ".")), "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.soak(sample=3, full=60)
def test_what_was_acknowledged_survives_kill(path: Path, key: SigningKey, size: int) -> None:
    Ledger.create(path, key).close()
    for attempt in range(size):
        with start("spend", path, key) as process:
            assert process.stdout is not None
            acknowledged = [int(process.stdout.readline()) for _ in range(4 + 3 * attempt)]
            process.send_signal(signal.SIGKILL)
            acknowledged += [int(line) for line in process.stdout if line.endswith("\n")]
        ledger = Ledger.open(path, key)
        ledger.verify({key.public})
        assert acknowledged[-1] < len(ledger.entries())
        ledger.close()


def test_two_processes_cannot_spend_the_same_budget(path: Path, key: SigningKey) -> None:
    Ledger.create(path, key).close()
    cap = Cap(epsilon="2", delta="0.00001")
    processes = [start("race", path, key) for _ in range(2)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    results = [process.communicate(timeout=60)[0].split() for process in processes]
    assert [result[1] for result in results] == ["budget-exceeded"] * 2
    ledger = Ledger.open(path, key)
    ledger.verify({key.public})
    spends = [entry.spend for entry, _ in ledger.entries()]
    ledger.close()
    assert len(spends) == sum(int(result[0]) for result in results)
    assert RdpFilter(cap).fits(spends)
    assert not RdpFilter(cap).fits([*spends, spend(steps=20)])


# --- disks


def test_a_full_disk_charges_nothing_and_says_so(ledger: Ledger) -> None:
    fill(ledger, rounds(2))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16 * 1024, hard))  # the next WAL page fails
    try:
        error = refusal(ledger, spend(round=2), WIDE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert isinstance(error, ConflictError)
    assert error.code == "ledger-unwritable"
    assert "Nothing was spent" in error.hint
    ledger.charge(spend(round=2), [WIDE], clock)


def test_a_read_only_file_charges_nothing_and_says_so(key: SigningKey) -> None:
    folder = Path(tempfile.mkdtemp())
    path = folder / "ledger.db"
    Ledger.create(path, key).close()
    path.chmod(0o444)
    folder.chmod(0o555)
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65534)  # root may write anywhere; nobody may not
        with pytest.raises(ConflictError) as caught:
            ledger = Ledger.open(path, key)
            ledger.charge(spend(), [WIDE], clock)
        assert caught.value.code == "ledger-unwritable"
    finally:
        os.seteuid(user)
        folder.chmod(0o755)
        shutil.rmtree(folder)


def test_a_folder_that_cannot_be_written_leaves_nothing(tmp_path: Path, key: SigningKey) -> None:
    with pytest.raises(ConflictError) as caught:
        Ledger.create(tmp_path / "missing" / "ledger.db", key)
    assert caught.value.code == "ledger-unwritable"


@pytest.mark.parametrize("content", [b"", b"not a database, but long enough to be read" * 30])
def test_a_file_that_is_no_ledger_is_refused(path: Path, key: SigningKey, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(VerificationError) as caught:
        Ledger.open(path, key)
    assert caught.value.code == "ledger-broken"


# --- tampering


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM entries WHERE sequence = 2",
        "UPDATE entries SET signer = 'x'",
        "DELETE FROM header",
        "UPDATE header SET envelope = x''",
        "INSERT OR REPLACE INTO entries (sequence, payload, signer, signature) "
        "SELECT 1, payload, signer, signature FROM entries WHERE sequence = 2",
        "INSERT INTO entries (sequence, payload, signer, signature) "
        "SELECT 7, payload, signer, signature FROM entries WHERE sequence = 2",
    ],
)
def test_sqlite_itself_refuses_to_refund(ledger: Ledger, path: Path, statement: str) -> None:
    fill(ledger, rounds(3))
    head = ledger.head
    with tampering(path, triggers=True) as db, pytest.raises(sqlite3.IntegrityError):
        db.execute(statement)
    assert ledger.head == head


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("DELETE FROM entries WHERE sequence = 2", "entry 2 is numbered 3"),
        ("DELETE FROM entries WHERE sequence = 0", "entry 0 is numbered 1"),
        (
            "UPDATE entries SET payload = replace(payload, '\"steps\":1000', '\"steps\":10') "
            "WHERE sequence = 1",
            "entry 1: the signature",
        ),
        (
            "UPDATE entries SET signature = (SELECT signature FROM entries WHERE sequence = 0) "
            "WHERE sequence = 3",
            "entry 3: the signature",
        ),
        ("UPDATE entries SET sequence = 9 WHERE sequence = 4", "entry 4 is numbered 9"),
        ("DELETE FROM header", "header is missing"),
        ("UPDATE header SET envelope = x'00'", "header:"),
    ],
)
def test_tampering_is_noticed_and_named(
    ledger: Ledger, path: Path, key: SigningKey, statement: str, named: str
) -> None:
    fill(ledger, rounds(5))
    ledger.close()
    with tampering(path) as db:
        db.execute(statement)
        db.commit()
    with pytest.raises(VerificationError) as caught:
        reopened = Ledger.open(path, key)
        try:
            reopened.verify({key.public})
        finally:
            reopened.close()
    assert caught.value.code == "ledger-broken"
    assert named in caught.value.message


def test_an_entry_signed_again_breaks_the_chain_after_it(
    ledger: Ledger, path: Path, key: SigningKey
) -> None:
    """Even with the node's key: the entry after it names the one that was there."""
    from accord_common.envelope import sign

    fill(ledger, rounds(3))
    entry, _ = ledger.entries()[1]
    cheaper = entry.model_copy(update={"spend": spend(round=1, steps=1)})
    forged = sign("ledger-entry", cheaper, key)
    with tampering(path) as db:
        db.execute(
            "UPDATE entries SET payload = ?, signature = ? WHERE sequence = 1",
            (forged.payload.decode(), forged.signatures[0][1]),
        )
        db.commit()
    with pytest.raises(VerificationError) as caught:
        ledger.verify({key.public})
    assert "entry 2 does not follow" in caught.value.message


def test_other_orders_are_noticed(ledger: Ledger, path: Path, key: SigningKey) -> None:
    other = path.with_name("other.db")
    Ledger.create(other, SigningKey.generate()).close()
    with tampering(other) as db:
        (header,) = db.execute("SELECT envelope FROM header").fetchone()
    with tampering(path) as db:
        db.execute("UPDATE header SET envelope = ?", (header,))
        db.commit()
    with pytest.raises(VerificationError) as caught:
        ledger.verify({key.public})
    assert "orders" in caught.value.message
    ledger.close()
    reopened = Ledger.open(path, key)
    with pytest.raises(VerificationError) as caught:
        reopened.verify({key.public})
    assert caught.value.code == "ledger-unknown-key"
    reopened.close()


def test_flipped_bytes_in_the_file_are_noticed(ledger: Ledger, path: Path, key: SigningKey) -> None:
    fill(ledger, rounds(30))
    ledger.close()
    data = path.read_bytes()
    position = data.rindex(b'"steps":1000') + len(b'"steps":')
    path.write_bytes(data[:position] + b"9" + data[position + 1 :])
    with pytest.raises(VerificationError) as caught:
        reopened = Ledger.open(path, key)
        try:
            reopened.verify({key.public})
        finally:
            reopened.close()
    assert caught.value.code == "ledger-broken"


def test_keys_rotate_and_earlier_ones_stay_valid(
    ledger: Ledger, path: Path, key: SigningKey
) -> None:
    fill(ledger, rounds(2))
    ledger.close()
    later = SigningKey.generate()
    rotated = Ledger.open(path, later)
    rotated.charge(spend(round=2), [WIDE], clock)
    assert rotated.verify({key.public, later.public}) == rotated.head
    with pytest.raises(VerificationError) as caught:
        rotated.verify({later.public})
    assert caught.value.code == "ledger-unknown-key"
    rotated.close()


class tampering:
    """Another connection, by default with the triggers gone: somebody with the file in hand."""

    def __init__(self, path: Path, *, triggers: bool = False) -> None:
        self._db = sqlite3.connect(path)
        if not triggers:
            names = self._db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
            for (name,) in names.fetchall():
                self._db.execute(f"DROP TRIGGER {name}")
            self._db.commit()

    def __enter__(self) -> sqlite3.Connection:
        return self._db

    def __exit__(self, *_: object) -> None:
        self._db.close()
