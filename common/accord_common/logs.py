"""The steps that every log line of every process passes, and who may write one.

Guarantees: nothing is written that `redaction` takes out, whoever logs it: Accord, a library
through `logging`, `warnings`, or an exception that nobody caught, in whichever thread; a traceback
holds no local variables, which may be tokens, invitation codes and keys.
"""

import logging
import sys
import threading
from collections.abc import Sequence
from types import TracebackType

import structlog
from structlog.typing import Processor

from accord_common.redaction import redact

# Libraries that tell addresses, headers or a statement's parameters below this level.
QUIET = ("alembic", "asyncio", "httpcore", "httpx", "sqlalchemy", "uvicorn")

BEFORE: Sequence[Processor] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,  # not `dict_tracebacks`: it adds local variables
    redact,
)

_log = structlog.get_logger("accord")


def formatter(*last: Processor) -> logging.Formatter:
    """What writes a library's line like one of Accord's own; `last` renders."""
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=BEFORE,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
    )


def json_formatter() -> logging.Formatter:
    """One JSON object a line."""
    return formatter(structlog.processors.JSONRenderer())


def route(handlers: Sequence[logging.Handler], level: int) -> None:
    """Send what libraries log, warn of, and fail with to `handlers`, and nowhere else."""
    root = logging.getLogger()
    root.handlers = list(handlers)
    root.setLevel(level)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    _log.critical("uncaught", exc_info=(kind, error, trace))


def _uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None:
        name = args.thread.name if args.thread is not None else None
        trace = (args.exc_type, args.exc_value, args.exc_traceback)
        _log.critical("uncaught", thread=name, exc_info=trace)
