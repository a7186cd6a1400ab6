"""A round's update is what its constants say, and nothing of a round stays behind."""

import gc
from dataclasses import replace

import numpy as np
import psutil
import pytest
from scipy import stats

from accord_client.training.dry_run import dry_run
from accord_client.training.train import LocalPlan, train_round
from accord_common.errors import AccordError
from accord_common.models import architectures
from accord_common.models.flat import initial_vector
from accord_common.models.tabular import BinaryClassification
from accord_common.schema_file import from_document
from accord_common.tables import Encoded

TASK = BinaryClassification()
PLAN = LocalPlan(
    steps=3,
    sampling_rate="0.5",
    population=60,
    clipping_norm="2",
    noise_multiplier="1.5",
    learning_rate="0.1",
)
SCHEMA = from_document(
    {
        "name": "toy",
        "target": {"column": "y", "type": "binary"},
        "columns": [
            {"name": f"x{i}", "type": "number", "minimum": -1, "maximum": 1} for i in range(4)
        ],
    }
)


def table(rows: int = 60) -> Encoded:
    features = np.random.default_rng(0).normal(size=(rows, 4)).astype(np.float32)
    return Encoded(features, (features[:, 0] > 0).astype(np.int64))


def test_the_noise_of_an_update_has_the_variance_that_is_charged() -> None:
    """No row is ever sampled, so the update is noise alone: K steps, sigma C, lr / (q N)."""
    module = architectures.build("mlp", {"hidden": [300]}, 4, 1)
    plan = replace(PLAN, sampling_rate="0.00000000001", learning_rate="0.00000000001")
    vector = initial_vector(module, 0)
    update = train_round(TASK, module, vector, table(), plan).astype(np.float64)
    std = np.sqrt(3) * 1.5 * 2 * (1e-11 / (1e-11 * 60))
    statistic = np.sum((update / std) ** 2)
    assert 5e-7 < stats.chi2.cdf(statistic, update.size) < 1 - 5e-7
    assert stats.kstest(update / std, "norm").pvalue > 1e-6


def test_steps_are_gradient_descent_on_the_public_divisor() -> None:
    """With all rows, a huge clip and no noise to speak of: plain SGD over q N, not over n."""
    module = architectures.build("logistic-regression", {}, 4, 1)
    plan = replace(
        PLAN, sampling_rate="1", population=100, clipping_norm="1000", noise_multiplier="1e-9"
    )
    data, vector = table(), np.zeros(5, np.float32)
    update = train_round(TASK, module, vector, data, plan)
    design = np.hstack([data.features, np.ones((60, 1))])
    expected = np.zeros(5)
    for _ in range(3):
        probability = 1 / (1 + np.exp(-design @ expected))
        expected -= 0.1 / 100 * design.T @ (probability - data.labels)
    assert np.allclose(update, expected, atol=1e-5)
    assert not vector.any()  # the round's model is not changed


def test_an_update_is_new_every_time() -> None:
    module = architectures.build("logistic-regression", {}, 4, 1)
    first, second = (
        train_round(TASK, module, np.zeros(5, np.float32), table(), PLAN) for _ in "12"
    )
    assert np.all(first != second)


@pytest.mark.parametrize("value", ["0", "-1", "NaN"])
def test_a_plan_without_noise_is_refused(value: str) -> None:
    module = architectures.build("logistic-regression", {}, 4, 1)
    for plan in (replace(PLAN, clipping_norm=value), replace(PLAN, noise_multiplier=value)):
        with pytest.raises(AccordError, match="no-noise"):
            train_round(TASK, module, np.zeros(5, np.float32), table(), plan)


def test_a_model_of_another_size_is_refused() -> None:
    module = architectures.build("logistic-regression", {}, 4, 1)
    with pytest.raises(AccordError, match="bad-vector"):
        train_round(TASK, module, np.zeros(6, np.float32), table(), PLAN)


def test_a_hundred_rounds_leave_no_memory_behind() -> None:
    module = architectures.build("mlp", {"hidden": [200, 200]}, 4, 1)
    data, vector = table(), initial_vector(module, 0)
    process = psutil.Process()

    def lowest(count: int) -> int:
        """Resident bytes, the least after each ten of so many rounds: the allocator wanders."""
        seen: list[int] = []
        for _ in range(count // 10):
            for _ in range(10):
                train_round(TASK, module, vector, data, PLAN)
            gc.collect()
            seen.append(process.memory_info().rss)
        return min(seen)

    lowest(30)
    before = lowest(50)
    lowest(50)
    # One vector a round would be 16 MiB, one gradient 500.
    assert lowest(50) - before < 10 << 20


def test_a_dry_run_tells_time_memory_and_size() -> None:
    arguments: dict[str, object] = {"hidden": [8]}
    plan = replace(PLAN, steps=1000)
    outcome = dry_run(TASK, "mlp", arguments, SCHEMA, table(), plan)
    assert (outcome.rows, outcome.features, outcome.dimension) == (60, 4, 49)
    assert outcome.batch == 30
    assert 0.01 < outcome.seconds_per_round < 60
    assert outcome.peak_memory_bytes > 50 << 20
    with pytest.raises(AccordError, match="wrong-architecture"):
        dry_run(TASK, "cnn", {}, SCHEMA, table(), PLAN)
