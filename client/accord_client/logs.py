"""The daemon's log: JSON lines in `logs/node.jsonl`, rotated, and brief lines on stderr.

Guarantees: those of `accord_common.logs`; nothing is written elsewhere.
"""

from pathlib import Path

import structlog

from accord_common import logs
from accord_common.logs import LogFile

FILE = Path("logs") / "node.jsonl"


def configure(file: LogFile, *, debug: bool = False) -> None:
    """Send all logs to `file`, whose folder is made where it is missing, and to stderr."""
    file.path.parent.mkdir(mode=0o700, exist_ok=True)
    logs.configure(file, brief=_brief, debug=debug)


def _brief(_: object, __: str, event: structlog.typing.EventDict) -> str:
    """`12:00:00 update-ready round=3 attempt=0`, without ids that a person does not read."""
    time = str(event.pop("timestamp", ""))[11:19]
    level = str(event.pop("level", "info"))
    name = event.pop("event", "")
    for left_out in ("exception", "logger"):  # the file has them
        event.pop(left_out, None)
    detail = " ".join(f"{key}={_short(value)}" for key, value in event.items())
    mark = "" if level == "info" else f"{level}: "
    return f"{time} {mark}{name} {detail}".rstrip()


def _short(value: object) -> str:
    text = str(value)
    return f"{text[:13]}..." if len(text) >= 36 and " " not in text else text
