"""Work beside the pages, repeated in a thread: what takes long is never waited for by a page.

Guarantees: a page shows the newest result and when it was had; an errand that fails with one of our
errors shows that instead, and is tried again; none outlives `stop`.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

import structlog

from accord_common.errors import AccordError
from accord_common.fields import now

Result = TypeVar("Result")

_REST = 20  # times as long as it took, at least: an errand never takes a twentieth of a core

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Found(Generic[Result]):
    """What an errand brought: `value` may be older than `trouble`, which is None if all went well.

    Attributes:
        at: when `value` was had; None before the first time.
        count: how often something new was found, for whoever waits for that.
    """

    value: Result
    at: datetime | None = None
    trouble: AccordError | None = None
    count: int = 0


class Errand(Generic[Result]):
    """See the module.

    Args:
        name: of the thread.
        run: does it.
        first: what pages show before it was done.
        period_s: between two times, at least.
    """

    def __init__(
        self, name: str, run: Callable[[], Result], first: Result, period_s: float
    ) -> None:
        self._run = run
        self._period_s = period_s
        self._wake = threading.Event()
        self._stopped = False
        self._thread = threading.Thread(target=self._repeat, name=name, daemon=True)
        self.found = Found(first)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def hurry(self) -> None:
        """Do it again now: somebody changed what it looks at."""
        self._wake.set()

    def stop(self) -> None:
        """End it, without waiting for one that hangs."""
        self._stopped = True
        self._wake.set()

    def once(self) -> None:
        """Do it, and keep what it brings."""
        was = self.found
        trouble: AccordError | None = None
        value, at = was.value, was.at
        try:
            value, at = self._run(), now()
        except AccordError as error:
            trouble = error
        except OSError as error:
            said = f"{error.filename or self._thread.name}: {error.strerror or error}"
            trouble = AccordError("system-error", said, hint="Check owner, mode and disk.")
        code = None if trouble is None else trouble.code
        fresh = value != was.value or code != (was.trouble and was.trouble.code)
        self.found = Found(value, at, trouble, was.count + fresh)

    def _repeat(self) -> None:
        while not self._stopped:
            self._wake.clear()
            began = time.monotonic()
            try:
                self.once()
            except Exception:
                log.exception("errand-failed", errand=self._thread.name)
            took = time.monotonic() - began
            self._wake.wait(max(self._period_s, _REST * took))
