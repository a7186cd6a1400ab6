"""How long to wait before a peer that did not answer is asked again, and what to say meanwhile.

Guarantees: pauses double up to a bound that none exceeds, and each is drawn from its upper half
(AWS Architecture Blog, "Exponential Backoff and Jitter", 2015: equal jitter), so that many who lost
the same peer do not come back at once; a trouble that lasts is news once.
"""

import random
from collections.abc import Callable


class Backoff:
    """The next pause, and the one after.

    Args:
        first_s: the longest that the first pause may be, seconds.
        most_s: the longest that any may be.
        draw: a uniform number between two others; tests give their own.
    """

    def __init__(
        self,
        first_s: float,
        most_s: float,
        draw: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._first_s = self._next_s = first_s
        self._most_s = most_s
        self._draw = draw

    def pause_s(self) -> float:
        """Return how long to wait now; the next time longer."""
        longest = self._next_s
        self._next_s = min(2 * longest, self._most_s)
        return self._draw(longest / 2, longest)

    def reset(self) -> None:
        """Begin with a short pause again: the peer has answered."""
        self._next_s = self._first_s


class Told:
    """What was last said of a peer: a code while it is in trouble, None while all is well."""

    def __init__(self) -> None:
        self._code: str | None = None

    def news(self, code: str | None) -> bool:
        """Whether `code` differs from what was said last; it counts as said."""
        news, self._code = code != self._code, code
        return news
