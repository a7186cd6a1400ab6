"""Working hours: weekly windows of the wall clock, as people write them.

    Mon-Fri 18:00-06:00      from each of these days at 18:00 to the next morning
    Sat-Sun 00:00-24:00      all day

Guarantees: a window that ends before it begins ends on the day after; what does not parse is
refused. Pure functions: the caller brings the time, in the zone that it means.

Not covered: public holidays; an hour that a clock change skips or repeats counts as it is shown.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from accord_common.errors import UsageError

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_WINDOW = re.compile(
    r"(?P<first>[A-Z][a-z]{2})(-(?P<last>[A-Z][a-z]{2}))?"
    r" (?P<from>[0-2]\d:[0-5]\d)-(?P<until>[0-2]\d:[0-5]\d)"
)
_DAY_MINUTES = 24 * 60


@dataclass(frozen=True, slots=True)
class Window:
    """Days (0 is Monday) on which it begins, and minutes after their midnight."""

    days: frozenset[int]
    begins: int
    ends: int  # beyond a day where it ends on the next

    def holds(self, moment: datetime) -> bool:
        """Whether a moment lies in it."""
        minute = moment.hour * 60 + moment.minute
        today, yesterday = moment.weekday(), (moment - timedelta(days=1)).weekday()
        return (today in self.days and self.begins <= minute < self.ends) or (
            yesterday in self.days and minute < self.ends - _DAY_MINUTES
        )


def parse(text: str) -> Window:
    """Read a window.

    Raises:
        UsageError: `bad-hours`.
    """
    found = _WINDOW.fullmatch(text.strip())
    first, last = (found["first"], found["last"] or found["first"]) if found else ("", "")
    if found is None or first not in _DAYS or last not in _DAYS:
        raise _bad(text)
    begins, ends = _minutes(found["from"]), _minutes(found["until"])
    if begins >= _DAY_MINUTES or ends > _DAY_MINUTES or begins == ends:
        raise _bad(text)
    start = _DAYS.index(first)
    count = (_DAYS.index(last) - start) % len(_DAYS) + 1
    days = frozenset((start + offset) % len(_DAYS) for offset in range(count))
    return Window(days, begins, ends if ends > begins else ends + _DAY_MINUTES)


def within(windows: Sequence[Window], moment: datetime) -> bool:
    """Whether any window holds a moment; always, where there is none."""
    return not windows or any(window.holds(moment) for window in windows)


def _minutes(text: str) -> int:
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)


def _bad(text: str) -> UsageError:
    return UsageError(
        "bad-hours",
        f"{text!r} is no window of working hours",
        hint="For example: Mon-Fri 18:00-06:00, or Sat-Sun 00:00-24:00.",
    )
