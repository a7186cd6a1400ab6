"""Training a part: its gradients for each row, and the rest bit for bit as it was."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from accord_client.training.step import ClippedGradients
from accord_client.training.train import LocalPlan, train_round
from accord_common.manifest import Lora
from accord_common.models import architectures
from accord_common.models.adaptation import adapt, initial_part
from accord_common.models.flat import initial_vector, layout_of, set_vector, trainable
from accord_common.models.tabular import MulticlassClassification
from accord_common.tables import Encoded

TASK = MulticlassClassification()
PLAN = LocalPlan(
    steps=3,
    sampling_rate="0.5",
    population=60,
    clipping_norm="2",
    noise_multiplier="1.5",
    learning_rate="0.1",
)


def table(rows: int = 40) -> Encoded:
    random = np.random.default_rng(5)
    return Encoded(random.normal(0, 3, (rows, 6)).astype(np.float32), random.integers(0, 3, rows))


def adapted(frozen: list[str], lora: Lora | None) -> nn.Module:
    """An MLP of layers 0, 2 and 4, whose adapters have moved away from their start."""
    module = architectures.build("mlp", {"hidden": [7, 5]}, 6, 3)
    set_vector(module, initial_vector(module, 2))
    adapt(module, frozen, lora)
    part = initial_part(module, 3)
    part += np.random.default_rng(4).normal(0, 0.3, part.size).astype(np.float32)
    set_vector(module, part)
    return module


MODULES: dict[str, Callable[[], nn.Module]] = {
    "head": lambda: adapted(["0", "2"], None),
    "bias": lambda: adapted(["0.weight", "2", "4"], None),
    "lora": lambda: adapted(["4"], Lora(rank=2, layers=["0", "2"])),
    "lora-and-head": lambda: adapted(["2"], Lora(rank=3, layers=["0"])),
}
FROZEN = pytest.mark.parametrize("name", MODULES)


def row_gradient(module: nn.Module, data: Encoded, row: int) -> Tensor:
    """One row's gradient of what is trained, by plain autograd."""
    logits = module(torch.from_numpy(data.features[row : row + 1]))
    loss = TASK.losses(logits, torch.from_numpy(data.labels[row : row + 1])).sum()
    parameters = [parameter for _, parameter in trainable(module)]
    return torch.cat([part.flatten() for part in torch.autograd.grad(loss, parameters)])


@FROZEN
@pytest.mark.parametrize("clip", [0.05, 1000.0])
def test_each_rows_gradient_is_that_of_autograd_clipped_by_its_own_norm(
    name: str, clip: float
) -> None:
    module, data = MODULES[name](), table()
    rows = np.array([0, 3, 4, 17, 39])
    plain = [row_gradient(module, data, row) for row in rows]
    expected = [gradient * min(1.0, clip / float(gradient.norm())) for gradient in plain]
    with ClippedGradients(TASK, module, clip) as gradients:
        whole = gradients.sum(data, [rows]).copy()
        for row, own in zip(rows, expected, strict=True):
            alone = gradients.sum(data, [np.array([row])])
            assert np.allclose(alone, own.numpy(), rtol=1e-4, atol=1e-6)
    assert np.allclose(whole, torch.stack(expected).sum(0).numpy(), rtol=1e-4, atol=1e-5)
    assert whole.any()


@FROZEN
def test_frozen_numbers_are_the_same_bits_after_training(name: str) -> None:
    module = MODULES[name]()
    start = initial_part(module, 0)
    frozen = {
        key: value.detach().clone()
        for key, value in module.named_parameters()
        if not value.requires_grad
    }
    update = train_round(TASK, module, start, table(60), PLAN)
    assert update.size == layout_of(module).dimension < 102 and update.all()
    after = dict(module.named_parameters())
    assert frozen and all(torch.equal(after[key], value) for key, value in frozen.items())
    assert all(after[key].grad is None for key in frozen)
