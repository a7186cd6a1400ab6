"""From a budget to the noise that keeps within it.

Guarantees: the noise multiplier returned makes the whole plan fit the FILTER at that cap, so a node
that follows the plan is never stopped half way by its own ledger; rounded up, never down.
"""

from accord_common.errors import PolicyError
from accord_common.fields import Adjacency, to_decimal
from accord_common.privacy.accounting import ORDERS, Tally
from accord_common.privacy.filter import Cap, RdpFilter

_UNITS = 10_000  # noise multipliers are sought in steps of 1/10000
_MAX_UNITS = 10_000 * _UNITS  # noise multiplier 10000: beyond it no model learns anything


def calibrate(
    epsilon: str,
    delta: str,
    sampling_rate: str,
    steps: int,
    adjacency: Adjacency,
    *,
    spent: Tally | None = None,
    orders: tuple[float, ...] = ORDERS,
) -> str:
    """Return the least noise multiplier, to 4 decimals, with which `steps` fit the cap.

    Args:
        epsilon: the cap, a decimal.
        delta: the cap's delta, a decimal.
        sampling_rate: probability of each record in each step, a decimal.
        steps: steps of all rounds, and of all attempts that must fit, together.
        adjacency: the agreement's.
        spent: what the population has spent before, where that counts against the same cap.
        orders: the ledger's.

    Raises:
        PolicyError: `budget-too-small` where even a noise multiplier of 10000 does not fit.
    """
    rule = RdpFilter(Cap(epsilon=epsilon, delta=delta), orders)
    before = spent or Tally(adjacency, ())

    def fits(units: int) -> bool:
        noise = to_decimal(f"{units // _UNITS}.{units % _UNITS:04d}")
        return rule.fits(before + Tally(adjacency, ((noise, sampling_rate, steps),)))

    high = _UNITS
    while not fits(high):
        high *= 2
        if high > _MAX_UNITS:
            raise PolicyError(
                "budget-too-small",
                f"{steps} steps at sampling rate {sampling_rate} do not fit epsilon {epsilon}, "
                f"delta {delta} ({adjacency}) with any noise multiplier to {_MAX_UNITS // _UNITS}",
                hint="Plan fewer rounds, steps or attempts, or a smaller sampling rate.",
            )
    low = high // 2 if high > _UNITS else 0  # does not fit (0: no noise at all)
    while high - low > 1:
        middle = (low + high) // 2
        if fits(middle):
            high = middle
        else:
            low = middle
    return to_decimal(f"{high // _UNITS}.{high % _UNITS:04d}")
