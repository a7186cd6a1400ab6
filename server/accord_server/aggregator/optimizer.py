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

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from accord_common.errors import FormatError
from accord_common.manifest import RunManifest, ServerOptimizer
from accord_common.rings import Words
from accord_common.vectors import BLOCK

Vector = NDArray[np.float32]
_STATE = {"fedavg": (), "fedadam": ("m", "v"), "fedyogi": ("m", "v")}


def mean_factor(manifest: RunManifest, cohort: tuple[str, ...]) -> float:
    """Return what a coordinate of the integer sum is multiplied by to give the weighted mean."""
    largest = max(site.weight for site in manifest.roster)
    weight = sum(Fraction(manifest.site(party).weight, largest) for party in cohort)
    return float(1 / (manifest.secagg.scale * weight))


@dataclass(slots=True)
class Optimizer:
    """One run's server optimiser; `state` maps names to vectors (d,), float32."""

    settings: ServerOptimizer
    dimension: int
    state: dict[str, Vector] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.state or not _STATE[self.settings.name]:
            return
        tau = float(self.settings.tau)
        self.state = {
            "m": np.zeros(self.dimension, np.float32),
            "v": np.full(self.dimension, tau * tau, np.float32),
        }

    @classmethod
    def resume(
        cls, settings: ServerOptimizer, dimension: int, state: Mapping[str, Vector]
    ) -> "Optimizer":
        """Go on from a checkpoint's state; `bad-checkpoint` where it is not this optimiser's."""
        if sorted(state) != sorted(_STATE[settings.name]) or any(
            part.shape != (dimension,) or part.dtype != np.float32 for part in state.values()
        ):
            raise FormatError("bad-checkpoint", f"no state of {settings.name}, ({dimension},)")
        return cls(settings, dimension, {name: part.copy() for name, part in state.items()})

    def step(self, model: Vector, words: Words, factor: float) -> None:
        """Move `model` (d,) in place by `words` (d,), a sum in two's complement."""
        signed = np.dtype(f"i{words.itemsize}")
        rate = float(self.settings.learning_rate)
        for start in range(0, self.dimension, BLOCK):
            part = slice(start, start + BLOCK)
            mean = words[part].view(signed).astype(np.float64) * factor
            direction = self._direction(part, mean) if self.state else mean
            model[part] = model[part] + rate * direction

    def _direction(self, part: slice, mean: NDArray[np.float64]) -> NDArray[np.float64]:
        beta1, beta2 = float(self.settings.beta1), float(self.settings.beta2)
        square = mean * mean
        m = beta1 * self.state["m"][part].astype(np.float64) + (1 - beta1) * mean
        v = self.state["v"][part].astype(np.float64)
        if self.settings.name == "fedadam":
            v = beta2 * v + (1 - beta2) * square
        else:
            v = v - (1 - beta2) * square * np.sign(v - square)
        self.state["m"][part], self.state["v"][part] = m, v
        quotient: NDArray[np.float64] = m / (np.sqrt(v) + float(self.settings.tau))
        return quotient
