"""The filter against those who choose their next mechanism after seeing what is left."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from accord_common.fields import Adjacency
from accord_common.privacy.accounting import Tally, decimal_up
from accord_common.privacy.filter import Cap, RdpFilter
from accord_common.privacy.report import report_epsilon

MENU = [("0.7", "0.01"), ("1", "0.05"), ("2", "0.2"), ("5", "1")]  # noise multiplier, rate


def greedy(rule: RdpFilter, generator: random.Random, adjacency: Adjacency) -> Tally:
    """Spend whatever still fits, in steps that halve, until not one step of anything does."""
    spent, steps = Tally(adjacency, ()), 256
    while steps:
        choices = [Tally(adjacency, ((noise, rate, steps),)) for noise, rate in MENU]
        fitting = [choice for choice in choices if rule.fits(spent + choice)]
        if fitting:
            spent += generator.choice(fitting)
        else:
            steps //= 2
    return spent


@pytest.mark.soak(sample=2, full=40)
def test_what_adaptive_choices_spent_is_within_the_cap_by_pld(size: int, seed: int) -> None:
    generator = random.Random(seed)
    for number in range(size):
        cap = Cap(epsilon=str(generator.choice([2, 3, 8])), delta="0.00001")
        rule = RdpFilter(cap)
        spent = greedy(rule, generator, ("add-remove", "replace-one")[number % 2])
        assert not any(
            rule.fits(spent + Tally(spent.adjacency, ((noise, rate, 1),))) for noise, rate in MENU
        )
        assert 0.5 * float(cap.epsilon) < report_epsilon(spent, 1e-5) <= float(cap.epsilon)


def gaussian_delta(mu: float, epsilon: float) -> float:
    """Delta of Gaussian mechanisms with sum of (sensitivity / noise)^2 = mu^2: exact, and adaptive.

    Balle & Wang 2018, Theorem 8; Dong, Roth, Su 2022, Corollary 3.3.
    """
    below = epsilon / mu
    return float(norm.cdf(mu / 2 - below) - math.exp(epsilon) * norm.cdf(-mu / 2 - below))


@pytest.mark.soak
@given(
    st.lists(st.floats(0.5, 60), min_size=1, max_size=60),
    st.sampled_from(["0.3", "1", "3", "8"]),
    st.sampled_from(["0.001", "0.00001", "0.0000001"]),
)
def test_gaussians_of_any_choice_keep_the_exact_bound(
    noises: list[float], epsilon: str, delta: str
) -> None:
    rule, spent, squares = RdpFilter(Cap(epsilon=epsilon, delta=delta)), Tally.of([]), 0.0
    for noise in map(decimal_up, noises):
        more = spent + Tally("add-remove", ((noise, "1", 1),))
        if rule.fits(more):
            spent, squares = more, squares + 1 / float(noise) ** 2
    if squares:
        assert gaussian_delta(math.sqrt(squares), float(epsilon)) <= float(delta)
