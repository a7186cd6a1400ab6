"""When a cap will be used up, if charges go on as they have lately.

Guarantees: pure. Epsilon grows ever more slowly with each equal charge, so the day is rather too
early than too late. No forecast of what is planned: what is left has that set aside.
"""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

WINDOW = timedelta(days=30)
_LEAST = timedelta(days=1)  # a first run of ten minutes says nothing about the month
_FAR = timedelta(days=36_500)


@dataclass(frozen=True, slots=True)
class Pace:
    """What a cap lost a day lately, and when nothing will be left of it.

    Attributes:
        per_day: epsilon; infinite where a release without privacy was charged.
        out: None where that is not in sight; now where nothing is left.
        lasts: from now until then.
    """

    per_day: float
    out: datetime | None = None
    lasts: timedelta | None = None

    @property
    def unbounded(self) -> bool:
        """Whether no epsilon says what was spent."""
        return math.isinf(self.per_day)


def pace(spent: float, earlier: float, left: float, first: datetime | None, now: datetime) -> Pace:
    """Look at the last `WINDOW`, or since the first charge where that is less.

    Args:
        spent: the filter's epsilon of all charges; infinite without privacy.
        earlier: of those before the window.
        left: epsilon that the cap leaves to further runs.
        first: when the same people were first charged; None: never.
        now: the caller's clock.
    """
    if math.isinf(spent):
        return Pace(math.inf)
    grown = 0.0 if first is None else max(0.0, spent - earlier)
    length = WINDOW if first is None else max(now - max(now - WINDOW, first), _LEAST)
    per_day = grown / (length / timedelta(days=1))
    if left <= 0:
        return Pace(per_day, now, timedelta(0))
    if not per_day or left / per_day >= _FAR / timedelta(days=1):
        return Pace(per_day)
    lasts = timedelta(days=left / per_day)
    return Pace(per_day, now + lasts, lasts)
