"""How often somebody may ask: a bucket for each credential, and for each address without one.

Guarantees: memory is bounded, whatever callers invent. Each process counts for itself.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address, ip_network

from accord_common.errors import LimitError

_HOME_BITS = 64  # of an IPv6 address: what one customer has, at the least (RFC 6177)
MOST = 10_000  # callers remembered; the one not heard of for longest goes first


class Rates:
    """Token buckets: `per_minute` a minute, and as many at once; 0 is without a bound."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_minute / 60
        self._most = float(per_minute)
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # left, at

    def take(self, who: str) -> None:
        """Count a request; LimitError `too-many-requests` where there have been too many."""
        if not self._most:
            return
        moment = self._clock()
        left, at = self._left.pop(who, (self._most, moment))
        left = min(self._most, left + (moment - at) * self._per_second)
        if left >= 1:
            self._left[who] = (left - 1, moment)
        else:
            self._left[who] = (left, moment)
        while len(self._left) > MOST:
            self._left.popitem(last=False)
        if left < 1:
            wait_s = max(1, round((1 - left) / self._per_second))
            raise LimitError(
                "too-many-requests",
                f"more than {self._most:.0f} requests a minute",
                hint=f"Wait {wait_s} s.",
                retry_s=wait_s,
            )


def network_of(address: str) -> str:
    """Whom an address is counted for: itself, or of IPv6 its /64, all of which is one's own."""
    try:
        found = ip_address(address)
    except ValueError:  # a socket's, or a test's
        return address
    if not isinstance(found, IPv6Address):
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ip_network((found.packed, _HOME_BITS), strict=False))
