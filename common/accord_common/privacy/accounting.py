"""What events cost in Renyi differential privacy (Mironov 2017; Mironov, Talwar, Zhang 2019).

Guarantees: figures are upper bounds, rounding of floats included; they depend on the events only,
not on their order, on how they were split, or on restarts. They are of private events alone: a
release without noise has no divergence to add, and a tally counts it apart. dp-accounting computes
add/remove, `replacement.py` replace-one. Where events were recorded under both, replace-one prices
them all: it is never less, so it bounds both.

No Gaussian-DP accountant is offered: its central limit underestimates (1.25 for a true 3.65).
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, Decimal
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from accord_common.fields import Adjacency, to_decimal
from accord_common.privacy.events import Spend
from accord_common.privacy.replacement import replace_one_rdp

# The filter pays log(len(orders)) for its choice among them, so a finer grid costs more than it
# finds: over deltas 1e-5 and 1e-6, q .001 to 1 and epsilon .25 to 8, these come within 17 % (mean)
# of an oracle that knew the best order beforehand; 16 and 40 orders do no better. Orders below 2
# win only above epsilon 15, and dp-accounting's series often fails to converge there.
ORDERS: tuple[float, ...] = (
    *(2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 7.0, 8.0, 10.0, 12.0, 14.0, 17.0, 20.0, 24.0),
    *(32.0, 40.0, 53.0, 70.0, 93.0, 123.0, 170.0, 256.0, 380.0, 512.0),
)

# Rounding, measured against exact arithmetic: relative 1e-15 where a divergence is not tiny, and an
# absolute 1e-13 in its exponential moment (log-gamma at order 512). Ten times that is added.
_RELATIVE_SLACK = 1e-12
_MOMENT_SLACK = 1e-12
_MOST_DECIMAL = 1e15  # well below the 16 digits that a record's decimal has before its point


@dataclass(frozen=True, slots=True)
class Tally:
    """Events summed by mechanism: all that a figure depends on.

    `steps` holds (noise multiplier, sampling rate, steps), sorted, each pair of decimals once.
    `non_private` counts releases without privacy: no epsilon covers them.
    """

    adjacency: Adjacency
    steps: tuple[tuple[str, str, int], ...]
    non_private: int = 0

    @classmethod
    def of(cls, spends: "Tally | Iterable[Spend]") -> "Tally":
        """Sum `spends`; a tally is returned as it is."""
        if isinstance(spends, Tally):
            return spends
        steps: Counter[tuple[str, str]] = Counter()
        adjacencies: set[Adjacency] = set()
        non_private = 0
        for spend in spends:
            if spend.mechanism == "none":
                non_private += 1
                continue
            steps[spend.noise_multiplier, spend.sampling_rate] += spend.steps
            adjacencies.add(spend.adjacency)
        return cls.build(steps, adjacencies, non_private)

    @classmethod
    def build(
        cls,
        steps: Mapping[tuple[str, str], int],
        adjacencies: Iterable[str],
        non_private: int = 0,
    ) -> "Tally":
        """Make a tally from sums; the strictest adjacency prices all of it."""
        return cls(
            strictest(adjacencies),
            tuple(sorted((*pair, count) for pair, count in steps.items())),
            non_private,
        )

    @property
    def empty(self) -> bool:
        """Whether nothing was released."""
        return not self.steps and not self.non_private

    @property
    def private(self) -> "Tally":
        """The tally without what was released without privacy."""
        return replace(self, non_private=0)

    def __add__(self, other: "Tally") -> "Tally":
        """Compose two tallies."""
        steps: Counter[tuple[str, str]] = Counter()
        for noise, rate, count in (*self.steps, *other.steps):
            steps[noise, rate] += count
        adjacencies = (self.adjacency, other.adjacency)
        return Tally.build(steps, adjacencies, self.non_private + other.non_private)

    def times(self, count: int) -> "Tally":
        """Compose a tally with itself, `count` times in all."""
        steps = tuple((noise, rate, each * count) for noise, rate, each in self.steps)
        return replace(self, steps=steps if count else (), non_private=self.non_private * count)


def strictest(adjacencies: Iterable[str]) -> Adjacency:
    """Return the adjacency that bounds all of them: replace-one is never less than add/remove."""
    return "replace-one" if "replace-one" in set(adjacencies) else "add-remove"


def rdp(spends: Tally | Iterable[Spend], orders: tuple[float, ...] = ORDERS) -> NDArray[np.float64]:
    """Return the Renyi divergence of the private of `spends`, steps included, (len(orders),).

    Infinity at an order means that the accountant could not bound it there: it is never chosen.
    """
    tally = Tally.of(spends)
    total = np.zeros(len(orders))
    for noise, rate, count in tally.steps:
        total += float(count) * _one_step(noise, rate, tally.adjacency, orders)
    return total


def decimal_up(value: float, places: int = 4) -> str:
    """Write `value` as a decimal of at most `places`, rounded away from flattery: up."""
    return to_decimal(Decimal(value).quantize(Decimal(1).scaleb(-places), rounding=ROUND_CEILING))


def bounded_up(epsilon: float) -> str | None:
    """Write an epsilon rounded up; None, infinity to a record, where no decimal holds it."""
    return decimal_up(epsilon) if epsilon < _MOST_DECIMAL else None


def load() -> None:
    """Load the accountant now, rather than when something is priced first."""
    _one_step("1", "1", "add-remove", ORDERS)


@lru_cache(maxsize=4096)
def _one_step(
    noise: str, rate: str, adjacency: Adjacency, orders: tuple[float, ...]
) -> NDArray[np.float64]:
    """One step's divergence; cached, since a run repeats one mechanism thousands of times."""
    if adjacency == "replace-one":
        exact = replace_one_rdp(float(noise), float(rate), orders)
    else:
        import dp_accounting  # 0.6 s, and most verbs price nothing
        from dp_accounting.rdp import RdpAccountant

        accountant = RdpAccountant(list(orders))
        accountant.compose(
            dp_accounting.PoissonSampledDpEvent(
                float(rate), dp_accounting.GaussianDpEvent(float(noise))
            )
        )
        exact = np.asarray(accountant.rdp, dtype=np.float64)
    bound = np.maximum(exact, 0.0) * (1 + _RELATIVE_SLACK) + _MOMENT_SLACK / (np.array(orders) - 1)
    bound.flags.writeable = False
    return bound
