"""What a clipped sum must be: one row at a time, by autograd, and by Opacus' hooks."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from accord_client.training import step
from accord_client.training.step import ClippedGradients
from accord_common.manifest import Clipping
from accord_common.models.flat import device_of
from accord_common.models.tabular import BinaryClassification
from accord_common.models.task import Task
from accord_common.tables import Encoded

# Where the engine is tried: each kind of device that torch finds here.
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
torch.backends.cudnn.allow_tf32 = False  # convolutions of 10 bits are no oracle

TASK = BinaryClassification()
ROWS = 12
LABELS = np.arange(ROWS) % 2
DATA = Encoded(np.random.default_rng(3).normal(0, 2, (ROWS, 24)).astype(np.float32), LABELS)


def trainable(module: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def gradient_of(task: Task, module: nn.Module, data: Encoded, row: int) -> Tensor:
    """One row's gradient by all trainable parameters, (d,)."""
    device = device_of(module)
    features = torch.from_numpy(data.features[[row]]).to(device)
    labels = torch.from_numpy(data.labels[[row]]).to(device)
    loss = task.losses(module(features), labels).sum()
    parts = torch.autograd.grad(loss, trainable(module), allow_unused=True, materialize_grads=True)
    return torch.cat([part.flatten() for part in parts]).cpu()


def row_by_row(
    task: Task,
    module: nn.Module,
    data: Encoded,
    rows: NDArray[np.int64],
    clip: float,
    clipping: Clipping = "flat",
) -> NDArray[np.float64]:
    """Sum of clipped g_i over rows with a finite gradient, one row at a time.

    Flat: min(1, C / |g|) g. Automatic: C g / (|g| + 0.01).
    """
    total = torch.zeros(sum(p.numel() for p in trainable(module)), dtype=torch.float64)
    for row in rows:
        gradient = gradient_of(task, module, data, int(row)).double()
        if gradient.isfinite().all():
            norm = float(gradient.norm())
            flat = min(1.0, clip / max(norm, 1e-300))
            total += gradient * (flat if clipping == "flat" else clip / (norm + 0.01))
    return total.numpy()


def clipped(
    task: Task,
    module: nn.Module,
    data: Encoded,
    rows: NDArray[np.int64],
    clip: float,
    clipping: Clipping = "flat",
) -> NDArray[np.float64]:
    """The sum as the product computes it."""
    with ClippedGradients(task, module, clip, clipping) as gradients:
        return gradients.sum(data, [rows])


@contextmanager
def opacus_only() -> Iterator[None]:
    """As if no layer had a rule."""
    with patch.object(step, "layer_without_rule", lambda module: module):
        yield


def distance(one: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    """Relative L2 error of `one`."""
    return float(np.linalg.norm(one - other) / max(float(np.linalg.norm(other)), 1e-30))
