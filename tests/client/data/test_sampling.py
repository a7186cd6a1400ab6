"""Poisson samples: each row on its own, with probability q."""

import os
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from accord_client.data.sampling import BLOCK, PoissonSampler, by_lot
from accord_common.errors import AccordError


def words(*values: int) -> Callable[[int], bytes]:
    """Random bytes that are these 64-bit words, over and over."""
    data = b"".join(value.to_bytes(8, "little") for value in values)
    return lambda count: (data * (count // len(data) + 1))[:count]


def test_a_row_is_sampled_when_its_word_lies_below_the_threshold() -> None:
    half = 1 << 63
    sampler = PoissonSampler("0.5", 8, random=words(0, half - 1, half, 2**64 - 1))
    assert sampler.draw().tolist() == [0, 1, 4, 5]


def test_extreme_rates() -> None:
    assert PoissonSampler("1", 3, random=words(2**64 - 1)).draw().tolist() == [0, 1, 2]
    rare = PoissonSampler("0.00000000000000000006", 3, random=words(0, 1, 2))  # just above 2^-64
    assert rare.draw().tolist() == [0]
    assert PoissonSampler("0.5", 3, random=words(2**64 - 1)).draw().tolist() == []
    assert PoissonSampler("0.5", 0).draw().tolist() == []
    for rate in ("0", "-0.1", "1.01", "0.00000000000000000005"):
        with pytest.raises(AccordError, match=r"\[bad-sampling-rate"):
            PoissonSampler(rate, 3)


def test_each_row_has_its_own_words_across_blocks() -> None:
    drawn = []

    def random(count: int) -> bytes:
        drawn.append(count)
        return os.urandom(count)

    rows = PoissonSampler("0.5", 2 * BLOCK + 10, random=random).draw()
    assert sum(drawn) == 8 * (2 * BLOCK + 10)
    assert np.all(np.diff(rows) > 0)
    assert rows[-1] < 2 * BLOCK + 10
    assert np.intersect1d(rows, np.arange(BLOCK, 2 * BLOCK)).size > BLOCK // 3


def test_inclusion_rates_and_batch_sizes_are_binomial() -> None:
    """False alarms: 1e-6 for each of three tests."""
    rate, rows, draws = 0.3, 50, 4000
    sampler = PoissonSampler(str(rate), rows)
    included = np.zeros((draws, rows), bool)
    for step in range(draws):
        included[step, sampler.draw()] = True
    deviations = (included.mean(0) - rate) / np.sqrt(rate * (1 - rate) / draws)
    assert stats.chi2.sf(np.sum(deviations**2), rows) > 1e-6
    sizes = included.sum(1)
    variance = rows * rate * (1 - rate)
    assert stats.norm.sf(abs(sizes.mean() - rows * rate) / np.sqrt(variance / draws)) > 5e-7
    # Neither a fixed batch size nor dependent rows have this variance.
    assert abs(sizes.var(ddof=1) / variance - 1) < 4.9 * np.sqrt(2 / draws)


def test_batches_of_no_rows_happen_as_often_as_they_should() -> None:
    sampler = PoissonSampler("0.1", 10)
    empty = sum(sampler.draw().size == 0 for _ in range(2000))
    assert stats.binomtest(empty, 2000, 0.9**10).pvalue > 1e-6


def test_a_row_more_changes_its_own_group_alone() -> None:
    rows, lots = np.arange(1000, 3000), os.urandom(8 * 2000)
    without = rows[rows != 1500]
    before = by_lot(rows, 7, random=lambda count: lots[:count])
    after = by_lot(without, 7, random=lambda _: lots[: 8 * 500] + lots[8 * 501 :])
    assert np.array_equal(np.sort(np.concatenate(before)), rows)
    assert len(before) == 7 and all(np.all(np.diff(group) > 0) for group in before)
    changed = [g for g in range(7) if not np.array_equal(before[g], after[g])]
    assert [np.setdiff1d(before[g], after[g]).tolist() for g in changed] == [[1500]]
    assert stats.chisquare([group.size for group in by_lot(np.arange(70_000), 7)]).pvalue > 1e-6
    assert [group.tolist() for group in by_lot(rows[:0], 3)] == [[], [], []]
    assert by_lot(rows, 1)[0] is rows
