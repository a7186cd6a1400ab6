"""Sums are exact in every ring, narrow words are refused where they would show, no bias appears."""

from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from accord_common import rings, vectors
from accord_common.errors import AccordError
from accord_common.rings import Z16, Z32, Z64, Ring, dequantise, quantise, scale_for

RINGS = pytest.mark.parametrize("ring", [Z16, Z32, Z64], ids=lambda ring: f"{ring.bits}-bit")


@RINGS
@given(
    bound=st.decimals("1e-12", "500", places=12).filter(lambda value: value > 0),
    contributors=st.integers(1, 50),
)
def test_the_scale_is_the_largest_power_of_two_that_cannot_overflow(
    ring: Ring[Any], bound: Decimal, contributors: int
) -> None:
    scale = scale_for(f"{bound:f}", contributors, ring)
    total = contributors * Fraction(bound)
    assert scale.bit_count() == 1
    assert total * scale <= ring.max_sum
    assert total * scale * 2 > ring.max_sum or scale == 2**52


@RINGS
@pytest.mark.parametrize("stochastic", [False, True])
@given(
    values=hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 50), st.integers(1, 20)),
        elements=st.floats(-3, 3, width=32),
    )
)
def test_the_modular_sum_is_the_integer_sum(
    ring: Ring[Any], stochastic: bool, values: NDArray[np.float32]
) -> None:
    bound = "2.5"  # below some of the values, so clamping takes part
    contributors, dimension = values.shape
    scale = scale_for(bound, contributors, ring)
    total = np.zeros(dimension, ring.words)
    expected = [0] * dimension
    for row in values:
        words, clamped = quantise(row, scale, bound, ring, stochastic=stochastic)
        total += words
        numbers = [int(word) for word in words.view(ring.signed)]
        expected = [a + b for a, b in zip(expected, numbers, strict=True)]
        off = np.array(numbers) / scale - np.clip(row.astype(np.float64), -2.5, 2.5)
        step = 1.0 if stochastic else 0.5
        # The limit is the largest float32 whose steps fit: a step or 2^-23 below the bound.
        assert np.abs(off).max() <= max(step / scale, 2.5 * 2**-23)
        assert np.count_nonzero(np.abs(row) > 2.5) <= clamped
    assert [int(number) for number in total.view(ring.signed)] == expected
    exact = np.array([float(Fraction(number, scale)) for number in expected])
    assert np.allclose(dequantise(total, scale, ring), exact, rtol=2**-23, atol=0)


@RINGS
@pytest.mark.parametrize("stochastic", [False, True])
def test_the_largest_sums_of_many_blocks_do_not_wrap(ring: Ring[Any], stochastic: bool) -> None:
    vector = np.full(rings.BLOCK + 3, 1e30, np.float32)
    scale = scale_for("0.7", 50, ring)
    words, clamped = quantise(vector, scale, "0.7", ring, stochastic=stochastic)
    assert clamped == vector.size
    total = words * ring.words(50)
    assert np.allclose(dequantise(total, scale, ring), 35, rtol=2 / (0.7 * scale))
    negative, _ = quantise(-vector, scale, "0.7", ring, stochastic=stochastic)
    assert not (words + negative).any()


def test_the_32_bit_ring_is_the_one_that_runs_use() -> None:
    vector = np.random.default_rng(3).normal(0, 1, 1000).astype(np.float32)
    scale = vectors.scale_for("2.5", 7)
    assert scale == scale_for("2.5", 7, Z32)
    mine, clamped = quantise(vector, scale, "2.5", Z32)
    theirs, also = vectors.quantise(vector, scale, "2.5")
    assert clamped == also > 0
    assert np.array_equal(mine, theirs)
    assert np.array_equal(dequantise(mine, scale, Z32), vectors.dequantise(theirs, scale))


@pytest.mark.parametrize("ring", [Z16, Z32], ids=["16-bit", "32-bit"])
@pytest.mark.parametrize("stochastic", [False, True])
def test_words_that_are_no_wider_may_take_the_place_of_the_numbers(
    ring: Ring[Any], stochastic: bool
) -> None:
    vector = np.random.default_rng(4).normal(0, 2, rings.BLOCK + 77).astype(np.float32)
    vector = np.rint(vector) if stochastic else vector  # chance has no part in whole numbers
    words, clamped = quantise(vector, 4096, "3", ring, stochastic=stochastic)
    place = vector.view(ring.words)[: vector.size]
    same, also = quantise(vector, 4096, "3", ring, stochastic=stochastic, out=place)
    assert same is place
    assert np.array_equal(place, words)
    assert clamped == also > 0


@RINGS
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_refused(ring: Ring[Any], value: float) -> None:
    vector = np.zeros(rings.BLOCK * 2, np.float32)
    vector[-1] = value
    with pytest.raises(AccordError, match="not-finite"):
        quantise(vector, 1, "1", ring)


@RINGS
def test_a_bound_without_a_scale_is_refused(ring: Ring[Any]) -> None:
    for bound, contributors in (("0", 1), ("-1", 1), (str(ring.max_sum), 2), ("1", 0)):
        with pytest.raises(AccordError, match="bad-bound"):
            scale_for(bound, contributors, ring)


def test_16_bits_are_refused_below_four_steps_of_noise_and_no_other_ring_is() -> None:
    with pytest.raises(AccordError, match=r"coarse-ring.*3\.999"):
        rings.require_noise("3.999", 1, Z16)
    rings.require_noise("4", 1, Z16)
    rings.require_noise("0.015625", 256, Z16)
    rings.require_noise("0", 1, Z32)
    rings.require_noise("0", 1, Z64)
    assert rings.rounds_to_nearest("0.5", 8)
    assert not rings.rounds_to_nearest("0.5", 4)


@RINGS
@pytest.mark.parametrize("value", [0.25, -0.25, 100.0625, -0.984375])
def test_stochastic_rounding_has_no_bias(ring: Ring[Any], value: float) -> None:
    vector = np.full(400_000, value, np.float32)
    words, _ = quantise(vector, 1, "200", ring, stochastic=True)
    numbers = words.view(ring.signed).astype(np.float64)
    assert set(np.unique(numbers)) == {np.floor(value), np.ceil(value)}
    assert abs(numbers.mean() - value) < 6 * 0.5 / np.sqrt(vector.size)  # p below 1e-8


@RINGS
def test_stochastic_rounding_leaves_whole_numbers_and_is_never_the_same_twice(
    ring: Ring[Any],
) -> None:
    whole = np.arange(-500, 500).astype(np.float32)
    words, _ = quantise(whole, 1, "500", ring, stochastic=True)
    assert np.array_equal(words.view(ring.signed), whole)
    halves = whole[1:] - np.float32(0.5)
    first, _ = quantise(halves, 1, "500", ring, stochastic=True)
    second, _ = quantise(halves, 1, "500", ring, stochastic=True)
    assert not np.array_equal(first, second)


def test_rounding_to_nearest_has_no_bias_at_four_steps_of_noise() -> None:
    noise = np.random.default_rng(11).normal(0, 4, 1_000_000).astype(np.float32)
    shifted = noise + np.float32(0.25)
    words, _ = quantise(shifted, 1, "100", Z16)
    error = words.view(np.int16) - shifted.astype(np.float64)
    assert abs(error.mean()) < 6 * np.sqrt(1 / 12 / noise.size)


def test_the_noise_of_an_update_is_frozen_and_is_that_of_its_steps() -> None:
    noise = vectors.update_noise(
        steps=10,
        learning_rate="0.5",
        clip="1",
        noise_multiplier="4.5",
        sampling_rate="0.25",
        population=140,
    )
    assert noise == "0.203289"  # 0.5 / 35 * 4.5 * sqrt(10) = 0.20328927...
    drawn = np.random.default_rng(1).normal(0, 4.5, (10, 100_000)).sum(0) * 0.5 / (0.25 * 140)
    assert abs(float(drawn.std()) / float(noise) - 1) < 0.02
