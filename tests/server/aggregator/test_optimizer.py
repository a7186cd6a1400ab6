"""The server's step follows Reddi et al. 2021, algorithm 2, and a resumed one follows itself."""

from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from accord_common.errors import FormatError
from accord_common.manifest import ServerOptimizer
from accord_common.vectors import BLOCK
from accord_server.aggregator.optimizer import Optimizer, mean_factor
from tests.world import make_world

DIMENSION = BLOCK + 7  # more than one block
FACTOR = 1 / 3 / 2**20
Name = Literal["fedavg", "fedadam", "fedyogi"]


def settings(name: Name) -> ServerOptimizer:
    return ServerOptimizer(name=name, learning_rate="0.1", beta1="0.9", beta2="0.99", tau="0.001")


def sums(count: int) -> list[NDArray[np.uint32]]:
    generator = np.random.default_rng(7)
    return [
        generator.integers(-(2**22), 2**22, DIMENSION, dtype=np.int32).view(np.uint32)
        for _ in range(count)
    ]


def reference(name: Name, words: list[NDArray[np.uint32]]) -> NDArray[np.float64]:
    x = np.zeros(DIMENSION)
    m, v = np.zeros(DIMENSION), np.full(DIMENSION, 0.001**2)
    for word in words:
        delta = word.view(np.int32) * FACTOR
        if name == "fedavg":
            x = x + 0.1 * delta
            continue
        m = 0.9 * m + 0.1 * delta
        if name == "fedadam":
            v = 0.99 * v + 0.01 * delta**2
        else:
            v = v - 0.01 * delta**2 * np.sign(v - delta**2)
        x = x + 0.1 * m / (np.sqrt(v) + 0.001)
    return x


@pytest.mark.parametrize("name", ["fedavg", "fedadam", "fedyogi"])
def test_steps_are_those_of_the_paper(name: Name) -> None:
    words = sums(5)
    optimizer = Optimizer(settings(name), DIMENSION)
    model = np.zeros(DIMENSION, np.float32)
    for word in words:
        optimizer.step(model, word, FACTOR)
    np.testing.assert_allclose(model, reference(name, words), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["fedavg", "fedadam", "fedyogi"])
def test_a_resumed_optimiser_gives_the_same_bytes(name: Name) -> None:
    words = sums(4)
    whole, model = Optimizer(settings(name), DIMENSION), np.zeros(DIMENSION, np.float32)
    parts, other = Optimizer(settings(name), DIMENSION), np.zeros(DIMENSION, np.float32)
    for word in words:
        whole.step(model, word, FACTOR)
        parts.step(other, word, FACTOR)
        parts = Optimizer.resume(settings(name), DIMENSION, parts.state)
    assert model.tobytes() == other.tobytes()


def test_another_optimisers_state_is_refused() -> None:
    state = Optimizer(settings("fedadam"), DIMENSION).state
    with pytest.raises(FormatError, match="bad-checkpoint"):
        Optimizer.resume(settings("fedavg"), DIMENSION, state)
    with pytest.raises(FormatError, match="bad-checkpoint"):
        Optimizer.resume(settings("fedadam"), DIMENSION + 1, state)


def test_the_mean_is_weighted_by_the_cohort_that_came() -> None:
    world = make_world(3)
    body = world.manifest_body(world.run_keys())
    weights = (100, 50, 25)
    roster = [
        site.model_copy(update={"weight": weight})
        for site, weight in zip(body.roster, weights, strict=True)
    ]
    manifest = body.model_copy(update={"roster": roster})
    parties = tuple(site.party for site in roster)
    scale = manifest.secagg.scale
    assert mean_factor(manifest, parties) == 1 / (scale * 1.75)
    assert mean_factor(manifest, parties[1:]) == 1 / (scale * 0.75)
