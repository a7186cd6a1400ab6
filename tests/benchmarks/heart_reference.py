"""What a federation is compared with: training on pooled rows, on one's own, and FLamby's loops.

FLamby's strategies are written out here as its benchmark runs them: shuffled batches of 4 in each
centre, 15 rounds of 100 updates, updates weighted by the centres' sizes, server moments from 0. The
model, its loss and its metric are Accord's own.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from accord_common.models.discovery import load_task
from accord_common.models.evaluate import evaluate
from accord_common.models.flat import initial_vector, set_vector
from accord_common.models.task import Task
from accord_common.schema import Schema
from accord_common.tables import Encoded

BATCH = 4
ROUNDS, UPDATES = 15, 100
TAU = 1e-8
_EPOCHS, _RATE = 50, 0.001  # Adam, for pooled and local training
_BETA1, _BETA2 = 0.9, 0.999


@dataclass(frozen=True, slots=True)
class Strategy:
    """A row of FLamby's table of tuned strategies."""

    name: str
    client_rate: float
    server_rate: float


STRATEGIES = (
    Strategy("fedavg", 0.001, 1),
    Strategy("fedadam", 0.01, 0.01),
    Strategy("fedyogi", 0.003162, 0.01),
)


class Models:
    """The logistic regression that all of them train."""

    def __init__(self, schema: Schema) -> None:
        self.task: Task = load_task("tabular-binary")
        self._schema = schema

    def fresh(self, seed: int | None) -> nn.Module:
        """A model with torch's random start, or for None with Accord's, which is 0."""
        if seed is not None:
            torch.manual_seed(seed)
        module = self.task.build("logistic-regression", {}, self._schema)
        if seed is None:
            set_vector(module, initial_vector(module, 0))
        return module

    def accuracy(self, vector: NDArray[np.float32], table: Encoded) -> float:
        """Share of rows told right at probability 1/2."""
        return evaluate(self.task, self.fresh(None), vector, table)["accuracy"]


def centralised(models: Models, table: Encoded, random: np.random.Generator) -> NDArray[np.float32]:
    """Train on one table: Adam, 50 epochs of shuffled batches of 4. Returns weights (14,)."""
    module = models.fresh(None)
    optimizer = torch.optim.Adam(module.parameters(), lr=_RATE)
    batches = _batches(table, random)
    for _ in range(_EPOCHS * -(-table.rows // BATCH)):
        _losses(models.task, module, *next(batches)).backward()
        optimizer.step()
        optimizer.zero_grad()
    return _vector(module)


def federated(
    models: Models,
    strategy: Strategy,
    tables: Sequence[Encoded],
    random: np.random.Generator,
    *,
    start: int | None,
) -> NDArray[np.float32]:
    """Train as FLamby's benchmark does; `start` is `Models.fresh`'s seed. Returns weights (14,)."""
    module = models.fresh(start)
    model = _vector(module).astype(np.float64)
    batches = [_batches(table, random) for table in tables]
    sizes = np.array([table.rows for table in tables])
    m, v = np.zeros_like(model), np.zeros_like(model)
    optimizer = torch.optim.SGD(module.parameters(), lr=strategy.client_rate)
    for _ in range(ROUNDS):
        updates = []
        for rows in batches:
            set_vector(module, model.astype(np.float32))
            for _ in range(UPDATES):
                _losses(models.task, module, *next(rows)).backward()
                optimizer.step()
                optimizer.zero_grad()
            updates.append(_vector(module) - model)
        mean = np.average(updates, axis=0, weights=sizes)
        if strategy.name == "fedavg":
            model = model + strategy.server_rate * mean
            continue
        square = mean * mean
        m = _BETA1 * m + (1 - _BETA1) * mean
        away = v - square if strategy.name == "fedadam" else square * np.sign(v - square)
        v = v - (1 - _BETA2) * away
        model = model + strategy.server_rate * m / (np.sqrt(v) + TAU)
    return model.astype(np.float32)


def _batches(table: Encoded, random: np.random.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of 4 for ever, in a new order each time all rows have come; the last may be less."""
    features, labels = torch.from_numpy(table.features), torch.from_numpy(table.labels)
    while True:
        order = torch.from_numpy(random.permutation(table.rows))
        for rows in order.split(BATCH):
            yield features[rows], labels[rows]


def _losses(task: Task, module: nn.Module, features: Tensor, labels: Tensor) -> Tensor:
    return task.losses(module(features), labels).mean()


def _vector(module: nn.Module) -> NDArray[np.float32]:
    return torch.cat([value.detach().ravel() for value in module.parameters()]).numpy()
