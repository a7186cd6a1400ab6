"""What ends a run from outside, whichever thread it comes from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf


class Interrupted(Exception):
    """The process must end; the run goes on when the aggregator is started again."""


class Stopped(Exception):
    """The run must end, now and for good."""


@dataclass(slots=True)
class Control:
    """Set by other threads, heeded by the engine within `members.POLL_S` seconds."""

    stop_reason: str | None = None
    interrupted: bool = False
    lease_until: float = inf  # by time.monotonic
    barred: Mapping[str, str] = field(default_factory=dict)  # party -> code; the registry's word

    def check(self) -> None:
        """Raise what was asked for."""
        if self.interrupted:
            raise Interrupted
        if self.stop_reason is not None:
            raise Stopped(self.stop_reason)
