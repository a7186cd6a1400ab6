"""What clipping each row's gradient costs: rows `dpstep-mlp` and `dpstep-cnn`, one thread.

Measured: one training step on 256 rows, from picking the rows to new weights in the module:
forward, norms, clipping, update. Noise is timed by itself, in the same run.

Held against, in turns in the same process:
- plain torch's step on the same rows: forward, backward, `torch.optim.SGD`; and again with pooling
  turned over as the product does (`same_layout_ratio`), which torch does not do of itself;
- the same clipped step with Opacus' hooks, which are also the oracle of `relative_error`.

Seconds are CPU seconds of this process: the work waits for nothing, so on an idle machine that is
the time on the clock, and on a busy one the figures remain comparable. Medians.
"""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from copy import deepcopy
from functools import partial
from statistics import median
from time import process_time

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from accord_client.training.noise import NoiseSource
from accord_client.training.pooling import pool_channels_last
from accord_client.training.step import ClippedGradients
from accord_client.training.train import descend
from accord_common.models import architectures
from accord_common.models.flat import initial_vector, set_vector
from accord_common.models.tabular import MulticlassClassification
from accord_common.tables import Encoded
from tests.benchmarks.row import Row
from tests.client.training.oracle import opacus_only

BATCH, CLASSES, PIXELS = 256, 10, 28
TABLE = 1024  # rows that batches are drawn from
RATE = 1e-3
CLIP = 12.0  # shorter than every gradient of the MLP, and than half of the CNN's
TASK = MulticlassClassification()


def mlp() -> nn.Module:
    """669,706 parameters."""
    return architectures.build("mlp", {"hidden": [512, 512]}, PIXELS**2, CLASSES)


def cnn() -> nn.Module:
    """26,010 parameters: the network of Opacus' MNIST example (Tramer & Boneh 2021, table 8)."""
    return nn.Sequential(
        nn.Unflatten(1, (1, PIXELS, PIXELS)),
        nn.Conv2d(1, 16, 8, 2, padding=3),  # (B, 16, 14, 14)
        nn.Tanh(),
        nn.MaxPool2d(2, 1),
        nn.Conv2d(16, 32, 4, 2),  # (B, 32, 5, 5)
        nn.Tanh(),
        nn.MaxPool2d(2, 1),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 32),
        nn.Tanh(),
        nn.Linear(32, CLASSES),
    )


def run() -> Iterator[Row]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield measure("dpstep-mlp", mlp, turns=3)
        yield measure("dpstep-cnn", cnn, turns=3)
    finally:
        torch.set_num_threads(threads)


def measure(name: str, make: Callable[[], nn.Module], turns: int) -> Row:
    """Time plain, ours and noise twenty times a turn, Opacus once."""
    bench = Bench(make())
    bench.relative_error()  # warms both up
    plain, turned, ours, noise, theirs = [], [], [], [], []
    with bench.clipped() as gradients:
        bench.private_step(gradients, bench.draw())  # a small part: it measures what a row takes
        for _ in range(turns):
            for _ in range(20):
                rows = bench.draw()
                plain.append(seconds(partial(bench.plain.step, rows)))
                turned.append(seconds(partial(bench.turned.step, rows)))
                ours.append(seconds(partial(bench.private_step, gradients, rows)))
                noise.append(seconds(bench.add_noise))
    for _ in range(turns):
        with opacus_only(), bench.clipped() as gradients:
            theirs.append(seconds(partial(bench.private_step, gradients, bench.draw())))
    return Row(
        name,
        median(ours),
        "s",
        f"torch {torch.__version__}",
        median(plain),
        {
            "parameters": bench.vector.size,
            "best_ratio": min(ours) / min(plain),
            "same_layout_ratio": median(ours) / median(turned),
            "noise_seconds": median(noise),
            "ratio_with_noise": (median(ours) + median(noise)) / median(plain),
            "opacus_seconds": median(theirs),
            "opacus_ratio": median(theirs) / median(plain),
            "relative_error": bench.relative_error(),
        },
    )


class Plain:
    """Torch's own step on a module."""

    def __init__(self, module: nn.Module, table: Encoded) -> None:
        self._module, self._table = module, table
        self._optimizer = torch.optim.SGD(module.parameters(), RATE)

    def step(self, rows: NDArray[np.int64]) -> None:
        features = torch.from_numpy(self._table.features[rows])
        labels = torch.from_numpy(self._table.labels[rows])
        self._optimizer.zero_grad()
        torch.autograd.backward(TASK.losses(self._module(features), labels).mean())
        self._optimizer.step()


class Bench:
    """A module, random rows, and the steps that are compared."""

    def __init__(self, module: nn.Module) -> None:
        self._random = np.random.default_rng(7)
        self._table = Encoded(
            self._random.normal(0, 1, (TABLE, PIXELS**2)).astype(np.float32),
            self._random.integers(0, CLASSES, TABLE),
        )
        self._module = module
        self.vector = initial_vector(module, 0)
        set_vector(module, self.vector)
        self._update, self._noised = np.zeros_like(self.vector), np.zeros(self.vector.size)
        self._noise = NoiseSource()
        self.plain = Plain(deepcopy(module), self._table)
        turned = deepcopy(module)
        pool_channels_last(turned)
        self.turned = Plain(turned, self._table)

    def draw(self) -> NDArray[np.int64]:
        return self._random.choice(TABLE, BATCH, replace=False)

    def clipped(self) -> ClippedGradients:
        return ClippedGradients(TASK, self._module, CLIP)

    def private_step(self, gradients: ClippedGradients, rows: NDArray[np.int64]) -> None:
        """As `train_round`, but for the sample and the noise."""
        descend(self._update, gradients.sum(self._table, [rows]), RATE / BATCH)
        set_vector(self._module, self.vector, self._update)

    def add_noise(self) -> None:
        self._noise.add(self._noised, CLIP)

    def relative_error(self) -> float:
        """Of the clipped sum of one batch to that of Opacus' hooks, in L2 norm."""
        set_vector(self._module, self.vector)
        rows, sums = self.draw(), []
        for context in (nullcontext(), opacus_only()):
            with context, self.clipped() as gradients:
                sums.append(gradients.sum(self._table, [rows]).copy())
        return float(np.linalg.norm(sums[0] - sums[1]) / np.linalg.norm(sums[1]))


def seconds(work: Callable[[], object]) -> float:
    """CPU time of one call."""
    start = process_time()
    work()
    return process_time() - start
