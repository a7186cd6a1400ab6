"""What a ledger says to a receipt, and what it charges for one that it lacks."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from accord_client.ledger import Ledger
from accord_common.errors import VerificationError
from accord_common.identity import SigningKey
from accord_common.privacy.filter import RdpFilter
from tests.client.ledgers import WIDE, clock
from tests.common.privacy.spends import POPULATION, rounds, spend

RECEIPT, OTHER = "e" * 64, "f" * 64


def later() -> datetime:
    return datetime(2026, 1, 31, 13, tzinfo=UTC)


def test_a_ledger_holds_the_very_entries_that_it_wrote(ledger: Ledger, tmp_path: Path) -> None:
    entries = [ledger.charge(one, [WIDE], clock)[0] for one in rounds(3)]
    assert all(ledger.holds(entry, RECEIPT) for entry in entries)
    copy = Ledger.create(tmp_path / "copy.db", SigningKey.generate())
    for one in rounds(2):
        copy.charge(one, [WIDE], clock)
    assert [copy.holds(entry, RECEIPT) for entry in entries] == [True, True, False]
    copy.charge(spend(round=2), [WIDE], later)  # the same attempt again: another release
    assert not copy.holds(entries[2], RECEIPT)
    copy.close()


def test_what_is_lacking_is_charged_once_a_receipt_and_whatever_the_caps(
    ledger: Ledger, tmp_path: Path
) -> None:
    lost = [ledger.charge(one, [WIDE], clock)[0] for one in rounds(2)]
    copy = Ledger.create(tmp_path / "copy.db", SigningKey.generate())
    assert copy.length == 0
    assert copy.recharge(lost[1], RECEIPT, later) is True
    assert copy.recharge(lost[1], RECEIPT, later) is False
    assert copy.length == 1
    ((entry, _),) = copy.entries()
    assert entry.spend == lost[1].spend.model_copy(update={"run": RECEIPT})
    assert copy.holds(lost[1], RECEIPT) and not copy.holds(lost[1], OTHER)
    assert copy.recharge(lost[1], OTHER, later) is True  # another receipt, another release
    spent = RdpFilter(WIDE).epsilon([spend(steps=2000)])
    assert copy.epsilon(POPULATION, WIDE.delta) == pytest.approx(spent)
    copy.close()


def test_what_is_there_is_not_charged_for_a_receipt(ledger: Ledger) -> None:
    entry, _ = ledger.charge(spend(), [WIDE], clock)
    assert ledger.recharge(entry, RECEIPT, later) is False
    assert ledger.length == 1


def test_a_ledger_that_cannot_be_opened_is_closed_again(path: Path, ledger: Ledger) -> None:
    ledger.close()
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"payloadType", b"payloadTypo"))
    with pytest.raises(VerificationError) as caught:
        Ledger.open(path, SigningKey.generate())
    assert caught.value.code == "ledger-broken"
    links = list(Path("/proc/self/fd").iterdir())
    assert str(path) not in [os.readlink(link) for link in links if link.is_symlink()]
