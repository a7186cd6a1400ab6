"""What every daemon logs: one JSON object a line, in a file of bounded size, on stderr, or both.

Guarantees: a log that cannot be written, rotated or reopened ends no work. The file and what was
rotated away stay within (backups + 1) sizes, mode 0600; a file that somebody else moved, removed
or replaced is opened anew at the next line. Of an exception stand its types, codes and places,
never its words, which may quote a row, an address with its password, or a key; never local
variables. What `redaction` takes for a secret is in no line, whoever logs it: Accord, a library,
`warnings`, or an exception that nobody caught, in whichever thread. Accord's own loggers alone go
below warnings: libraries write headers, tokens and statements there.

Not covered: a device that hangs instead of failing; the
bound, where the folder lets nobody rename.
"""

import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from logging.handlers import RotatingFileHandler
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, Annotated, Any, Self

import structlog
import typer

from accord_common.cli import LOG
from accord_common.errors import AccordError
from accord_common.redaction import redact

OWN = ("accord", "accord_client", "accord_common", "accord_server")  # loggers, as packages
_MIB = 1 << 20
_DEEPEST = 8  # causes of causes; a longer chain is a loop

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]

LogFileOption = Annotated[
    Path | None,
    typer.Option("--log-file", envvar="ACCORD_LOG_FILE", help="The log file; rotated by size."),
]
LogSizeOption = Annotated[
    int,
    typer.Option(
        "--log-mib", envvar="ACCORD_LOG_MIB", help="MiB after which it is rotated.", min=1, max=4096
    ),
]
LogBackupsOption = Annotated[
    int,
    typer.Option(
        "--log-backups", envvar="ACCORD_LOG_BACKUPS", help="Rotated files to keep.", min=1, max=100
    ),
]
DebugOption = Annotated[
    bool,
    typer.Option("--debug", envvar="ACCORD_DEBUG", help="Log each message and request as well."),
]
LOG_MIB, LOG_BACKUPS = 10, 5


@dataclass(frozen=True, slots=True)
class LogFile:
    """Where to log, and how much of it is kept."""

    path: Path
    mib: int = LOG_MIB
    backups: int = LOG_BACKUPS

    @classmethod
    def given(cls, path: Path | None, mib: int, backups: int) -> Self | None:
        """What the options say; None where no file was named."""
        return None if path is None else cls(path.expanduser().absolute(), mib, backups)


class _Handler(RotatingFileHandler):
    """Rotates by size, and sees what others did to the file: logrotate, `rm`, a new mount."""

    def __init__(self, file: LogFile) -> None:
        self._identity: tuple[int, int] | None = None
        self._again = threading.Event()
        super().__init__(
            file.path,
            maxBytes=file.mib * _MIB,
            backupCount=file.backups,
            encoding="utf-8",
            delay=True,
        )

    def reopen(self) -> None:
        """Open the file anew at the next line; safe in a signal handler."""
        self._again.set()

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line into the file that has the name now."""
        try:
            if self.stream is not None and (
                self._again.is_set() or self._identity != self._named()
            ):
                self._again.clear()
                self._let_go()
        except OSError:
            self.handleError(record)
        super().emit(record)

    def doRollover(self) -> None:
        """Rotate; where that fails, go on in the same file rather than lose lines."""
        try:
            super().doRollover()
        except OSError:
            self._let_go()

    def _open(self) -> Any:
        opened: IO[str] = open(
            self.baseFilename,
            "a",
            encoding="utf-8",
            opener=lambda path, flags: os.open(path, flags, 0o600),
        )
        status = os.fstat(opened.fileno())
        self._identity = status.st_dev, status.st_ino
        return opened

    def _named(self) -> tuple[int, int] | None:
        try:
            status = os.stat(self.baseFilename)
        except FileNotFoundError:
            return None
        return status.st_dev, status.st_ino

    def _let_go(self) -> None:
        stream, self.stream = self.stream, None
        with suppress(OSError):  # what a full disk has not taken by now is lost
            if stream is not None:
                stream.close()


def configure(
    file: LogFile | None,
    *,
    brief: structlog.typing.Processor | None = None,
    debug: bool = False,
) -> None:
    """Send structlog and the standard library's log to stderr, and to `file` where there is one.

    Args:
        file: JSON lines; SIGHUP reopens it.
        brief: makes a line for people of an event, for stderr; JSON there too where it is None.
        debug: whether Accord's own loggers tell each step.

    Raises:
        OSError: the file cannot be opened.
    """
    handlers: list[logging.Handler] = [logging.StreamHandler(LOG)]
    handlers[0].setFormatter(_formatter(brief or structlog.processors.JSONRenderer()))
    if file is not None:
        handler = _Handler(file)
        handler.stream = handler._open()  # a wrong place is told now, not lost with each line
        handler.setFormatter(_formatter(structlog.processors.JSONRenderer()))
        handlers.append(handler)
        on_hangup(reopen)
    logging.raiseExceptions = False  # a full disk is told by what it stops, not by each log line
    root = logging.getLogger()
    root.handlers = handlers
    root.setLevel(logging.WARNING)
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread
    for name in OWN:
        logging.getLogger(name).setLevel(logging.DEBUG if debug else logging.INFO)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            *_shared(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        structlog.get_logger("accord").critical("uncaught", exc_info=(kind, error, trace))


def _uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None:
        told = (args.exc_type, args.exc_value, args.exc_traceback)
        name = args.thread.name if args.thread is not None else None
        structlog.get_logger("accord").critical("uncaught", thread=name, exc_info=told)


def reopen() -> None:
    """Open the log file anew at the next line: for whoever takes SIGHUP for more than this."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _Handler):
            handler.reopen()


def places(error: ExcInfo) -> list[dict[str, Any]]:
    """An exception and its causes, outermost first: type, code or number, and where; no words."""
    found: list[dict[str, Any]] = []
    current: BaseException | None = error[1]
    while current is not None and len(found) < _DEEPEST:
        told: dict[str, Any] = {"type": type(current).__name__}
        if isinstance(current, AccordError):
            told["code"] = current.code
        if isinstance(current, OSError) and current.errno is not None:
            told["errno"] = current.errno
        frames = traceback.extract_tb(current.__traceback__)
        told["at"] = [f"{_below(item.filename)}:{item.lineno} in {item.name}" for item in frames]
        found.append(told)
        current = current.__cause__ or (
            None if current.__suppress_context__ else current.__context__
        )
    return found


def _below(filename: str) -> str:
    """A source file from its package on: `accord_client/session.py`."""
    for folder in sorted(map(os.path.abspath, sys.path), key=len, reverse=True):
        if filename.startswith(folder + os.sep):
            return filename[len(folder) + 1 :]
    return os.path.basename(filename)


def _shared() -> list[structlog.typing.Processor]:
    return [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


def _formatter(last: structlog.typing.Processor) -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_shared(),
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.ExceptionRenderer(places),  # type: ignore[arg-type]  # a list of places, not one text
            redact,
            last,
        ],
    )


def on_hangup(act: Callable[[], None]) -> None:
    """Have SIGHUP do this too, after what it does already."""
    if threading.current_thread() is not threading.main_thread():
        return  # Python sets handlers in the main thread alone

    before = signal.getsignal(signal.SIGHUP)

    def handle(number: int, frame: FrameType | None) -> None:
        if callable(before):
            before(number, frame)
        act()

    signal.signal(signal.SIGHUP, handle)
