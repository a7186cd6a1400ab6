"""The day by which a cap is used up, where nothing needs a ledger or a registry."""

import math
from datetime import UTC, datetime, timedelta

import pytest

from accord_common.privacy.pace import WINDOW, Pace, pace

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
LONG_AGO = NOW - 10 * WINDOW


@pytest.mark.parametrize(
    ("spent", "earlier", "left", "first", "expected"),
    [
        (0.0, 0.0, 3.0, None, Pace(0.0)),  # nobody was charged
        (2.0, 2.0, 1.0, LONG_AGO, Pace(0.0)),  # nor lately
        (2.0, 0.5, 3.0, LONG_AGO, Pace(0.05, NOW + timedelta(60), timedelta(60))),
        (2.0, 0.0, 3.0, NOW - timedelta(10), Pace(0.2, NOW + timedelta(15), timedelta(15))),
        (2.0, 0.0, 1.0, NOW, Pace(2.0, NOW + timedelta(0.5), timedelta(0.5))),  # a day, at least
        (3.0, 3.0, 0.0, LONG_AGO, Pace(0.0, NOW, timedelta(0))),
        (3.5, 3.5, -0.5, LONG_AGO, Pace(0.0, NOW, timedelta(0))),  # over the cap
        (0.0, 0.0, 0.0, None, Pace(0.0, NOW, timedelta(0))),  # a cap of nothing
        (1e-6, 0.0, 3.0, LONG_AGO, Pace(1e-6 / 30)),  # after a hundred years
        (1.0, 1.5, 3.0, LONG_AGO, Pace(0.0)),  # another adjacency may price the past higher
        (math.inf, 0.0, 0.0, LONG_AGO, Pace(math.inf)),
        (math.inf, math.inf, 0.0, LONG_AGO, Pace(math.inf)),
    ],
)
def test_the_last_day(
    spent: float, earlier: float, left: float, first: datetime | None, expected: Pace
) -> None:
    found = pace(spent, earlier, left, first, NOW)
    assert found.per_day == pytest.approx(expected.per_day)
    assert found.unbounded is math.isinf(spent)
    if expected.out is None or expected.lasts is None:
        assert (found.out, found.lasts) == (None, None)
    else:
        assert found.out is not None and found.lasts is not None
        assert abs(found.out - expected.out) < timedelta(seconds=1)
        assert found.out - NOW == found.lasts
