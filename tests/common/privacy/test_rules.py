"""The steward's rules, applied in their order."""

import pytest

from accord_common.errors import FormatError
from accord_common.fields import new_id
from accord_common.privacy.events import NO_PREDECESSOR
from accord_common.privacy.filter import Cap
from accord_common.privacy.rules import LEDGER_RULE, CapRule, LedgerRule, OverlapRule, Rules

A, B, C, D = sorted(new_id() for _ in range(4))
LOW, HIGH = (Cap(epsilon=epsilon, delta="0.00001") for epsilon in ("1", "2"))


def of(*rules: CapRule | OverlapRule) -> Rules:
    return Rules.of(
        LedgerRule(
            sequence=number,
            previous=NO_PREDECESSOR,
            entries=0,
            rule=rule,
            recorded="2026-01-31T12:00:00Z",
        )
        for number, rule in enumerate(rules)
    )


def cap(population: str, cap: Cap | None) -> CapRule:
    return CapRule(type="cap", population=population, cap=cap)


def overlap(*pair: str, holds: bool = True) -> OverlapRule:
    return OverlapRule(type="overlap", populations=list(pair), holds=holds)


def test_a_later_cap_replaces_and_null_removes() -> None:
    rules = of(cap(A, LOW), cap(B, LOW), cap(A, HIGH), cap(B, None), cap(C, None))
    assert rules.caps == {A: HIGH}
    assert rules.caps_of([A, B]) == [HIGH] and rules.caps_of([B]) == []


def test_overlaps_hold_until_they_are_taken_back() -> None:
    rules = of(overlap(A, C), overlap(A, B), overlap(B, D), overlap(A, C, holds=False))
    assert rules.overlaps == {(A, B), (B, D)}
    assert rules.group(D) == [A, B, D] and rules.group(C) == [C]
    assert of(overlap(A, B, holds=False)).overlaps == frozenset()


def test_a_pair_is_two_populations_in_order() -> None:
    assert overlap(A, B).populations == [A, B]
    for wrong in ([A, A], [B, A], [A], [A, B, C]):
        with pytest.raises(FormatError) as caught:
            OverlapRule.from_json({"type": "overlap", "populations": wrong, "holds": True})
        assert caught.value.code == "bad-record"


def test_the_envelopes_kind_is_the_specs() -> None:
    assert LEDGER_RULE == "ledger-rule"
