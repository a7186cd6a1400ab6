"""How a loop of the daemon waits after a failure."""

import threading

import structlog

from accord_common.backoff import Backoff, Told
from accord_common.errors import AccordError

_FIRST_PAUSE_S, _MOST_PAUSE_S = 0.2, 15.0

log = structlog.get_logger(__name__)


class Pause:
    """Growing, random pauses between attempts; a trouble that lasts is logged once."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._backoff = Backoff(_FIRST_PAUSE_S, _MOST_PAUSE_S)
        self._told = Told()

    def reset(self) -> None:
        """It went well."""
        self._backoff.reset()
        if self._told.news(None):
            log.info("registry-answers-again")

    def after(self, where: str, error: Exception) -> None:
        """Say what went wrong, and wait."""
        if self._stop.is_set():
            return
        if not isinstance(error, AccordError):
            log.error("loop-error", loop=where, exc_info=error)
        elif self._told.news(error.code):
            log.warning("registry-trouble", loop=where, code=error.code, detail=error.message)
        self._stop.wait(self._backoff.pause_s())
