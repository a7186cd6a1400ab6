"""The daemon's log: JSON lines in `logs/node.jsonl`, rotated, and brief lines on stderr.

Guarantees: those of `accord_common.logs`; nothing is written elsewhere; the file is mode 0600, as
it may name rows and columns.
"""

import logging
import os
from logging.handlers import RotatingFileHandler
from pathlib import Path

import structlog

from accord_common.cli import LOG
from accord_common.logs import BEFORE, formatter, json_formatter, route

FILE = Path("logs") / "node.jsonl"
_MAX_BYTES, _BACKUPS = 10 << 20, 5


def configure(folder: Path) -> None:
    """Send structlog and the standard library's log to file and stderr."""
    path = folder / FILE
    path.parent.mkdir(mode=0o700, exist_ok=True)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
    file = RotatingFileHandler(path, maxBytes=_MAX_BYTES, backupCount=_BACKUPS, encoding="utf-8")
    file.setFormatter(json_formatter())
    brief = logging.StreamHandler(LOG)
    brief.setFormatter(formatter(_brief))
    logging.raiseExceptions = False  # a full disk is told by what it stops, not by each log line
    route([file, brief], logging.INFO)
    structlog.configure(
        processors=[*BEFORE, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def _brief(_: object, __: str, event: structlog.typing.EventDict) -> str:
    """`12:00:00 update-ready round=3 attempt=0`, without ids that a person does not read."""
    time = str(event.pop("timestamp", ""))[11:19]
    level = str(event.pop("level", "info"))
    name = event.pop("event", "")
    event.pop("exception", None)
    detail = " ".join(f"{key}={_short(value)}" for key, value in event.items())
    mark = "" if level == "info" else f"{level}: "
    return f"{time} {mark}{name} {detail}".rstrip()


def _short(value: object) -> str:
    text = str(value)
    return f"{text[:13]}..." if len(text) >= 36 and " " not in text else text
