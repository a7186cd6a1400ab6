"""A round's update is what its constants say, and nothing of a round stays behind."""

import gc
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import psutil
import pytest
import torch
from numpy.typing import NDArray

from accord_client.training import train
from accord_client.training.dry_run import dry_run
from accord_client.training.step import ClippedGradients
from accord_client.training.train import BLOCK, descend, train_round
from accord_common.errors import AccordError
from accord_common.models import architectures
from accord_common.models.flat import initial_vector
from accord_common.schema_file import from_document
from accord_common.tables import Encoded
from tests.client.training.checks import TASK, check_divisor, check_noise, plan, table
from tests.client.training.oracle import DEVICES

PLAN = plan()
SCHEMA = from_document(
    {
        "name": "toy",
        "target": {"column": "y", "type": "binary"},
        "columns": [
            {"name": f"x{i}", "type": "number", "minimum": -1, "maximum": 1} for i in range(4)
        ],
    }
)


@pytest.mark.parametrize("device", DEVICES)
def test_a_round_has_the_noise_that_is_charged_and_the_public_divisor(device: str) -> None:
    check_noise(device)
    check_divisor(device=device)
    check_divisor(rows=45, device=device)


def test_the_rounds_model_is_not_changed() -> None:
    module = architectures.build("logistic-regression", {}, 4, 1)
    vector = np.zeros(5, np.float32)
    assert train_round(TASK, module, vector, table(), PLAN).all()
    assert not vector.any()


def test_an_update_is_new_every_time() -> None:
    module = architectures.build("logistic-regression", {}, 4, 1)
    first, second = (
        train_round(TASK, module, np.zeros(5, np.float32), table(), PLAN) for _ in "12"
    )
    assert np.all(first != second)


@pytest.mark.parametrize("value", ["0", "-1", "NaN"])
def test_a_plan_without_noise_is_refused(value: str) -> None:
    module = architectures.build("logistic-regression", {}, 4, 1)
    for bad in (replace(PLAN, clipping_norm=value), replace(PLAN, noise_multiplier=value)):
        with pytest.raises(AccordError, match=r"\[no-noise"):
            train_round(TASK, module, np.zeros(5, np.float32), table(), bad)


def test_a_model_of_another_size_is_refused() -> None:
    module = architectures.build("logistic-regression", {}, 4, 1)
    for bad in (np.zeros(6, np.float32), np.zeros((5, 1), np.float32)):
        with pytest.raises(AccordError, match=r"\[bad-vector"):
            train_round(TASK, module, bad, table(), PLAN)


def test_a_step_is_cut_into_groups_by_its_public_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of some 256 rows each were the table as large as it says, whatever it is."""
    counts: list[int] = []

    class Counted(ClippedGradients):
        def sum(self, table: Encoded, groups: Iterable[NDArray[np.int64]]) -> NDArray[np.float64]:
            groups = list(groups)
            counts.append(len(groups))
            return super().sum(table, groups)

    monkeypatch.setattr(train, "ClippedGradients", Counted)
    module = architectures.build("logistic-regression", {}, 4, 1)
    for population in (60, 768, 2048):
        once = plan(steps=1, population=population)
        train_round(TASK, module, np.zeros(5, np.float32), table(), once)
    assert counts == [1, 2, 4]


def test_a_round_computes_in_float32_whatever_was_asked_for_before() -> None:
    module = architectures.build("logistic-regression", {}, 4, 1)
    torch.set_float32_matmul_precision("medium")
    torch.backends.cudnn.allow_tf32 = True
    train_round(TASK, module, np.zeros(5, np.float32), table(), PLAN)
    assert torch.get_float32_matmul_precision() == "highest"
    assert not torch.backends.cudnn.allow_tf32


def test_a_long_update_descends_block_by_block() -> None:
    random = np.random.default_rng(2)
    noised = random.normal(size=2 * BLOCK + 3)
    before = random.normal(size=noised.size).astype(np.float32)
    update = before.copy()
    descend(update, noised, 0.25)
    assert np.allclose(update, before - 0.25 * noised, atol=1e-6)


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
    long = replace(PLAN, steps=1000)
    outcome = dry_run(TASK, "mlp", arguments, SCHEMA, table(), long)
    assert (outcome.rows, outcome.features, outcome.dimension) == (60, 4, 49)
    assert outcome.batch == 30
    assert 0.01 < outcome.seconds_per_round < 60
    assert outcome.peak_memory_bytes > 50 << 20
    with pytest.raises(AccordError, match="wrong-architecture"):
        dry_run(TASK, "cnn", {}, SCHEMA, table(), PLAN)
