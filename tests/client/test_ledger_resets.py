"""Planted bugs: an accountant that begins anew each round, a ledger that does with the process."""

from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from accord_client import ledger as module
from accord_client.ledger import Ledger
from accord_common.errors import PolicyError
from accord_common.identity import SigningKey
from accord_common.privacy.accounting import Tally
from accord_common.privacy.filter import Cap, RdpFilter
from tests.common.privacy.spends import rounds

CAP = Cap(epsilon="2.5", delta="0.00001")
PLAN = rounds(12, steps=50)  # each of them fits alone

Opener = Callable[[Path, SigningKey], Ledger]


def charged(folder: Path, opener: Opener, rounds_a_process: int) -> int:
    """How many rounds of the plan a cap lets through, with a restart after every few."""
    path, key = folder / "ledger.db", SigningKey.generate()
    Ledger.create(path, key).close()
    done = 0
    for start in range(0, len(PLAN), rounds_a_process):
        with closing(opener(path, key)) as ledger:
            for one in PLAN[start : start + rounds_a_process]:
                try:
                    ledger.charge(one, [CAP], lambda: datetime(2026, 1, 31, tzinfo=UTC))
                except PolicyError:
                    return done
                done += 1
    return done


def fitting() -> int:
    """The same by the filter alone."""
    return max(n for n in range(len(PLAN)) if RdpFilter(CAP).fits(PLAN[:n]))


@pytest.mark.parametrize("rounds_a_process", [1, 12])
def test_rounds_add_up_also_over_restarts(tmp_path: Path, rounds_a_process: int) -> None:
    assert 1 < fitting() < len(PLAN)
    assert charged(tmp_path, Ledger.open, rounds_a_process) == fitting()


def test_an_accountant_reset_each_round_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "spent", lambda *_: Tally.of([]))
    assert charged(tmp_path, Ledger.open, 12) == len(PLAN) != fitting()


def test_a_ledger_reset_when_the_process_restarts_is_noticed(tmp_path: Path) -> None:
    def forgetful(path: Path, key: SigningKey) -> Ledger:
        path.unlink()
        return Ledger.create(path, key)

    assert charged(tmp_path, forgetful, 1) == len(PLAN) != fitting()
