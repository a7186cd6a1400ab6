"""The server's step: how the nodes' mean update moves the model (Reddi et al. 2021, algorithm 2).

Guarantees: the same model, state and sum give the same bytes, also across restarts: each coordinate
is computed alone, in float64, by +, -, *, / and sqrt, and rounded to float32 once. State is float32
too, so a checkpoint holds all there is.

    mean D    sum / S / (sum of w' over the cohort), see SPEC.md, "Quantisation"
    fedavg    x += eta D
    fedadam   m = b1 m + (1 - b1) D;  v = b2 v + (1 - b2) D^2;  x += eta m / (sqrt(v) + tau)
    fedyogi   the same with           v = v - (1 - b2) D^2 sign(v - D^2)

m starts at 0, v at tau^2 (the least that the algorithm allows); there is no bias correction.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from accord_common.bulk import Body
from accord_common.manifest import RunManifest, ServerOptimizer
from accord_common.rings import Words
from accord_common.vectors import BLOCK
from accord_server.aggregator.checkpoints import MODEL, Vector

_STATE = {"fedavg": (), "fedadam": ("m", "v"), "fedyogi": ("m", "v")}


def mean_factor(manifest: RunManifest, cohort: tuple[str, ...]) -> float:
    """Return what a coordinate of the integer sum is multiplied by to give the weighted mean."""
    largest = max(site.weight for site in manifest.roster)
    weight = sum(Fraction(manifest.site(party).weight, largest) for party in cohort)
    return float(1 / (manifest.secagg.scale * weight))


@dataclass(frozen=True, slots=True)
class Optimizer:
    """One run's server optimiser. Its state is the caller's, beside the model: name -> (d,)."""

    settings: ServerOptimizer

    @property
    def names(self) -> tuple[str, ...]:
        """The vectors that a run keeps: `model`, then the state."""
        return MODEL, *_STATE[self.settings.name]

    def steps(
        self, vectors: Mapping[str, Body], words: Words, factor: float
    ) -> Iterator[dict[str, Vector]]:
        """Move the model by `words` (d,), a sum in two's complement; yields block after block.

        Args:
            vectors: the model and its state; the model alone is where a run begins.
            words: the sum.
            factor: `mean_factor`.
        """
        for start in range(0, words.shape[0], BLOCK):
            part = words[start : start + BLOCK]
            block = {
                name: np.frombuffer(body.read(4 * start, 4 * part.shape[0]), "<f4").astype("f4")
                for name, body in vectors.items()
            }
            self.step(block, part, factor)
            yield block

    def step(self, block: dict[str, Vector], words: Words, factor: float) -> None:
        """Move vectors (b,), name -> part of the model or of its state, in place by words (b,)."""
        mean = words.view(np.dtype(f"i{words.itemsize}")).astype(np.float64) * factor
        direction = self._direction(block, mean) if _STATE[self.settings.name] else mean
        rate = float(self.settings.learning_rate)
        block[MODEL][:] = block[MODEL] + rate * direction

    def _direction(
        self, block: dict[str, Vector], mean: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        tau = float(self.settings.tau)
        beta1, beta2 = float(self.settings.beta1), float(self.settings.beta2)
        if len(block) == 1:  # the model alone: a run begins
            block["m"] = np.zeros(mean.shape, np.float32)
            block["v"] = np.full(mean.shape, tau * tau, np.float32)
        square = mean * mean
        m = beta1 * block["m"].astype(np.float64) + (1 - beta1) * mean
        v = block["v"].astype(np.float64)
        if self.settings.name == "fedadam":
            v = beta2 * v + (1 - beta2) * square
        else:
            v = v - (1 - beta2) * square * np.sign(v - square)
        block["m"][:], block["v"][:] = m, v
        quotient: NDArray[np.float64] = m / (np.sqrt(v) + tau)
        return quotient
