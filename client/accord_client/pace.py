"""When a cap will be used up, if charges go on as they have lately.

Guarantees: pure; by the filter that charges are held to. Epsilon grows ever more slowly with each
equal charge, so the day is rather too early than too late. No forecast of what is planned: `left`
has that set aside.
"""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

from accord_client.balances import Balance
from accord_common.privacy.accounting import Tally

WINDOW = timedelta(days=30)
_LEAST = timedelta(days=1)  # a first run of ten minutes says nothing about the month
_FAR = timedelta(days=36_500)


@dataclass(frozen=True, slots=True)
class Pace:
    """What a cap lost a day lately, and when nothing will be left of it; None where never."""

    per_day: float
    out: datetime | None


def pace(balance: Balance, first: datetime | None, earlier: Tally, now: datetime) -> Pace:
    """Look at the last `WINDOW`, or since the first charge where that is less.

    Args:
        balance: the cap.
        first: when its people, of all populations that overlap, were first charged; None: never.
        earlier: what they had been charged before the window.
        now: the node's clock.
    """
    if first is None:
        return Pace(0.0, None)
    grown = balance.spent - balance.rule.epsilon(Tally(balance.adjacency, ()) + earlier)
    if not math.isfinite(grown) or grown <= 0:
        return Pace(0.0, None)
    length = now - max(now - WINDOW, first)
    per_day = grown / (max(length, _LEAST) / timedelta(days=1))
    days = balance.left / per_day
    far = days >= _FAR / timedelta(days=1)
    return Pace(per_day, None if far else now + timedelta(days=days))
