"""What ends or suspends a run from outside, whichever thread it comes from."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Literal


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended, for programs (`code`) and people (`cause`)."""

    status: Literal["completed", "failed", "stopped"]
    code: str
    cause: str


def awake_or_not() -> float:
    """Seconds, also those in which the machine slept: a lease goes on running then (Linux)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Interrupted(Exception):
    """This process must not go on with the run; it goes on when a process has its lease again."""


class Stopped(Exception):
    """The run must end, now and for good."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.cause)
        self.ending = ending


@dataclass(slots=True)
class Control:
    """Set by other threads, heeded by the engine within `members.POLL_S` seconds.

    Attributes:
        ending: how the run is to end.
        interrupted: the process must end, or another one has the run.
        barred: party -> code of the sites that the registry shuts out.
        lease_until: when the lease is over, by `clock`, less a margin.
        waiting: for which nodes the engine waits, in words; None while it waits for none long.
        changed: set when `waiting` is another.
    """

    ending: Ending | None = None
    interrupted: bool = False
    barred: Mapping[str, str] = field(default_factory=dict)
    lease_until: float = inf
    clock: Callable[[], float] = awake_or_not
    waiting: str | None = None
    changed: threading.Event = field(default_factory=threading.Event)

    def check(self) -> None:
        """Raise what was asked for, or what time asks for."""
        if self.interrupted or self.clock() >= self.lease_until:
            raise Interrupted
        if self.ending is not None:
            raise Stopped(self.ending)

    def waits(self, words: str | None) -> None:
        """Say for whom the run waits."""
        if words != self.waiting:
            self.waiting = words
            self.changed.set()


def stop(reason: str) -> Ending:
    """What a request to stop asks for."""
    return Ending("stopped", "stop-requested", reason)
