"""Orders, composition and both adjacencies, against closed forms and independent code."""

import logging
import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate

from accord_common.privacy.accounting import ORDERS, Tally, bounded_up, decimal_up, rdp
from accord_common.privacy.replacement import replace_one_rdp
from tests.common.privacy.spends import rounds, spend

MECHANISMS = [("1", "0.01"), ("0.5", "0.001"), ("2", "0.3"), ("4", "0.1"), ("20", "0.05")]


def one_step(noise: str, rate: str, adjacency: str = "add-remove") -> np.ndarray:
    return rdp([spend(noise_multiplier=noise, sampling_rate=rate, steps=1, adjacency=adjacency)])


@pytest.mark.parametrize("noise", ["0.7", "1", "5.25"])
def test_without_sampling_the_gaussian_has_its_closed_form(noise: str) -> None:
    plain = np.array(ORDERS) / (2 * float(noise) ** 2)
    np.testing.assert_allclose(one_step(noise, "1"), plain, rtol=1e-9)
    np.testing.assert_allclose(one_step(noise, "1", "replace-one"), 4 * plain, rtol=1e-9)


@pytest.mark.parametrize(("noise", "rate"), MECHANISMS)
def test_add_remove_agrees_with_opacus(noise: str, rate: str) -> None:
    from opacus.accountants.analysis.rdp import compute_rdp

    ours = one_step(noise, rate)
    theirs = np.array(
        compute_rdp(q=float(rate), noise_multiplier=float(noise), steps=1, orders=list(ORDERS))
    )
    whole = np.array([order.is_integer() for order in ORDERS])
    np.testing.assert_allclose(ours[whole], theirs[whole], rtol=1e-6, atol=2e-12)
    # dp-accounting drops the signs of its series at fractional orders: more, never less.
    assert np.all(ours >= theirs * (1 - 1e-9))
    assert np.all(ours[~whole] <= theirs[~whole] * 1.1 + 2e-12)


@pytest.mark.parametrize(("noise", "rate"), MECHANISMS)
@pytest.mark.parametrize("order", [2.0, 3.5, 8.0, 24.0, 93.0])
def test_replace_one_agrees_with_adaptive_quadrature(noise: str, rate: str, order: float) -> None:
    sigma, q = float(noise), float(rate)

    def log_mixture(x: float, mean: float) -> float:
        return float(
            np.logaddexp(
                math.log1p(-q) - x**2 / (2 * sigma**2),
                math.log(q) - (x - mean) ** 2 / (2 * sigma**2),
            )
        )

    def exponent(x: float) -> float:
        return order * log_mixture(x, 1.0) + (1 - order) * log_mixture(x, -1.0)

    grid = np.linspace(-20 * sigma, order + 20 * sigma, 4001)
    peak = max(exponent(x) for x in grid)
    top = float(grid[int(np.argmax([exponent(x) for x in grid]))])
    value, _ = integrate.quad(
        lambda x: math.exp(exponent(x) - peak),
        -20 * sigma,
        order + 20 * sigma,
        points=sorted({0.0, top, max(0.0, top - sigma), top + sigma}),
        limit=2000,
    )
    expected = (peak + math.log(value / (sigma * math.sqrt(2 * math.pi)))) / (order - 1)
    assert replace_one_rdp(sigma, q, [order])[0] == pytest.approx(expected, rel=1e-6, abs=1e-11)


@pytest.mark.parametrize("order", [40.0, 123.0, 512.0])
@pytest.mark.parametrize(("sigma", "q"), [(2.0, 1 - 1e-12), (5.0, 1 - 2**-53), (20.0, 0.999)])
def test_replace_one_is_not_cut_short_where_nearly_every_record_is_taken(
    sigma: float, q: float, order: float
) -> None:
    """The integrand's peak moves from `order` to 2 order - 1 as q nears 1."""
    x, step = np.linspace(-60 * sigma - order, 3 * order + 60 * sigma, 1 << 20, retstep=True)
    zero = math.log1p(-q) - x**2 / (2 * sigma**2)
    plus, minus = (math.log(q) - (x - mean) ** 2 / (2 * sigma**2) for mean in (1, -1))
    exponent = order * np.logaddexp(zero, plus) + (1 - order) * np.logaddexp(zero, minus)
    peak = exponent.max()
    value = np.exp(exponent - peak).sum() * step / (sigma * math.sqrt(2 * math.pi))
    expected = (peak + math.log(value)) / (order - 1)
    assert replace_one_rdp(sigma, q, [order])[0] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("noise", "rate"), [("1", "0.1"), ("3", "0.2")])
def test_no_pair_of_clipped_gradients_is_worse_than_the_opposite_pair(
    noise: str, rate: str
) -> None:
    """Two-dimensional gradients of norm at most 1, by a grid over the plane that they span."""
    sigma, q, order = float(noise), float(rate), 4.0
    axis = np.arange(-9 * sigma, 9 * sigma + order, sigma / 12)
    x, y = np.meshgrid(axis, axis - order / 2)

    def density(gx: float, gy: float) -> np.ndarray:
        kernel = np.exp(-(x**2 + y**2) / (2 * sigma**2))
        shifted = np.exp(-((x - gx) ** 2 + (y - gy) ** 2) / (2 * sigma**2))
        mixture: np.ndarray = (1 - q) * kernel + q * shifted
        return mixture / (2 * math.pi * sigma**2)

    p = density(1.0, 0.0)
    area = (sigma / 12) ** 2
    worst = replace_one_rdp(sigma, q, [order])[0]
    for norm in (0.3, 1.0):
        for angle in np.linspace(0, math.pi, 7):
            r = density(norm * math.cos(angle), norm * math.sin(angle))
            for a, b in ((p, r), (r, p)):
                inside = b > 1e-300
                moment = (a[inside] ** order * b[inside] ** (1 - order)).sum() * area
                assert math.log(moment) / (order - 1) <= worst * (1 + 1e-6)


@given(
    noise=st.floats(0.4, 50).map(lambda v: decimal_up(v)),
    rate=st.floats(0.0005, 0.999).map(lambda v: decimal_up(v)),
)
def test_replace_one_lies_between_add_remove_and_group_privacy(noise: str, rate: str) -> None:
    """Mironov 2017, Proposition 11 with c = 1: remove, then add, at twice the order."""
    logging.getLogger("absl").disabled = True  # orders that its series cannot do come out infinite
    orders = (2.0, 4.0, 8.0, 32.0, 123.0)
    single = [spend(noise_multiplier=noise, sampling_rate=rate, steps=1)]
    less = rdp(single, orders)
    exact = replace_one_rdp(float(noise), float(rate), orders)
    a = np.array(orders)
    twice = rdp(single, tuple(2 * a))
    group = (a - 0.5) / (a - 1) * twice + rdp(single, tuple(2 * a - 1))
    assert np.all(exact >= less - 3e-12)
    assert np.all(exact <= group + 1e-12)


def test_noise_too_small_to_matter_is_infinite_and_never_too_cheap() -> None:
    assert np.isinf(one_step("0.001", "0.5", "replace-one")).all()
    assert np.all(one_step("0.001", "0.5") > 1e5)
    assert np.all(one_step("0.000000000000000000000001", "0.5") > 1e5)
    assert np.all(one_step("1000", "0.0000001") > 0)


def test_the_sum_does_not_depend_on_order_or_split() -> None:
    whole = [spend(steps=600), spend(noise_multiplier="2", steps=50)]
    parts = [
        *rounds(5, noise_multiplier="2", steps=10),
        *rounds(60, steps=10),
    ]
    assert np.array_equal(rdp(whole), rdp(parts))
    assert np.array_equal(rdp(whole), rdp(reversed(parts)))
    assert Tally.of(parts[:7]) + Tally.of(parts[7:]) == Tally.of(whole)
    assert Tally.of(parts[5:6]).times(60) == Tally.of(parts[5:])
    assert Tally.of(whole).times(0) == Tally.of([])


def test_mixed_adjacencies_are_priced_at_the_stricter() -> None:
    mixed = [spend(adjacency="add-remove", steps=3), spend(adjacency="replace-one", steps=4)]
    assert Tally.of(mixed).adjacency == "replace-one"
    assert np.array_equal(rdp(mixed), rdp([spend(adjacency="replace-one", steps=7)]))


def test_releases_without_privacy_are_counted_apart_and_survive_every_sum() -> None:
    exposed = [
        spend(mechanism="none", noise_multiplier="0", adjacency="replace-one", round=number)
        for number in range(3)
    ]
    tally = Tally.of([spend(), *exposed])
    assert tally == Tally("add-remove", (("1", "0.01", 1000),), 3)
    assert Tally.of([spend()]) + Tally.of(exposed) == tally
    assert (rdp(tally) == rdp([spend()])).all()
    assert tally.private == Tally.of([spend()])


def test_a_tally_is_empty_where_nothing_was_released_with_or_without_privacy() -> None:
    assert Tally.of([]).empty
    assert not Tally.of([spend()]).empty
    assert not Tally.of([spend(mechanism="none", noise_multiplier="0")]).empty


def test_sums_of_private_events_alone_are_a_tally_of_private_events_alone() -> None:
    assert Tally.build({("1", "0.01"): 1000}, ["add-remove"]) == Tally.of([spend()])


def test_a_long_run_is_priced_in_well_under_a_second() -> None:
    spends = rounds(100, noise_multiplier="1.37", steps=50)
    start = time.perf_counter()
    for count in range(1, 101):
        rdp(spends[:count])
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize(
    ("value", "text"), [(1.00001, "1.0001"), (2.0, "2"), (0.0, "0"), (2.3999, "2.3999")]
)
def test_figures_are_rounded_up(value: float, text: str) -> None:
    assert float(decimal_up(value)) >= value
    assert decimal_up(value) in {text, decimal_up(value + 1e-9)}


@pytest.mark.parametrize(("value", "text"), [(1.03125, "1.0313"), (0.0000152587890625, "0.0001")])
def test_figures_have_four_places(value: float, text: str) -> None:
    assert decimal_up(value) == text  # these floats are exact decimals


@pytest.mark.parametrize(
    ("epsilon", "text"),
    [(1.03125, "1.0313"), (999999999999999.0, "999999999999999"), (1e15, None), (math.inf, None)],
)
def test_an_epsilon_is_rounded_up_as_far_as_a_records_decimal_holds_it(
    epsilon: float, text: str | None
) -> None:
    assert bounded_up(epsilon) == text


def test_the_orders_are_those_of_the_specification() -> None:
    assert len(ORDERS) == 25
    assert (ORDERS[0], ORDERS[-1]) == (2, 512)
    assert list(ORDERS) == sorted(set(ORDERS))


def test_what_rounding_may_hide_is_added_and_no_more() -> None:
    """A relative 1e-12, and 1e-12 in the exponential moment; exact here: a / 2 sigma^2."""
    orders = np.array(ORDERS)
    high = orders > 10
    loud, quiet = one_step("1", "1"), one_step("10000", "1")
    np.testing.assert_allclose((loud / (orders / 2) - 1)[high], 1e-12, rtol=0.1)
    added = (quiet - orders / 2e8) * (orders - 1)
    np.testing.assert_allclose(added[~high], 1e-12, rtol=0.01)
