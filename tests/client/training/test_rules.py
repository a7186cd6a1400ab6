"""Every rule gives the sum of rows clipped one by one; the bugs that clipping invites are found."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from accord_client.training.bookkeeping import layer_without_rule
from accord_client.training.gradients import Dense, Products
from accord_client.training.step import ClippedGradients
from accord_common.errors import AccordError
from accord_common.models.tabular import BinaryClassification
from accord_common.tables import Encoded
from tests.client.training.oracle import (
    clipped,
    distance,
    gradient_of,
    opacus_only,
    row_by_row,
    trainable,
)

TASK = BinaryClassification()
ROWS = 12
TOKENS = 7


class Twice(nn.Module):
    """One layer used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.last = nn.Linear(24, 24), nn.Linear(24, 1)

    def forward(self, features: Tensor) -> Tensor:
        result: Tensor = self.last(torch.tanh(self.shared(torch.tanh(self.shared(features)))))
        return result


class Tied(nn.Module):
    """A table that reads tokens and scores them: two layers own one parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.mix = nn.Embedding(TOKENS, 5), nn.Linear(5, 5)
        self.score = nn.Linear(5, TOKENS, bias=False)
        self.score.weight = self.table.weight

    def forward(self, features: Tensor) -> Tensor:
        result: Tensor = self.score(torch.tanh(self.mix(self.table(tokens(features))).sum(1)))
        return result.logsumexp(1, keepdim=True)


class Residual(nn.Module):
    """In-place work around a layer, an unused layer, a frozen one, and a low-rank pair beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.base, self.spare = nn.Linear(24, 24), nn.Linear(24, 24)
        self.down, self.up = nn.Linear(24, 2, bias=False), nn.Linear(2, 24, bias=False)
        self.last = nn.Linear(24, 1)
        self.base.requires_grad_(False)
        self.last.weight.requires_grad_(False)

    def forward(self, features: Tensor) -> Tensor:
        hidden = self.base(features)
        hidden += self.up(self.down(features).relu_())
        result: Tensor = self.last(hidden.relu_())
        return result


class Tokens(nn.Module):
    """Rows of features as tokens."""

    def forward(self, features: Tensor) -> Tensor:
        return tokens(features)


class Mean(nn.Module):
    def forward(self, features: Tensor) -> Tensor:
        return features.flatten(2).mean(2) if features.ndim > 2 else features.mean(1, keepdim=True)


def tokens(features: Tensor) -> Tensor:
    return (features * 3).long().abs() % TOKENS


def image(channels: int, *layers: nn.Module) -> nn.Module:
    side = {1: (4, 6), 2: (3, 4), 4: (2, 3)}[channels]
    return nn.Sequential(nn.Unflatten(1, (channels, *side)), *layers, nn.Tanh(), nn.Flatten(), Mean())


def line(channels: int, *layers: nn.Module) -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (channels, 24 // channels)), *layers, nn.Tanh(), nn.Flatten(), Mean()
    )


MODULES: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Sequential(nn.Linear(24, 9), nn.Tanh(), nn.Linear(9, 1)),
    "linear without bias": lambda: nn.Sequential(nn.Linear(24, 1, bias=False)),
    "linear on few positions": lambda: line(2, nn.Linear(12, 40)),
    "linear on many positions": lambda: line(8, nn.Linear(3, 2)),
    "linear on a grid": lambda: image(1, nn.Linear(6, 3)),
    "conv1d": lambda: line(4, nn.Conv1d(4, 6, 3)),
    "conv1d strided": lambda: line(4, nn.Conv1d(4, 6, 2, stride=3, padding=2, dilation=2)),
    "conv1d on few positions": lambda: line(8, nn.Conv1d(8, 40, 3)),
    "conv2d": lambda: image(1, nn.Conv2d(1, 3, 3)),
    "conv2d without bias": lambda: image(2, nn.Conv2d(2, 3, 2, bias=False)),
    "conv2d strided": lambda: image(2, nn.Conv2d(2, 3, (2, 3), stride=(2, 1), padding=(1, 2))),
    "conv2d dilated": lambda: image(1, nn.Conv2d(1, 3, 3, stride=2, padding=3, dilation=(2, 3))),
    "conv2d in groups": lambda: image(4, nn.Conv2d(4, 6, 2, padding=1, groups=2)),
    "conv2d by channel": lambda: image(4, nn.Conv2d(4, 8, 2, groups=4)),
    "conv2d same": lambda: image(2, nn.Conv2d(2, 3, (1, 3), padding="same")),
    "conv2d circular": lambda: image(2, nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular")),
    "conv2d on few positions": lambda: image(4, nn.Conv2d(4, 50, 2)),
    "conv2d on few positions in groups": lambda: image(4, nn.Conv2d(4, 60, 2, groups=2)),
    "embedding": lambda: nn.Sequential(Tokens(), nn.Embedding(TOKENS, 4), nn.Tanh(), Mean(), Mean()),
    "embedding with padding": lambda: nn.Sequential(
        Tokens(), nn.Embedding(TOKENS, 4, padding_idx=1), nn.Tanh(), Mean(), Mean()
    ),
    "layer norm": lambda: nn.Sequential(nn.LayerNorm(24), nn.Linear(24, 1)),
    "layer norm on positions": lambda: line(4, nn.Linear(6, 5), nn.LayerNorm((4, 5), bias=False)),
    "layer norm of each position": lambda: line(4, nn.Linear(6, 5), nn.LayerNorm(5, eps=0.1)),
    "group norm": lambda: image(4, nn.Conv2d(4, 6, 2), nn.GroupNorm(3, 6, eps=0.1)),
    "used twice": Twice,
    "tied": Tied,
    "residual": Residual,
}
OPACUS_CANNOT = {"tied", "residual"}  # shared between layers; in-place changes of what it hooks


@dataclass
class Case:
    module: nn.Module
    data: Encoded
    clip: float  # half of the rows have a larger gradient


@pytest.fixture(params=MODULES)
def case(request: pytest.FixtureRequest) -> Case:
    torch.manual_seed(5)
    random = np.random.default_rng(5)
    module = MODULES[request.param]()
    data = Encoded(
        random.normal(0, 1, (ROWS, 24)).astype(np.float32) * random.uniform(0.2, 5, (ROWS, 1)).astype(np.float32),
        random.integers(0, 2, ROWS),
    )
    norms = [float(gradient_of(TASK, module, data, row).norm()) for row in range(ROWS)]
    return Case(module, data, float(np.median(norms)))


def test_the_sum_is_that_of_rows_clipped_one_by_one(
    case: Case, request: pytest.FixtureRequest
) -> None:
    assert layer_without_rule(case.module) is None
    for rows in (np.arange(ROWS), np.array([3])):
        for clip in (case.clip, 1e6, max(case.clip / 1000, 1e-6)):
            ours = clipped(TASK, case.module, case.data, rows, clip)
            assert distance(ours, row_by_row(TASK, case.module, case.data, rows, clip)) <= 1e-5
    if request.node.callspec.params["case"] not in OPACUS_CANNOT:
        with opacus_only():
            theirs = clipped(TASK, case.module, case.data, np.arange(ROWS), case.clip)
        ours = clipped(TASK, case.module, case.data, np.arange(ROWS), case.clip)
        assert distance(ours, theirs) <= 1e-5
