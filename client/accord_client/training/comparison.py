"""Models side by side on rows that none of them was trained on, with how sure one may be.

Guarantees: intervals are percentiles of a bootstrap (Efron 1979) that draws validation rows with
replacement, the same for all models, and for a model that was trained several times one of those
trainings; so a difference's interval holds both sources of chance that this institution can see.
The draws are seeded: the same answers give the same figures. That protects nobody, and need not:
figures depend on private rows and stay at the node.

Not covered: the chance in a federated run itself, of which there is one training each.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accord_common.models.task import Task

DRAWS = 400  # 10 beyond each end of a 95 % interval; an area under a curve takes 1 ms
_TAILS = (2.5, 97.5)  # percent

Logits = NDArray[np.float32]  # (n, outputs)


@dataclass(frozen=True, slots=True)
class Figure:
    """A metric, or the difference of two, with the ends of its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def clear(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, slots=True)
class Scored:
    """Metrics of each model: on all rows (mean of its trainings), and in every draw (DRAWS,)."""

    values: Mapping[str, Mapping[str, float]]
    draws: Mapping[str, Mapping[str, NDArray[np.float64]]]

    def metrics(self, model: str) -> dict[str, Figure]:
        """One model's metrics."""
        return {
            name: _figure(self.values[model][name], drawn)
            for name, drawn in self.draws[model].items()
        }

    def difference(self, model: str, other: str) -> dict[str, Figure]:
        """`model` less `other`, by metric."""
        return {
            name: _figure(
                self.values[model][name] - self.values[other][name],
                drawn - self.draws[other][name],
            )
            for name, drawn in self.draws[model].items()
        }


def score(
    task: Task,
    models: Mapping[str, Sequence[Logits]],
    labels: NDArray[np.int64],
    *,
    draws: int = DRAWS,
) -> Scored:
    """Score models by their answers to the same rows.

    Args:
        task: gives the metrics.
        models: by name, the logits (n, outputs) of each training, at least one.
        labels: (n,), n at least 1.
        draws: how many times rows are drawn.
    """
    values = {
        name: _mean([task.metrics(logits, labels) for logits in trainings])
        for name, trainings in models.items()
    }
    random = np.random.default_rng(0)
    drawn: dict[str, dict[str, list[float]]] = {
        model: {name: [] for name in metrics} for model, metrics in values.items()
    }
    for _ in range(draws):
        rows = random.integers(len(labels), size=len(labels))
        for model, trainings in models.items():
            logits = trainings[int(random.integers(len(trainings)))]
            for name, value in task.metrics(logits[rows], labels[rows]).items():
                drawn[model][name].append(value)
    arrays = {
        model: {name: np.array(found) for name, found in metrics.items()}
        for model, metrics in drawn.items()
    }
    return Scored(values, arrays)


def _mean(trainings: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([metrics[name] for metrics in trainings])) for name in trainings[0]}


def _figure(value: float, drawn: NDArray[np.float64]) -> Figure:
    low, high = np.percentile(drawn, _TAILS)
    return Figure(value, float(low), float(high))
