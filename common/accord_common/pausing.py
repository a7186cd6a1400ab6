"""What a thread does that goes on asking a peer which does not answer: wait, longer each time.

Guarantees: a trouble that lasts is logged once, and its end is; whatever is no AccordError is
logged with its place each time; a pause ends at once when the thread is to end.
"""

import threading

import structlog

from accord_common.backoff import Backoff, Told
from accord_common.errors import AccordError

log = structlog.get_logger(__name__)


class Pause:
    """Growing random pauses between tries.

    Args:
        first_s: the longest that the first may be, seconds.
        most_s: the longest that any may be.
        ended: set by whoever ends the thread, if others wait for the same.
    """

    def __init__(self, first_s: float, most_s: float, ended: threading.Event | None = None) -> None:
        self._ended = threading.Event() if ended is None else ended
        self._backoff = Backoff(first_s, most_s)
        self._told = Told()

    @property
    def cancelled(self) -> bool:
        """Whether there is anything left to wait for."""
        return self._ended.is_set()

    def cancel(self) -> None:
        """End the present pause and all others."""
        self._ended.set()

    def after(self, event: str, error: Exception, **facts: object) -> None:
        """Say why where that is news, then wait."""
        if self.cancelled:
            return
        if not isinstance(error, AccordError):
            log.error("loop-error", exc_info=error, **facts)
        elif self._told.news(error.code):
            log.warning(event, code=error.code, why=error.message, **facts)
        self._ended.wait(self._backoff.pause_s())

    def reset(self) -> None:
        """All is well: begin with a short pause again."""
        self._backoff.reset()
        if self._told.news(None):
            log.info("registry-answers-again")
