"""The hard stop: a Renyi filter over everything that a population has spent.

Guarantees: as long as each round is spent only while `fits` says yes, all releases together are
(epsilon, delta)-DP at the cap, also where later rounds, noise and sampling are chosen after seeing
earlier results (Renyi filter: Feldman & Zrnic 2021; fully adaptive composition: Whitehouse, Ramdas,
Rogers, Wu 2023). The orders are fixed beforehand and each gets delta / |orders|: a union bound over
the tails, so that the choice among them is paid for. A release without privacy costs infinity, so
nothing fits beside it, but under a cap that is agreed to speak of private releases alone.

Not covered: what fixed plans may report, which is tighter: see `report.py`.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Annotated

import numpy as np
from pydantic import AfterValidator

from accord_common.fields import Adjacency, Dec, Record
from accord_common.privacy.accounting import ORDERS, Tally, rdp, strictest
from accord_common.privacy.events import Spend, not_negative


def _delta(value: str) -> str:
    if not 0 < Decimal(value) < 1:
        raise ValueError("must lie between 0 and 1")
    return value


class Cap(Record):
    """The most that a population may spend, over all runs, agreements and projects.

    `non_private`: whoever set the cap permits releases without privacy too, and the cap speaks of
    the private ones alone.
    `adjacency`: that of the terms it stands in, so that events recorded under add/remove count as
    replace-one where it is that; null for a cap that takes events as they are.
    """

    epsilon: Annotated[Dec, AfterValidator(not_negative)]
    delta: Annotated[Dec, AfterValidator(_delta)]
    non_private: bool = False
    adjacency: Adjacency | None = None


@dataclass(frozen=True, slots=True)
class RdpFilter:
    """A cap and the orders that were fixed when the ledger was made."""

    cap: Cap
    orders: tuple[float, ...] = ORDERS

    def epsilon(self, spends: Tally | Iterable[Spend]) -> float:
        """Return what counts against the cap: min over a of sum rho_a + log(|orders|/delta)/(a-1).

        Nothing spent is 0. Infinite where no order bounds it, or where something was released
        without privacy and the cap does not permit that.
        """
        tally = self.priced(spends)
        if tally.non_private and not self.cap.non_private:
            return math.inf
        if not tally.steps:
            return 0.0
        orders = np.array(self.orders)
        price = math.log(len(self.orders) / float(self.cap.delta)) / (orders - 1)
        return float(np.min(rdp(tally, self.orders) + price))

    def priced(self, spends: Tally | Iterable[Spend]) -> Tally:
        """Return the sum of `spends` under the adjacency by which the cap counts it."""
        tally = Tally.of(spends)
        if self.cap.adjacency is None:
            return tally
        return replace(tally, adjacency=strictest([self.cap.adjacency, tally.adjacency]))

    def fits(self, spends: Tally | Iterable[Spend]) -> bool:
        """Say whether all of `spends` together stay within the cap."""
        return self.epsilon(spends) <= float(self.cap.epsilon)
