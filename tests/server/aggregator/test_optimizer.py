"""The server's step follows Reddi et al. 2021, algorithm 2, and a resumed one follows itself."""

from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from accord_common.bulk import Body
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


def moved(
    optimizer: Optimizer, vectors: dict[str, Body], words: NDArray[np.uint32]
) -> dict[str, Body]:
    """What the blocks of one step join to."""
    blocks = list(optimizer.steps(vectors, words, FACTOR))
    assert len(blocks) == 2
    joined = {name: b"".join(block[name].tobytes() for block in blocks) for name in optimizer.names}
    return {name: Body.of(data) for name, data in joined.items()}


@pytest.mark.parametrize("name", ["fedavg", "fedadam", "fedyogi"])
def test_steps_are_those_of_the_paper(name: Name) -> None:
    words = sums(5)
    optimizer = Optimizer(settings(name))
    vectors = {"model": Body.of(bytes(4 * DIMENSION))}
    for word in words:
        vectors = moved(optimizer, vectors, word)
    model = np.frombuffer(vectors["model"].load(), np.float32)
    np.testing.assert_allclose(model, reference(name, words), rtol=1e-5, atol=1e-6)


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
