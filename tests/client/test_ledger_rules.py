"""The steward's own caps and overlaps: in force at once, in every process, and kept for ever."""

import sqlite3
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accord_client.ledger import Ledger
from accord_common.errors import FormatError, PolicyError, VerificationError
from accord_common.fields import new_id
from accord_common.identity import SigningKey
from accord_common.privacy.accounting import Tally
from accord_common.privacy.filter import Cap, RdpFilter
from accord_common.privacy.rules import CapRule, OverlapRule, Rules
from tests.client.ledgers import WIDE, clock
from tests.common.privacy.spends import POPULATION, spend

LOW = Cap(epsilon="2.4", delta="0.00001")  # 300 steps of `spend` fit, 400 do not
OTHER, THIRD = new_id(), new_id()


def cap_rule(cap: Cap | None, population: str = POPULATION) -> CapRule:
    return CapRule(type="cap", population=population, cap=cap)


def overlap(one: str, other: str, holds: bool = True) -> OverlapRule:
    return OverlapRule(type="overlap", populations=sorted([one, other]), holds=holds)


def refusal(ledger: Ledger, **changes: object) -> str:
    with pytest.raises(PolicyError) as caught:
        ledger.charge(spend(**changes), [WIDE], clock)
    assert caught.value.code == "budget-exceeded"
    with pytest.raises(PolicyError):
        ledger.check([spend(**changes)], [WIDE])
    return caught.value.message


def test_the_stewards_cap_holds_beside_the_agreements(ledger: Ledger) -> None:
    ledger.charge(spend(steps=250), [WIDE], clock)
    ledger.rule(cap_rule(LOW), clock)
    message = refusal(ledger, round=1, steps=200)
    assert "the cap is 2.4 at delta 0.00001" in message and "steward" in message
    ledger.charge(spend(round=1, steps=800, population=new_id()), [WIDE], clock)  # other people
    ledger.charge(spend(round=2, steps=50), [WIDE], clock)  # what fits, fits
    tighter = Cap(epsilon="0.5", delta="0.00001")
    with pytest.raises(PolicyError) as caught:  # an agreement's tighter cap is not loosened
        ledger.charge(spend(round=3, steps=1), [tighter], clock)
    assert "the cap is 0.5" in caught.value.message


@given(
    agreed=st.sampled_from(("0.5", "1.5", "2.4", "3")),
    own=st.sampled_from(("0", "0.5", "1.5", "2.4", "3", "1000")),
    before=st.integers(0, 400),
    steps=st.integers(1, 400),
)
def test_the_tightest_cap_holds_whichever_it_is(
    agreed: str, own: str, before: int, steps: int
) -> None:
    """Whoever sets which: what one cap refuses stays refused, and no other refuses anything."""
    caps = [Cap(epsilon=epsilon, delta="0.00001") for epsilon in (agreed, own)]
    tightest = min(caps, key=lambda cap: Decimal(cap.epsilon))
    with TemporaryDirectory() as folder:
        with closing(Ledger.create(Path(folder) / "ledger.db", SigningKey.generate())) as ledger:
            if before:
                ledger.charge(spend(steps=before), [WIDE], clock)
            ledger.rule(cap_rule(caps[1]), clock)
            wanted = [spend(round=1, steps=steps)]
            total = Tally.of([spend(steps=before + steps)])
            try:
                ledger.check(wanted, caps[:1])
                ledger.charge(wanted[0], caps[:1], clock)
                allowed = True
            except PolicyError as error:
                assert error.code == "budget-exceeded"
                allowed = False
            assert allowed == RdpFilter(tightest, ledger.orders).fits(total)


def test_a_cap_below_what_is_spent_stops_everything_until_it_is_raised(ledger: Ledger) -> None:
    ledger.charge(spend(steps=900), [WIDE], clock)
    ledger.rule(cap_rule(Cap(epsilon="0", delta="0.00001")), clock)
    refusal(ledger, round=1, steps=1)
    ledger.rule(cap_rule(None), clock)
    ledger.charge(spend(round=1, steps=1), [WIDE], clock)
    kept = [(record.rule, record.entries) for record, _ in ledger.rulings()]
    assert [entries for _, entries in kept] == [1, 1]
    assert isinstance(kept[0][0], CapRule) and kept[0][0].cap is not None  # noted for ever


def test_a_cap_that_another_process_sets_holds_for_the_next_charge(
    ledger: Ledger, path: Path, key: SigningKey
) -> None:
    with closing(Ledger.open(path, key)) as other:
        other.rule(cap_rule(Cap(epsilon="0.1", delta="0.00001")), clock)
    refusal(ledger)


def test_overlapping_populations_share_spends_and_caps(ledger: Ledger) -> None:
    one = spend(steps=250)
    ledger.charge(one, [WIDE], clock)
    elsewhere = {"population": OTHER, "round": 1, "steps": 250}
    ledger.rule(cap_rule(LOW), clock)
    ledger.check([spend(**elsewhere)], [LOW])  # other people, as far as anybody said
    ledger.rule(overlap(POPULATION, OTHER), clock)
    assert "and 1 that overlap it" in refusal(ledger, **elsewhere)  # by the first one's own cap
    both = RdpFilter(WIDE).epsilon([one])
    assert ledger.epsilon(OTHER, WIDE.delta) == ledger.epsilon(POPULATION, WIDE.delta) == both
    ledger.rule(cap_rule(None), clock)
    with pytest.raises(PolicyError):
        ledger.charge(spend(**elsewhere), [LOW], clock)
    ledger.charge(spend(**elsewhere), [WIDE], clock)
    assert ledger.epsilon(OTHER, WIDE.delta) == RdpFilter(WIDE).epsilon([spend(steps=500)])
    ledger.rule(overlap(POPULATION, OTHER, holds=False), clock)
    assert ledger.epsilon(OTHER, WIDE.delta) == both


def test_a_check_of_several_overlapping_populations_sums_them(ledger: Ledger) -> None:
    plan = [spend(steps=250), spend(population=OTHER, round=1, steps=250)]
    ledger.check(plan, [LOW])
    ledger.rule(overlap(POPULATION, OTHER), clock)
    with pytest.raises(PolicyError):
        ledger.check(plan, [LOW])


def test_overlap_goes_through_others() -> None:
    rules = Rules({}, frozenset({(POPULATION, OTHER), (OTHER, THIRD)}))
    assert rules.group(THIRD) == sorted([POPULATION, OTHER, THIRD])
    alone = new_id()
    assert rules.group(alone) == [alone]
    for wrong in ([OTHER, OTHER], sorted([OTHER, THIRD], reverse=True), [OTHER]):
        with pytest.raises(FormatError):
            OverlapRule.from_json({"type": "overlap", "populations": wrong, "holds": True})


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("UPDATE rules SET payload = replace(payload, '2.4', '2.9')", "rule 0: the signature"),
        ("DELETE FROM rules WHERE sequence = 0", "rule 0 is numbered 1"),
    ],
)
def test_a_rule_is_never_changed_and_tampering_is_named(
    ledger: Ledger, path: Path, key: SigningKey, statement: str, named: str
) -> None:
    ledger.rule(cap_rule(LOW), clock)
    ledger.rule(overlap(POPULATION, OTHER), clock)
    ledger.verify({key.public})
    with closing(sqlite3.connect(path)) as db:
        with pytest.raises(sqlite3.IntegrityError):
            db.execute(statement)
        db.execute("DROP TRIGGER rules_never_changed")
        db.execute("DROP TRIGGER rules_never_removed")
        db.execute(statement)
        db.commit()
    with pytest.raises(VerificationError) as caught:
        ledger.verify({key.public})
    assert (caught.value.code, named in caught.value.message) == ("ledger-broken", True)
