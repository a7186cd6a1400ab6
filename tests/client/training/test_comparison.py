"""Figures of models side by side, and how sure they are."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from accord_client.training.alone import train_alone
from accord_client.training.comparison import score
from accord_common.models import architectures
from accord_common.models.tabular import BinaryClassification
from tests.client.training.checks import TASK, table
from tests.client.training.test_plain import PLAIN
from tests.client.training.test_train import PLAN

ROWS = 200


class Accuracy(BinaryClassification):
    """One cheap metric."""

    def metrics(self, logits: NDArray[np.float32], labels: NDArray[np.int64]) -> dict[str, float]:
        return {"accuracy": float(np.mean((logits[:, 0] > 0) == (labels == 1)))}


CHEAP = Accuracy()


def answers(share: float, seed: int) -> NDArray[np.float32]:
    """Logits that are right on about this share of the rows."""
    right = np.random.default_rng(seed).random(ROWS) < share
    return np.where(right == (LABELS == 1), 1, -1).astype(np.float32)[:, None]


LABELS = (np.arange(ROWS) % 2).astype(np.int64)
GOOD, FAIR = answers(0.9, 1), answers(0.7, 2)


def test_an_interval_is_that_of_so_many_rows() -> None:
    scored = score(CHEAP, {"good": [GOOD], "fair": [FAIR]}, LABELS)
    figure = scored.metrics("good")["accuracy"]
    assert figure.value == pytest.approx(np.mean((GOOD[:, 0] > 0) == (LABELS == 1)))
    width = 2 * 1.96 * np.sqrt(figure.value * (1 - figure.value) / ROWS)
    assert figure.high - figure.low == pytest.approx(width, rel=0.2)
    assert score(CHEAP, {"good": [GOOD]}, LABELS).values["good"] == scored.values["good"]


def test_a_difference_is_taken_on_the_same_rows() -> None:
    scored = score(CHEAP, {"good": [GOOD], "fair": [FAIR], "again": [GOOD]}, LABELS)
    gained = scored.difference("good", "fair")["accuracy"]
    assert gained.clear and gained.low > 0
    lost = scored.difference("fair", "good")["accuracy"]
    assert (lost.value, lost.low, lost.high) == (-gained.value, -gained.high, -gained.low)
    nothing = scored.difference("good", "again")
    assert {(item.value, item.low, item.high) for item in nothing.values()} == {(0, 0, 0)}
    assert not any(item.clear for item in nothing.values())


def test_the_chance_in_training_widens_what_the_rows_say() -> None:
    scored = score(CHEAP, {"one": [GOOD], "some": [GOOD, FAIR]}, LABELS)
    one, some = (scored.metrics(name)["accuracy"] for name in ("one", "some"))
    assert some.value == pytest.approx((one.value + scored_alone(FAIR)) / 2)
    assert some.high - some.low > 2 * (one.high - one.low)


def scored_alone(logits: NDArray[np.float32]) -> float:
    return float(np.mean((logits[:, 0] > 0) == (LABELS == 1)))


def test_training_alone_is_the_runs_steps_in_rounds() -> None:
    module = architectures.build("logistic-regression", {}, 4, 1)
    start, data = np.full(5, 0.25, np.float32), table()
    plan = replace(PLAIN, steps=2)
    apart = train_alone(TASK, module, start, data, plan, 3)
    together = train_alone(TASK, module, start, data, replace(plan, steps=6), 1)
    assert np.allclose(apart, together, atol=1e-6) and not np.allclose(apart, start, atol=1e-3)
    assert (start == 0.25).all()
    noisy = [train_alone(TASK, module, start, data, PLAN, 1) for _ in "12"]
    assert np.all(noisy[0] != noisy[1])
