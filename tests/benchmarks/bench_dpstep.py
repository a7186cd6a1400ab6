"""What clipping each row's gradient costs: rows `dpstep-mlp` and `dpstep-cnn`, one thread.

Measured: one training step on 256 rows, from picking the rows to new weights in the module:
forward, norms, clipping, update. Noise is timed by itself, in the same run.

Held against, in turns in the same process:
- plain torch's step on the same rows: forward, backward, `torch.optim.SGD`;
- the same clipped step with Opacus' hooks, which are also the oracle of `relative_error`.

Seconds are CPU seconds of this process: the work waits for nothing, so on an idle machine that is
the time on the clock, and on a busy one the figures remain comparable. Medians.
"""

from collections.abc import Callable, Iterator
from statistics import median
from time import process_time
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from accord_client.training import step
from accord_client.training.noise import NoiseSource
from accord_client.training.step import ClippedGradients
from accord_common.models import architectures
from accord_common.models.flat import get_vector, initial_vector, set_vector
from accord_common.models.tabular import MulticlassClassification
from accord_common.tables import Encoded
from tests.benchmarks.row import Row

BATCH, CLASSES, PIXELS = 256, 10, 28
TABLE = 1024  # rows that batches are drawn from
RATE = 1e-3
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
        yield measure("dpstep-cnn", cnn, turns=5)
    finally:
        torch.set_num_threads(threads)


def measure(name: str, make: Callable[[], nn.Module], turns: int) -> Row:
    """Time plain, ours and noise ten times a turn, Opacus once."""
    random = np.random.default_rng(7)
    table = Encoded(
        random.normal(0, 1, (TABLE, PIXELS**2)).astype(np.float32),
        random.integers(0, CLASSES, TABLE),
    )
    module = make()
    vector = initial_vector(module, 0)
    set_vector(module, vector)
    clip = median(norms(module, table))  # half of the rows are scaled
    source, plain, ours, noise, theirs = NoiseSource(), [], [], [], []
    optimizer = torch.optim.SGD(module.parameters(), RATE)
    with ClippedGradients(TASK, module, clip) as gradients:
        clipped(gradients, module, table, draw(random), vector)  # measures what a row takes
        for _ in range(turns):
            with opacus(module, clip) as hooks:
                theirs.append(seconds(lambda: clipped(hooks, module, table, draw(random), vector)))
            for _ in range(10):
                rows = draw(random)
                plain.append(seconds(lambda: descend(optimizer, module, table, rows)))
                ours.append(seconds(lambda: clipped(gradients, module, table, rows, vector)))
                noise.append(seconds(lambda: source.add(vector.copy(), clip)))
    raise SystemExit
