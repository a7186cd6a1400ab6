"""When a cap will be used up, if charges go on as they have lately.

Guarantees: pure; by the filter that charges are held to. Epsilon grows ever more slowly with each
equal charge, so the day is rather too early than too late. No forecast of what is planned: `left`
has that set aside.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from accord_client.balances import Balance
from accord_common.fields import parse_time
from accord_common.privacy.accounting import Tally
from accord_common.privacy.events import LedgerEntry

WINDOW = timedelta(days=30)
_LEAST = timedelta(days=1)  # a first run of ten minutes says nothing about the month
_FAR = timedelta(days=36_500)


@dataclass(frozen=True, slots=True)
class Pace:
    """What a cap lost a day lately, and when nothing will be left of it; None where never."""

    per_day: float
    out: datetime | None


def pace(balance: Balance, entries: Iterable[LedgerEntry], now: datetime) -> Pace:
    """Look at the last `WINDOW`, or since the first charge where that is less.

    Args:
        balance: the cap.
        entries: every charge to its people, of all populations that overlap, oldest first.
        now: the node's clock.
    """
    charged = [(parse_time(entry.recorded), entry.spend) for entry in entries]
    if not charged:
        return Pace(0.0, None)
    start = max(now - WINDOW, charged[0][0])
    earlier = Tally.of(spend for moment, spend in charged if moment < start)
    old = balance.rule.epsilon(Tally(balance.adjacency, ()) + earlier)
    grown = balance.spent - old
    if not math.isfinite(grown) or grown <= 0:
        return Pace(0.0, None)
    per_day = grown / (max(now - start, _LEAST) / timedelta(days=1))
    days = balance.left / per_day
    far = days >= _FAR / timedelta(days=1)
    return Pace(per_day, None if far else now + timedelta(days=days))
