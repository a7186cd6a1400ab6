"""What a federation is compared with: training on pooled rows, on one's own, and FLamby's loops.

FLamby's strategies are written out here as its benchmark runs them: shuffled batches of 4 in each
centre, 15 rounds of 100 updates, updates weighted by the centres' sizes, server moments from 0. The
model, its loss and its metric are Accord's own. Repetitions are trained side by side, S at once:
that is as many separate trainings, in a third of the time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import functional_call, vmap

from accord_common.models.discovery import load_task
from accord_common.models.evaluate import evaluate
from accord_common.models.flat import get_vector, initial_vector, layout_of
from accord_common.models.task import Task
from accord_common.schema import Schema
from accord_common.tables import Encoded

BATCH = 4
ROUNDS, UPDATES = 15, 100
TAU = 1e-8
_EPOCHS, _RATE = 50, 0.001  # Adam, for pooled and local training
_BETA1, _BETA2 = 0.9, 0.999

Vector = NDArray[np.float32]


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
        self._task: Task = load_task("tabular-binary")
        self._module = self._task.build("logistic-regression", {}, schema)
        self._schema = schema

    def accuracy(self, vector: Vector, table: Encoded) -> float:
        """Share of rows told right at probability 1/2, by weights (14,)."""
        return evaluate(self._task, self._module, vector, table)["accuracy"]

    def random(self, seed: int) -> Vector:
        """Torch's random start: weights (14,)."""
        torch.manual_seed(seed)
        return get_vector(self._task.build("logistic-regression", {}, self._schema))

    def zero(self) -> Vector:
        """Accord's start."""
        return initial_vector(self._module, 0)

    def parameters(self, vectors: Vector) -> dict[str, Tensor]:
        """Trainable copies of weights (S, 14), by name."""
        layout = layout_of(self._module)
        arrays = [layout.unflatten(vector) for vector in vectors]
        return {
            name: torch.tensor(np.stack([one[name] for one in arrays]), requires_grad=True)
            for name, _ in layout.entries
        }

    def vectors(self, parameters: dict[str, Tensor]) -> Vector:
        """The inverse of `parameters`: float32 (S, 14)."""
        layout = layout_of(self._module)
        flat = [parameters[name].detach().flatten(1) for name, _ in layout.entries]
        return torch.cat(flat, 1).numpy()

    def step(
        self, parameters: dict[str, Tensor], batch: tuple[Tensor, Tensor], by: torch.optim.Optimizer
    ) -> None:
        """Move each of S models by the mean loss of its own batch: (S, b, 13) and (S, b)."""
        features, labels = batch
        logits = vmap(lambda given, rows: functional_call(self._module, given, (rows,)))(
            parameters, features
        )  # (S, b, 1)
        losses = self._task.losses(logits.flatten(0, 1), labels.flatten())
        torch.autograd.backward(losses.sum() / labels.shape[1])
        by.step()
        by.zero_grad()


def centralised(models: Models, table: Encoded, seeds: int) -> Vector:
    """Train on one table: Adam, 50 epochs of shuffled batches of 4. Returns weights (S, 14)."""
    parameters = models.parameters(np.stack([models.zero()] * seeds))
    optimizer = torch.optim.Adam(parameters.values(), lr=_RATE)
    batches = _batches(table, seeds)
    for _ in range(_EPOCHS * -(-table.rows // BATCH)):
        models.step(parameters, next(batches), optimizer)
    return models.vectors(parameters)


def federated(
    models: Models, strategy: Strategy, tables: Sequence[Encoded], start: Vector
) -> Vector:
    """Train as FLamby's benchmark does, from weights (S, 14). Returns weights (S, 14)."""
    model = start.astype(np.float64)
    batches = [_batches(table, len(start)) for table in tables]
    sizes = [table.rows for table in tables]
    m, v = np.zeros_like(model), np.zeros_like(model)
    for _ in range(ROUNDS):
        updates = []
        for rows in batches:
            parameters = models.parameters(model.astype(np.float32))
            optimizer = torch.optim.SGD(parameters.values(), lr=strategy.client_rate)
            for _ in range(UPDATES):
                models.step(parameters, next(rows), optimizer)
            updates.append(models.vectors(parameters) - model)
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


def _batches(table: Encoded, seeds: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of 4 for ever, (S, 4, 13) and (S, 4): each seed's in its own order, newly drawn each
    time all rows have come; the last of an order may be less."""
    features, labels = torch.tensor(table.features), torch.tensor(table.labels)
    sources = [np.random.default_rng(seed) for seed in range(seeds)]
    while True:
        orders = torch.tensor(np.stack([source.permutation(table.rows) for source in sources]))
        for rows in torch.split(orders, BATCH, 1):
            yield features[rows], labels[rows]
