"""Logging as it was: for tests that set it up like a process does."""

import logging
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import structlog


@contextmanager
def logs_restored() -> Iterator[None]:
    """Put back handlers, level and hooks at the end of a block."""
    handlers, level = logging.root.handlers[:], logging.root.level
    hooks, told = (sys.excepthook, threading.excepthook), logging.raiseExceptions
    hangup = signal.getsignal(signal.SIGHUP)
    try:
        yield
    finally:
        structlog.reset_defaults()
        logging.captureWarnings(False)
        for handler in [found for found in logging.root.handlers if found not in handlers]:
            handler.close()
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)
        sys.excepthook, threading.excepthook = hooks
        logging.raiseExceptions = told
        signal.signal(signal.SIGHUP, hangup)
