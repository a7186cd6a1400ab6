"""Layouts, exact sums modulo 2^32, and the bound that no update exceeds."""

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from accord_common import vectors
from accord_common.errors import AccordError, UsageError
from accord_common.vectors import (
    Layout,
    dequantise,
    plain_bound,
    quantise,
    scale_for,
    update_bound,
)

LAYOUT = vectors.layout([("weight", [2, 3]), ("bias", [2]), ("temperature", [])])


def test_a_layout_places_every_coordinate() -> None:
    vector = np.arange(9, dtype=np.float32)
    arrays = LAYOUT.unflatten(vector)
    assert LAYOUT.dimension == 9
    assert arrays["weight"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert arrays["bias"].tolist() == [6, 7]
    assert arrays["temperature"].shape == ()
    assert np.array_equal(LAYOUT.flatten(arrays), vector)


def test_the_hash_names_order_names_and_shapes() -> None:
    # printf '[["weight",[2,3]],["bias",[2]],["temperature",[]]]' | sha256sum
    assert LAYOUT.hash == "282aa97cee77a12c2138ea46b61095bcc6f207a68f89955f89441dd19502b4cd"
    swapped = Layout((LAYOUT.entries[1], LAYOUT.entries[0], LAYOUT.entries[2]))
    assert swapped.hash != LAYOUT.hash


@pytest.mark.parametrize(
    "entries", [[], [("a", [2]), ("a", [2])], [("a", [0])], [("a", [1 << 31])]]
)
def test_impossible_layouts_are_refused(entries: list[tuple[str, list[int]]]) -> None:
    with pytest.raises(AccordError, match="bad-layout"):
        vectors.layout(entries)


def test_arrays_that_do_not_fit_are_refused() -> None:
    arrays = LAYOUT.unflatten(np.zeros(9, np.float32))
    with pytest.raises(AccordError, match=r"bad-arrays.*'bias'"):
        LAYOUT.flatten({name: array for name, array in arrays.items() if name != "bias"})
    with pytest.raises(AccordError, match=r"bad-arrays.*'bias'"):
        LAYOUT.flatten(arrays | {"bias": np.zeros(3, np.float32)})
    with pytest.raises(AccordError, match="bad-vector"):
        LAYOUT.unflatten(np.zeros(8, np.float32))


@given(
    bound=st.decimals("1e-20", "1e7", places=21).filter(lambda value: value > 0),
    contributors=st.integers(1, 50),
)
def test_the_scale_is_the_largest_power_of_two_that_cannot_overflow(
    bound: Decimal, contributors: int
) -> None:
    scale = scale_for(f"{bound:f}", contributors)
    total = contributors * Fraction(bound)
    assert scale.bit_count() == 1
    assert total * scale <= 2**31 - 1
    assert total * scale * 2 > 2**31 - 1 or scale == 2**52


@pytest.mark.parametrize(("bound", "contributors"), [("0", 1), ("-1", 1), ("3e9", 1), ("1", 0)])
def test_a_bound_without_a_scale_is_refused(bound: str, contributors: int) -> None:
    with pytest.raises(AccordError, match="bad-bound"):
        scale_for(bound, contributors)


@given(
    values=hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 7), st.integers(1, 40)),
        elements=st.floats(-3, 3, width=32),
    )
)
def test_the_sum_modulo_2_32_is_the_sum_of_the_rounded_numbers(
    values: np.ndarray[tuple[int, int], np.dtype[np.float32]],
) -> None:
    bound = "2.5"  # below some of the values, so clamping takes part
    contributors, _ = values.shape
    scale = scale_for(bound, contributors)
    total = np.zeros(values.shape[1], np.uint32)
    expected = np.zeros(values.shape[1], np.int64)
    for row in values:
        words, clamped = quantise(row, scale, bound)
        total += words
        expected += words.view(np.int32)
        error = words.view(np.int32) / scale - np.clip(row.astype(np.float64), -2.5, 2.5)
        # Half a step, or the one float32 step below the bound where a value was clamped.
        assert np.abs(error).max() <= max(0.5 / scale, 2.5 * 2**-23)
        above, near = np.abs(row) > 2.5, np.abs(row) >= 2.5 * (1 - 2**-23)
        assert np.count_nonzero(above) <= clamped <= np.count_nonzero(near)
    assert np.array_equal(total.view(np.int32), expected)
    assert np.array_equal(dequantise(total, scale), (expected / scale).astype(np.float32))


def test_extreme_sums_of_many_blocks_do_not_wrap() -> None:
    vector = np.full(vectors.BLOCK + 3, 1e30, np.float32)
    scale = scale_for("0.7", 50)
    words, clamped = quantise(vector, scale, "0.7")
    assert clamped == vector.size
    total = np.full_like(words, 0)
    for _ in range(50):
        total += words
    assert np.allclose(dequantise(total, scale), 35, rtol=1e-6)
    negative, _ = quantise(-vector, scale, "0.7")
    assert not (words + negative).any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_refused(value: float) -> None:
    vector = np.zeros(vectors.BLOCK * 2, np.float32)
    vector[-1] = value
    with pytest.raises(AccordError, match="not-finite"):
        quantise(vector, 1, "1")


def test_the_bound_without_privacy_is_that_of_all_steps_and_never_rounded_down() -> None:
    assert plain_bound(steps=40, learning_rate="0.5", clip="1") == "20"
    assert plain_bound(steps=3, learning_rate="0.3333333", clip="1.000001") == "1.00001"
    with pytest.raises(UsageError, match="bad-bound"):
        plain_bound(steps=1, learning_rate="0.0000000000000000001", clip="0.000001")


def test_the_update_bound_is_frozen() -> None:
    """Every machine must derive these digits, or nodes refuse the manifest."""
    bound = update_bound(
        steps=10,
        learning_rate="0.5",
        clip="1",
        noise_multiplier="4.5",
        sampling_rate="0.25",
        population=140,
        dimension=31,
    )
    assert bound == "8.50811"


@pytest.mark.parametrize(
    ("steps", "rate", "population"), [(1, 0.3, 40), (12, 0.05, 60), (3, 1, 20)]
)
def test_updates_exceed_the_bound_as_rarely_as_claimed(
    steps: int, rate: float, population: int
) -> None:
    """Worst case: every sampled row pushes the same coordinate by the whole clip."""
    failure_log2, trials, dimension = 4, 4000, 20
    sigma, lr, clip = 1.5, 0.1, 2.0
    bound = float(
        update_bound(
            steps=steps,
            learning_rate=str(lr),
            clip=str(clip),
            noise_multiplier=str(sigma),
            sampling_rate=str(rate),
            population=population,
            dimension=dimension,
            failure_log2=failure_log2,
        )
    )
    random = np.random.default_rng(7)
    rows = random.binomial(population, rate, (trials, steps)).sum(1)  # (trials,)
    noise = random.normal(0, sigma * clip, (trials, steps, dimension)).sum(1)  # (trials, d)
    worst = np.abs(clip * rows[:, None] + noise).max(1) * lr / (rate * population)
    assert np.mean(worst > bound) <= 2**-failure_log2
    assert bound <= 3 * np.median(worst)  # and it is not vacuous
