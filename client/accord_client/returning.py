"""What holds a node back from its next attempt and may pass by itself, and whether it has.

Guarantees: one question a cause, wherever it was met: at R0, before a charge, or as something was
written. A disk must take a whole attempt, not only the next line, or the node would come back to be
refused again. What only a person mends (a changed table, an exhausted budget) holds nobody back.

Not covered: leaving and coming back, which are the link's (`serving`).
"""

from collections.abc import Callable
from datetime import datetime

from accord_client.capacity import Capacity
from accord_client.contribution import Contribution
from accord_client.disk import is_unwritable
from accord_common.errors import AccordError

RETURNS = frozenset({"disk-full", "memory-short", "outside-hours"})  # codes that time may mend


class HeldBack:
    """One session's causes. Calls come from the session's thread.

    Attributes:
        speechless: the disk did not take what an answer rests on; whoever waits for it should not.
    """

    def __init__(
        self, capacity: Capacity, contribution: Contribution, clock: Callable[[], datetime]
    ) -> None:
        self._questions: dict[str, Callable[[], object]] = {
            "disk-full": capacity.check_disk,
            "memory-short": contribution.fits,
            "outside-hours": lambda: capacity.check_hours(clock()),
        }
        self._causes: set[str] = set()
        self.speechless = False

    def __bool__(self) -> bool:
        return bool(self._causes)

    def note(self, error: AccordError) -> None:
        """Remember why something was refused, where time may mend it."""
        if is_unwritable(error):
            self.speechless = True
            self._causes.add("disk-full")
        elif error.code in RETURNS:
            self._causes.add(error.code)

    def passed(self) -> bool:
        """Whether nothing holds the node back any more: once; then it connects again."""
        if not self._causes:
            return False
        try:
            for cause in self._causes:
                self._questions[cause]()
        except AccordError:
            return False
        self._causes.clear()
        self.speechless = False
        return True
