import math

import pytest
from pydantic import ValidationError

from accord_common.errors import PolicyError
from accord_common.fields import Adjacency
from accord_common.privacy.accounting import ORDERS, Tally, rdp
from accord_common.privacy.calibration import calibrate
from accord_common.privacy.filter import Cap, RdpFilter
from accord_common.privacy.report import report_epsilon
from tests.common.privacy.spends import rounds, spend

CAP = Cap(epsilon="3", delta="0.00001")


def test_epsilon_is_the_best_order_with_the_choice_paid_for() -> None:
    spends = rounds(4, steps=250)
    by_hand = min(
        rho + math.log(len(ORDERS) / 1e-5) / (order - 1)
        for order, rho in zip(ORDERS, rdp(spends), strict=True)
    )
    assert RdpFilter(CAP).epsilon(spends) == pytest.approx(by_hand, abs=1e-12)


def test_a_single_order_is_the_textbook_conversion() -> None:
    # q = 1: rho = a / (2 sigma^2) exactly, so epsilon = 8 / (2 * 16) + log(1e5) / 7.
    rule = RdpFilter(CAP, (8.0,))
    only = [spend(noise_multiplier="4", sampling_rate="1", steps=1)]
    assert rule.epsilon(only) == pytest.approx(0.25 + math.log(1e5) / 7, abs=1e-9)


@pytest.mark.parametrize("adjacency", ["add-remove", "replace-one"])
def test_the_filter_never_says_less_than_the_report(adjacency: Adjacency) -> None:
    for noise, rate, steps in [("1", "0.01", 1000), ("4", "0.1", 80), ("20", "0.1", 80)]:
        tally = Tally(adjacency, ((noise, rate, steps),))
        assert RdpFilter(CAP).epsilon(tally) > report_epsilon(tally, 1e-5)


@pytest.mark.parametrize(
    ("recorded", "of_the_cap", "counted"),
    [
        ("add-remove", None, "add-remove"),
        ("replace-one", None, "replace-one"),
        ("add-remove", "replace-one", "replace-one"),
        ("replace-one", "add-remove", "replace-one"),
    ],
)
def test_a_cap_counts_events_by_the_stricter_of_its_adjacency_and_theirs(
    recorded: Adjacency, of_the_cap: Adjacency | None, counted: Adjacency
) -> None:
    rule = RdpFilter(CAP.model_copy(update={"adjacency": of_the_cap}))
    assert rule.priced([spend(adjacency=recorded)]) == Tally.of([spend(adjacency=counted)])
    as_counted = RdpFilter(CAP).epsilon([spend(adjacency=counted)])
    assert rule.epsilon([spend(adjacency=recorded)]) == as_counted


def test_it_stops_at_the_cap_and_nothing_spent_is_nothing() -> None:
    rule = RdpFilter(CAP)
    assert rule.epsilon([]) == 0
    spends = rounds(200, noise_multiplier="1", steps=100)
    fitting = [count for count in range(1, 30) if rule.fits(spends[:count])]
    assert fitting == list(range(1, len(fitting) + 1))
    assert rule.epsilon(spends[: len(fitting)]) <= 3 < rule.epsilon(spends[: len(fitting) + 1])


def test_a_zero_cap_allows_nothing_but_nothing() -> None:
    rule = RdpFilter(Cap(epsilon="0", delta="0.00001"))
    assert rule.fits([])
    assert not rule.fits([spend(noise_multiplier="1000", steps=1)])


def test_a_release_without_privacy_costs_infinity_unless_the_cap_speaks_of_private_ones() -> None:
    private = [spend(noise_multiplier="4", sampling_rate="0.1", steps=80)]
    both = [*private, spend(mechanism="none", noise_multiplier="0")]
    strict, lenient = (
        RdpFilter(Cap(epsilon="5", delta="0.00001", non_private=permitted))
        for permitted in (False, True)
    )
    assert strict.fits(private) and not strict.fits(both)
    assert strict.epsilon(both) == math.inf
    assert 0 < lenient.epsilon(both) == strict.epsilon(private) < 5
    assert lenient.fits(both[1:]) and lenient.epsilon(both[1:]) == 0
    assert not strict.fits(both[1:])


@pytest.mark.parametrize(("epsilon", "delta"), [("-1", "0.1"), ("1", "0"), ("1", "1"), ("1", "2")])
def test_a_senseless_cap_is_refused(epsilon: str, delta: str) -> None:
    with pytest.raises(ValidationError):
        Cap(epsilon=epsilon, delta=delta)


@pytest.mark.parametrize("adjacency", ["add-remove", "replace-one"])
@pytest.mark.parametrize(
    ("epsilon", "rate", "steps"), [("2.4", "0.1", 80), ("0.5", "0.001", 2000), ("8", "1", 5)]
)
def test_calibrated_noise_just_fits(
    epsilon: str, rate: str, steps: int, adjacency: Adjacency
) -> None:
    noise = calibrate(epsilon, "0.00001", rate, steps, adjacency)
    rule = RdpFilter(Cap(epsilon=epsilon, delta="0.00001"))
    plan = [
        spend(noise_multiplier=noise, sampling_rate=rate, steps=1, round=r, adjacency=adjacency)
        for r in range(steps)
    ]
    assert rule.fits(plan)
    less = f"{float(noise) - 0.0001:.4f}".rstrip("0").rstrip(".")
    assert not rule.fits(Tally(adjacency, ((less, rate, steps),)))


def test_calibrated_noise_may_be_small() -> None:
    noise = calibrate("100", "0.00001", "0.01", 10, "add-remove")
    rule = RdpFilter(Cap(epsilon="100", delta="0.00001"))
    assert 0 < float(noise) < 0.5
    assert rule.fits(Tally("add-remove", ((noise, "0.01", 10),)))
    less = f"{float(noise) - 0.0001:.4f}"
    assert not rule.fits(Tally("add-remove", ((less, "0.01", 10),)))


def test_calibration_counts_what_was_spent_before() -> None:
    spent = Tally.of([spend(noise_multiplier="4", sampling_rate="0.1", steps=80)])
    fresh = calibrate("2.4", "0.00001", "0.1", 80, "add-remove")
    later = calibrate("2.4", "0.00001", "0.1", 80, "add-remove", spent=spent)
    assert float(later) > float(fresh)


def test_a_budget_that_no_noise_can_keep_is_refused() -> None:
    with pytest.raises(PolicyError) as caught:
        calibrate("0.001", "0.00001", "0.1", 80, "add-remove")
    assert caught.value.code == "budget-too-small"
    assert "0.001" in caught.value.message
