"""Bugs that make an epsilon a lie: each is planted, and a check that passes without it fails."""

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from accord_client.training import step, train
from accord_client.training.gradients import RowGradients
from accord_client.training.noise import NoiseSource
from accord_client.training.step import ClippedGradients
from accord_common.tables import Encoded
from tests.client.training import checks

Plant = Callable[[pytest.MonkeyPatch], None]
RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize(
    "check",
    [checks.check_noise, checks.check_clipping, checks.check_sampling, checks.check_divisor],
)
def test_the_engine_as_it_is_passes(check: Callable[[], None]) -> None:
    check()


def noise_removed(plant: pytest.MonkeyPatch) -> None:
    plant.setattr(NoiseSource, "add", lambda self, vector, std: None)


def noise_halved(plant: pytest.MonkeyPatch) -> None:
    add = NoiseSource.add
    plant.setattr(NoiseSource, "add", lambda self, vector, std: add(self, vector, std / 2))


def noise_in_the_first_step_alone(plant: pytest.MonkeyPatch) -> None:
    add, noised = NoiseSource.add, set[int]()

    def once(self: NoiseSource, vector: NDArray[np.float64], std: float) -> None:
        if id(self) not in noised:
            add(self, vector, std)
        noised.add(id(self))

    plant.setattr(NoiseSource, "add", once)


def clip_after_summing(plant: pytest.MonkeyPatch) -> None:
    def late(self: ClippedGradients, gradients: list[RowGradients | None], first: bool) -> None:
        parts = [item.dense().sum(0) for item in gradients if item is not None]
        whole = torch.cat(parts)
        self._total.copy_(whole * min(1.0, self._clip / float(whole.norm())))

    plant.setattr(ClippedGradients, "_take", late)


def clip_by_layer(plant: pytest.MonkeyPatch) -> None:
    """Each parameter's part of a row may be as long as C."""

    def apart(self: ClippedGradients, gradients: list[RowGradients | None], first: bool) -> None:
        for item, place in zip(gradients, self._places, strict=True):
            assert item is not None
            factors: Tensor = (self._clip / item.squares().sqrt()).clamp(max=1).float()
            place.copy_(item.weighted_sum(factors))

    plant.setattr(ClippedGradients, "_take", apart)


class Fixed:
    """A batch of exactly q N rows."""

    def __init__(self, rate: str, rows: int) -> None:
        self.size, self.rows = round(float(rate) * rows), rows

    def draw(self) -> NDArray[np.int64]:
        return np.sort(RANDOM.choice(self.rows, self.size, replace=False))


class Shuffled(Fixed):
    """One pass over a shuffled table after another, in batches of equal size."""

    def __init__(self, rate: str, rows: int) -> None:
        super().__init__(rate, rows)
        self.left = np.empty(0, np.int64)

    def draw(self) -> NDArray[np.int64]:
        size = self.next_size()
        if len(self.left) < size:
            self.left = np.concatenate([self.left, RANDOM.permutation(self.rows)])
        batch, self.left = self.left[:size], self.left[size:]
        return np.unique(batch)

    def next_size(self) -> int:
        return self.size


class ShuffledUnevenly(Shuffled):
    """As above, with sizes as Poisson sampling has them."""

    def next_size(self) -> int:
        return int(RANDOM.binomial(self.rows, self.size / self.rows))


class InRuns(Fixed):
    """Poisson samples, each used twice."""

    def __init__(self, rate: str, rows: int) -> None:
        super().__init__(rate, rows)
        self.again: NDArray[np.int64] | None = None

    def draw(self) -> NDArray[np.int64]:
        if self.again is None:
            self.again = np.flatnonzero(RANDOM.random(self.rows) < self.size / self.rows)
            return self.again
        batch, self.again = self.again, None
        return batch


def sampler(kind: type[Fixed]) -> Plant:
    return lambda plant: plant.setattr(train, "PoissonSampler", kind)


def divisor_from_the_private_count(plant: pytest.MonkeyPatch) -> None:
    honest = train.train_round

    def private(task, module, vector, table, plan, **more):  # type: ignore[no-untyped-def]  # passed on
        return honest(task, module, vector, table, replace(plan, population=table.rows), **more)

    plant.setattr(train, "train_round", private)


def divisor_from_the_batch(plant: pytest.MonkeyPatch) -> None:
    class Mean(ClippedGradients):
        def sum(self, table: Encoded, groups: Iterable[NDArray[np.int64]]) -> NDArray[np.float64]:
            groups = list(groups)
            return super().sum(table, groups) * (100 / sum(map(len, groups)))

    plant.setattr(train, "ClippedGradients", Mean)


@pytest.mark.parametrize(
    ("plant", "check", "found"),
    [
        pytest.param(noise_removed, checks.check_noise, "0.00 times", id="noise removed"),
        pytest.param(noise_halved, checks.check_noise, "0.2. times", id="noise halved"),
        pytest.param(
            noise_in_the_first_step_alone,
            checks.check_noise,
            "0.3. times",
            id="noise in the first step alone",
        ),
        pytest.param(
            clip_after_summing, checks.check_clipping, "clipped one by one", id="clip after summing"
        ),
        pytest.param(
            clip_by_layer, checks.check_clipping, "clipped one by one", id="clip by layer"
        ),
        pytest.param(
            sampler(Fixed), checks.check_sampling, "batch sizes vary 0.00", id="fixed batch sizes"
        ),
        pytest.param(
            sampler(Shuffled), checks.check_sampling, "batch sizes vary 0.00", id="shuffling"
        ),
        pytest.param(
            sampler(ShuffledUnevenly),
            checks.check_sampling,
            "rows' shares in steps vary",
            id="shuffling in uneven batches",
        ),
        pytest.param(
            sampler(InRuns), checks.check_sampling, "vary|share", id="a sample used twice"
        ),
        pytest.param(
            divisor_from_the_private_count,
            checks.check_divisor,
            "not the public q N",
            id="divisor from the private n",
        ),
        pytest.param(
            divisor_from_the_batch,
            checks.check_divisor,
            "not the public q N",
            id="divisor from the batch",
        ),
    ],
)
def test_a_planted_bug_is_found(
    plant: Plant, check: Callable[[], None], found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    with pytest.raises(AssertionError, match=found):
        check()


def test_a_batch_that_is_cut_is_still_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of 7 rows: the same q and divisor, and noise once a step."""
    noised: list[int] = []
    add = NoiseSource.add

    def counted(self: NoiseSource, vector: NDArray[np.float64], std: float) -> None:
        noised.append(vector.size)
        add(self, vector, std)

    monkeypatch.setattr(step, "MAX_PART", 7)
    monkeypatch.setattr(NoiseSource, "add", counted)
    checks.check_divisor()
    checks.check_sampling()
    assert noised == [5, 5, 5] + [2] * 200
