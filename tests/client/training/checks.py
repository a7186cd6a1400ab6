"""What a round must do, as functions that look at `train_round` from outside.

Each raises AssertionError where the engine breaks its word; `test_planted_bugs` holds each to the
honest engine and to broken ones. Statistics have a fixed size, and thresholds at which an honest
engine fails less than once in a million runs of a check: chi-square tails of 1e-7 on each side,
or six standard deviations (2e-9) of counts that are close to normal, so that what they are off by
does not matter.
"""

from collections.abc import Iterable
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import nn

from accord_client.training import train
from accord_client.training.step import ClippedGradients
from accord_client.training.train import LocalPlan
from accord_common.models import architectures
from accord_common.models.flat import initial_vector, set_vector
from accord_common.models.tabular import BinaryClassification
from accord_common.tables import Encoded
from tests.client.training.oracle import distance, row_by_row

TASK = BinaryClassification()
TAIL = 1e-7  # on each side of a chi-square
DEVIATIONS = 6.0
SIGMA, CLIP = 1.5, 2.0


def plan(**changes: object) -> LocalPlan:
    """Three steps on about half of 60 rows, with the constants above."""
    fields: dict[str, object] = {
        "steps": 3,
        "sampling_rate": "0.5",
        "population": 60,
        "clipping_norm": str(CLIP),
        "noise_multiplier": str(SIGMA),
        "learning_rate": "0.1",
    }
    return LocalPlan(**(fields | changes))  # type: ignore[arg-type]  # names as above


def table(rows: int = 60) -> Encoded:
    """Four features, of which the first decides."""
    features = np.random.default_rng(0).normal(size=(rows, 4)).astype(np.float32)
    return Encoded(features, (features[:, 0] > 0).astype(np.int64))


def check_noise(device: str = "cpu") -> None:
    """Each coordinate of an update without rows is N(0, K (sigma C lr / (q N))^2), no other's."""
    tiny = "0.00000000001"  # no row is ever sampled at this rate, which the learning rate undoes
    module = architectures.build("mlp", {"hidden": [3000]}, 4, 1)
    update = train.train_round(
        TASK,
        module,
        initial_vector(module, 0),
        table(),
        plan(sampling_rate=tiny, learning_rate=tiny),
        device=torch.device(device),
    )
    unit = update.astype(np.float64) / (np.sqrt(3) * SIGMA * CLIP / 60)
    degrees = update.size  # 18,001
    chance = stats.chi2.cdf(np.sum(unit**2), degrees)
    assert TAIL < chance < 1 - TAIL, f"the noise has {np.mean(unit**2):.2f} times its variance"
    assert stats.kstest(unit, "norm").pvalue > TAIL, "the noise is not Gaussian"


def check_clipping() -> None:
    """A sum is that of rows clipped one by one, of which every other is longer than C."""
    module = architectures.build("mlp", {"hidden": [7]}, 4, 1)
    set_vector(module, initial_vector(module, 0))
    data, rows = table(40), np.arange(40)
    data.features[::2] *= 50
    with ClippedGradients(TASK, module, 0.5) as gradients:
        found = gradients.sum(data, [rows])
    error = distance(found, row_by_row(TASK, module, data, rows, 0.5))
    assert error <= 1e-5, f"the sum is {error:.2g} off that of rows clipped one by one"


def check_divisor(rows: int = 60, device: str = "cpu") -> None:
    """With all rows, a huge clip and no noise to speak of: gradient descent over the public q N."""
    data = table(rows)
    update = train.train_round(
        TASK,
        architectures.build("logistic-regression", {}, 4, 1),
        np.zeros(5, np.float32),
        data,
        plan(sampling_rate="1", population=100, clipping_norm="1000", noise_multiplier="1e-9"),
        device=torch.device(device),
    )
    design, expected = np.hstack([data.features, np.ones((rows, 1))]), np.zeros(5)
    for _ in range(3):
        probability = 1 / (1 + np.exp(-design @ expected))
        expected -= 0.1 / 100 * design.T @ (probability - data.labels)
    assert np.allclose(update, expected, atol=1e-5), "the divisor is not the public q N"


def check_sampling() -> None:
    """Every row is in every step by a draw of its own, with probability q.

    Over K steps on N rows: how many draws hit, how batch sizes vary, how often each row takes part,
    and how many rows two neighbouring steps share.
    """
    population, steps, rate = 2000, 200, 0.1
    taken = np.array(_taken(population, steps, str(rate)), np.float64)  # (K, N), 0 or 1
    variance = rate * (1 - rate)
    hits = (taken.sum() - taken.size * rate) / np.sqrt(taken.size * variance)
    assert abs(hits) < DEVIATIONS, f"rows are sampled at {taken.mean():.4f}, not at q = {rate}"
    for axis, draws, what in ((1, population, "batch sizes"), (0, steps, "rows' shares in steps")):
        counts = taken.sum(axis)
        spread = np.sum((counts - draws * rate) ** 2) / (draws * variance)
        chance = stats.chi2.cdf(spread, counts.size)
        assert TAIL < chance < 1 - TAIL, f"{what} vary {spread / counts.size:.2f} times as they may"
    shared = np.sum(taken[1:] * taken[:-1])
    pairs, overlaps = (steps - 1) * (rate**2 - rate**4), 2 * (steps - 2) * (rate**3 - rate**4)
    expected = (steps - 1) * population * rate**2
    off = (shared - expected) / np.sqrt(population * (pairs + overlaps))
    assert abs(off) < DEVIATIONS, f"neighbouring steps share {shared / expected:.2f} times as many"


def _taken(population: int, steps: int, rate: str) -> list[NDArray[np.bool_]]:
    """Which rows each step of a round asked gradients of."""
    asked: list[NDArray[np.bool_]] = []

    class Asked(ClippedGradients):
        def sum(self, table: Encoded, groups: Iterable[NDArray[np.int64]]) -> NDArray[np.float64]:
            marks = np.zeros(table.rows, np.bool_)
            for rows in groups:
                assert not marks[rows].any(), "a row is in a step twice"
                marks[rows] = True
            asked.append(marks)
            return np.zeros(2)

    with patch.object(train, "ClippedGradients", Asked):
        train.train_round(
            TASK,
            nn.Linear(1, 1),
            np.zeros(2, np.float32),
            Encoded(np.zeros((population, 1), np.float32), np.zeros(population, np.int64)),
            plan(steps=steps, sampling_rate=rate, population=population),
        )
    return asked
