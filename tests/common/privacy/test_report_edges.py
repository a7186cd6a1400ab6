"""Where the report's figures stop: the tolerance between accountants, and what none can bound."""

import pytest

from accord_common.errors import VerificationError
from accord_common.privacy import report, words
from accord_common.privacy.filter import Cap, RdpFilter
from accord_common.privacy.report import (
    bounded_epsilon,
    fixed_plan_epsilon,
    prv_check,
    report_epsilon,
)
from tests.common.privacy.spends import spend

DELTA = 1e-5
RULE = RdpFilter(Cap(epsilon="0", delta="0.00001"))


@pytest.mark.parametrize(
    ("steps", "off", "agrees"),
    # Epsilon 1.83, of which 2 % are .0366, and .15, of which they are less than .01.
    [(1000, 0.03, True), (1000, 0.04, False), (1, 0.009, True), (1, 0.011, False)],
)
def test_the_tolerance_is_two_per_cent_or_a_hundredth(steps: int, off: float, agrees: bool) -> None:
    plan = [spend(steps=steps)]

    class Near:
        history: list[tuple[float, float, int]]

        def get_epsilon(self, delta: float, *, eps_error: float) -> float:
            assert eps_error < 0.01 / 4  # PRV's own error does not use the tolerance up
            return report_epsilon(plan, delta) + off

    if agrees:
        assert prv_check(plan, DELTA, Near()) == pytest.approx(report_epsilon(plan, DELTA) + off)
    else:
        with pytest.raises(VerificationError) as caught:
            prv_check(plan, DELTA, Near())
        assert caught.value.code == "accountants-disagree"


def test_a_figure_that_the_report_cannot_bound_is_the_filters() -> None:
    small = "0.000000000000000000001"
    plan = [spend(noise_multiplier="4", sampling_rate="0.1", steps=10)]
    assert report_epsilon(plan, float(small)) == float("inf")
    assert bounded_epsilon(plan, small) == RdpFilter(Cap(epsilon="0", delta=small)).epsilon(plan)
    assert bounded_epsilon(plan, "0.00001") == report_epsilon(plan, DELTA)


def test_events_that_a_stranger_made_up_have_figures_too() -> None:
    """An auditor reads a file that somebody else wrote: no figure takes minutes, none ends it."""
    endless = [spend(noise_multiplier="1000000000", sampling_rate="0.001", steps=2**53 - 1)]
    assert bounded_epsilon(endless, "0.00001") == RULE.epsilon(endless) < float("inf")
    faint = RULE.epsilon([spend(noise_multiplier="0." + "0" * 23 + "1")])
    assert 1e40 < faint < float("inf") and words.figure(faint) == "infinity"


def test_the_report_prices_ten_million_steps_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    dear = [spend(noise_multiplier="1000000", sampling_rate="1", steps=10_000_001)]
    assert bounded_epsilon(dear, "0.00001") == RULE.epsilon(dear)
    monkeypatch.setattr(report, "_MOST_STEPS", 1000)  # what ten million cost is seconds
    assert bounded_epsilon([spend(steps=1000)], "0.00001") == report_epsilon([spend()], DELTA)


def test_a_fixed_plan_has_the_reports_figure_as_far_as_a_cap_may_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert fixed_plan_epsilon([spend()], "0.00001") == report_epsilon([spend()], DELTA)
    loud = [spend(noise_multiplier="0.5", sampling_rate="1", steps=21)]
    filters = RdpFilter(Cap(epsilon="0", delta="0.000002")).epsilon(loud)
    assert fixed_plan_epsilon(loud, "0.000002") == filters
    assert 100 < filters < 101
    monkeypatch.setattr(report, "HIGHEST_CAP", RULE.epsilon([spend()]))
    assert fixed_plan_epsilon([spend()], "0.00001") == report_epsilon([spend()], DELTA)
