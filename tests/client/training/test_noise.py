"""The noise is Gaussian with the variance that is charged, and never repeats."""

import os

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from scipy import stats

from accord_client.training.noise import PAIRS, NoiseSource


def draw(size: int, std: float = 1.0, source: NoiseSource | None = None) -> np.ndarray:
    vector = np.zeros(size, np.float32)
    (source or NoiseSource()).add(vector, std)
    return vector


@pytest.mark.parametrize("std", [0.01, 3.7])
def test_the_noise_is_gaussian_with_the_given_deviation(std: float) -> None:
    """False alarms: 1e-6 for each test."""
    size = 300_001
    noise = draw(size, std).astype(np.float64) / std
    assert stats.kstest(noise, "norm").pvalue > 1e-6
    variance = np.sum(noise**2)  # chi-square with `size` degrees of freedom
    assert 5e-7 < stats.chi2.cdf(variance, size) < 1 - 5e-7
    assert abs(noise.mean()) < 4.9 / np.sqrt(size)
    assert abs(np.mean(noise**4) - 3) < 4.9 * np.sqrt(96 / size)
    assert 4 < np.abs(noise).max() < 8.6


def test_neither_halves_of_a_pair_nor_neighbours_depend_on_each_other() -> None:
    noise = draw(8 * PAIRS).astype(np.float64).reshape(4, 2, PAIRS)
    cosines, sines = noise[:, 0].ravel(), noise[:, 1].ravel()
    limit = 4.9 / np.sqrt(cosines.size)
    for left, right in ((cosines, sines), (cosines**2, sines**2), (cosines[1:], cosines[:-1])):
        assert abs(np.corrcoef(left, right)[0, 1]) < limit


@pytest.mark.parametrize("size", [1, 2, 3, 2 * PAIRS, 2 * PAIRS + 1, 4 * PAIRS - 1])
def test_every_coordinate_gets_its_own_noise_on_top_of_what_it_holds(size: int) -> None:
    vector = np.full(size, 1e6, np.float32)
    NoiseSource().add(vector, 1e5)
    noise = vector - np.float32(1e6)
    # float32 leaves coincidences: 0 about once in 4 million numbers, the same value more often.
    assert np.count_nonzero(noise) >= size - 3
    assert np.unique(noise).size > 0.9 * size
    exact = np.zeros(size)  # float64 leaves one in a million such vectors
    NoiseSource().add(exact, 1)
    assert np.unique(exact).size == size and exact.all()


def test_the_numbers_are_box_and_mullers_of_the_ciphers_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key = bytes(range(32))
    monkeypatch.setattr(os, "urandom", lambda count: key[:count])
    source, stream = NoiseSource(), Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor()
    for _ in range(2):
        found = np.zeros(6)
        source.add(found, 3.0)
        words = np.frombuffer(stream.update(bytes(6 * 8)), "<u8") >> np.uint64(11)
        radius, angle = np.sqrt(-2 * np.log((words[:3] + 1.0) / 2**53)), words[3:] / 2**53
        halves = [radius * wave(2 * np.pi * angle) for wave in (np.cos, np.sin)]
        assert np.allclose(found, 3 * np.concatenate(halves), rtol=1e-12, atol=0)


def test_no_stream_is_seen_twice() -> None:
    source = NoiseSource()
    first, second = draw(1000, source=source), draw(1000, source=source)
    other = draw(1000)
    for drawn in (second, other):  # two float32 in a million pairs are equal now and then
        assert np.isin(first, drawn).sum() < 10


def test_a_source_keeps_no_key() -> None:
    """What it holds is the cipher's own state and buffers, none of which can be set back."""
    source = NoiseSource()
    draw(10, source=source)
    assert set(vars(source)) == {"_stream", "_zeros", "_raw", "_first", "_second", "_cosines"}
