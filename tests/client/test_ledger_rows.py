"""The ledger's questions: what they count and sum, and of whom."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from accord_client.ledger import Ledger
from accord_common.errors import PolicyError
from accord_common.fields import new_id
from accord_common.identity import SigningKey
from accord_common.privacy.accounting import Tally
from accord_common.privacy.filter import Cap
from accord_common.privacy.rules import CapRule, OverlapRule
from tests.client.ledgers import clock
from tests.common.privacy.spends import POPULATION, rounds, spend

WIDE = Cap(epsilon="1000", delta="0.00001", non_private=True)
OTHER = new_id()
SPENDS = [
    *rounds(2, steps=3),
    *rounds(3, run="c" * 64, noise_multiplier="2"),
    *rounds(2, run="d" * 64, mechanism="none", noise_multiplier="0"),
    *rounds(1, run="d" * 63 + "e", sampling_rate="0.5", adjacency="replace-one"),
    *rounds(4, run="e" * 64, population=OTHER),
]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with closing(Ledger.create(tmp_path / "ledger.db", SigningKey.generate())) as opened:
        for one in SPENDS:
            opened.charge(one, [WIDE], clock)
        yield opened


def overlap(holds: bool = True) -> OverlapRule:
    return OverlapRule(type="overlap", populations=sorted([POPULATION, OTHER]), holds=holds)


def test_entries_are_counted_by_population_and_run(ledger: Ledger) -> None:
    assert ledger.count() == ledger.length == len(SPENDS)
    assert ledger.count(population=OTHER) == 4
    assert ledger.count(run="c" * 64) == 3
    assert ledger.count(population=POPULATION, run="c" * 64) == 3
    assert ledger.count(population=OTHER, run="c" * 64) == 0


def test_sums_are_those_of_the_events_of_one_population_or_of_a_group(ledger: Ledger) -> None:
    own = [one for one in SPENDS if one.population == POPULATION]
    assert ledger.tally(POPULATION) == Tally.of(own)
    assert ledger.tally(OTHER) == Tally.of(rounds(4))
    assert ledger.tally(new_id()).empty
    ledger.rule(overlap(), clock)
    assert ledger.tally(POPULATION) == Tally.of(own)  # whatever overlaps it
    assert ledger.group(OTHER) == sorted([POPULATION, OTHER])


def test_a_rule_is_returned_as_it_is_kept(ledger: Ledger) -> None:
    made = [ledger.rule(overlap(), clock), ledger.rule(overlap(holds=False), clock)]
    assert [record for record, _ in ledger.rulings()] == made
    assert [(record.sequence, record.entries) for record in made] == [
        (number, len(SPENDS)) for number in range(2)
    ]
    assert made[1].previous == ledger.rulings()[0][1].hash


def test_a_refusal_says_whose_cap_and_how_many_populations(ledger: Ledger) -> None:
    def refusal() -> str:
        with pytest.raises(PolicyError) as caught:
            ledger.charge(spend(population=OTHER, round=4), [WIDE], clock)
        assert caught.value.code == "budget-exceeded"
        return caught.value.message

    cap = Cap(epsilon="0.1", delta="0.00001", non_private=True)
    ledger.rule(CapRule(type="cap", population=OTHER, cap=cap), clock)
    told = refusal()
    assert told.startswith(f"population {OTHER} has spent epsilon ")
    steward = ", set by this institution's steward"
    assert told.endswith(f"the cap is 0.1 at delta 0.00001 (add-remove){steward}")
    ledger.rule(overlap(), clock)
    told = refusal()
    assert told.startswith(f"population {OTHER} and 1 that overlap it has spent epsilon ")
    assert told.endswith(f"(replace-one){steward}")
