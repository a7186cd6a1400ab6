"""What both console scripts share: groups of verbs, output, tables, errors, passphrases.

Guarantees: stdout carries data and nothing else; every `AccordError` becomes one message on stderr
with its stable code and the exit code of its class; no traceback reaches a person who typed
something wrong.
"""

import contextlib
import io
import json
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, NoReturn, TextIO, cast

import click
import structlog
import typer
from pydantic import BaseModel
from rich.cells import cell_len, set_cell_size
from rich.console import Console, RenderableType

from accord_common.api.rows import to_csv
from accord_common.errors import AccordError, UsageError
from accord_common.redaction import redact, redact_text

PASSPHRASE_VARIABLE = "ACCORD_PASSPHRASE"


class Format(StrEnum):
    """How a verb writes its answer."""

    TEXT = "text"
    JSON = "json"


class LogStream(io.TextIOBase):
    """Standard error, wherever it points; what cannot be written there is dropped.

    A full disk or a closed pipe behind a log must not end the work that is logged.
    """

    def write(self, text: str) -> int:
        """Write what can be written."""
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush what can be flushed."""
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()


class RowsFormat(StrEnum):
    """How a verb writes its answer where that is a list of rows."""

    TEXT = "text"
    JSON = "json"
    CSV = "csv"


LOG = cast(TextIO, LogStream())

FormatOption = Annotated[
    Format, typer.Option("--format", help="text for people, json (one object) for programs.")
]
RowsFormatOption = Annotated[
    RowsFormat,
    typer.Option("--format", help="text for people, json (one list) or csv for programs."),
]
PassphraseOption = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file",
        help=f"File with the identity key's passphrase; else ${PASSPHRASE_VARIABLE}, else asked.",
    ),
]
RotateKeyOption = Annotated[
    bool, typer.Option("--rotate-key", help="Make new keys; the present ones end.")
]
ReasonOption = Annotated[str, typer.Option(help="Why; every member can read it.")]
BundleArgument = Annotated[Path, typer.Argument(help="The zip to write; must not exist.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def verbs(help_: str) -> typer.Typer:
    """Make a group of verbs in the style of all; it stays a group with a single verb too."""
    app = typer.Typer(
        help=help_,
        no_args_is_help=True,
        add_completion=False,  # the console script itself offers it
        suggest_commands=False,  # click suggests already
    )
    app.callback()(lambda: None)
    return app


def table(*columns: str, rows: Sequence[Sequence[object]]) -> str:
    """Line columns up; nothing is wrapped or cut, so that ids can be copied and searched for."""
    cells = [["-" if cell in (None, "") else str(cell) for cell in row] for row in rows]
    lines = [list(columns), *cells]
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    aligned = (
        "  ".join(set_cell_size(cell, width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    )
    return "\n".join(line.rstrip() for line in aligned)


def emit(
    value: BaseModel | dict[str, Any] | Sequence[Any],
    format_: Format,
    text: RenderableType | None = None,
) -> None:
    """Write the verb's answer: one JSON value, or `text` (the value itself where it is None)."""
    if format_ is Format.JSON:
        sys.stdout.write(
            json.dumps(_plain(value), separators=(",", ":"), ensure_ascii=False) + "\n"
        )
        sys.stdout.flush()
        return
    Console(soft_wrap=True, highlight=False, markup=False, emoji=False).print(
        json.dumps(_plain(value), indent=2, ensure_ascii=False) if text is None else text
    )


def emit_rows(
    model: type[BaseModel],
    rows: Sequence[BaseModel],
    format_: RowsFormat,
    text: str,
    added: Sequence[dict[str, Any]] = (),
) -> None:
    """Write rows of one model: every field of each as JSON or CSV, or `text`.

    `added` has, where it is given, what JSON shows beside each row.
    """
    if format_ is RowsFormat.CSV:
        sys.stdout.write(to_csv(model, rows))
        sys.stdout.flush()
        return
    plain = [_plain(row) for row in rows]
    if added:
        plain = [row | more for row, more in zip(plain, added, strict=True)]
    emit(plain, Format(format_.value), text)


def note(message: str) -> None:
    """Tell a person something on stderr."""
    _stderr().print(message)


def run_app(app: typer.Typer) -> NoReturn:
    """Run a console script to its end and exit with the code of how it ended.

    0 ok, 1 failed, 2 usage, 3 refused by policy, 4 unreachable, 5 verification failed, 130 Ctrl-C.
    """
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=True),
            structlog.processors.format_exc_info,
            redact,
            # Not its default, which prints local variables, a passphrase among them.
            structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=lambda *_: structlog.PrintLogger(LOG),
    )
    try:
        result = app(standalone_mode=False)
        sys.exit(result if isinstance(result, int) else 0)
    except AccordError as error:
        _report(error.code, error.message, error.hint)
        sys.exit(error.exit_code)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        _report_usage(error)
        sys.exit(2)
    except (KeyboardInterrupt, click.exceptions.Abort):
        _report("interrupted", "stopped by Ctrl-C", "")
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename is not None else ""
        hint = "Check that it is there, what it is, its owner and mode, and the space on its disk."
        _report("system-error", f"{where}{error.strerror or error}", hint)
        sys.exit(1)
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}:{place.lineno}"
        what = f"{type(error).__name__}: {redact_text(str(error))} ({where})"
        _report("internal-error", what, "This is a defect of Accord's; please report it.")
        sys.exit(1)


def read_passphrase(
    file: Path | None,
    *,
    confirm: bool = False,
    variable: str = PASSPHRASE_VARIABLE,
    of: str = "identity key",
) -> str:
    """Return the passphrase from a file, the environment, or a prompt on the terminal.

    Args:
        file: holds it, if given.
        confirm: ask twice.
        variable: the environment's.
        of: what it seals, for people.

    Raises:
        UsageError: `no-passphrase` without any of the three, `passphrases-differ`.
    """
    if file is not None:
        try:
            return file.read_text(encoding="utf-8").rstrip("\r\n")
        except OSError as error:
            raise UsageError("no-passphrase", f"cannot read {file}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise UsageError("no-passphrase", f"{file} is not UTF-8 text") from error
    if value := os.environ.get(variable):
        return value
    if not sys.stdin.isatty():
        raise UsageError(
            "no-passphrase",
            f"the {of} is sealed and there is no terminal to ask for its passphrase",
            hint=f"Give --passphrase-file or set {variable}.",
        )
    first: str = typer.prompt(f"Passphrase of the {of}", hide_input=True, err=True)
    if confirm and typer.prompt("Once more", hide_input=True, err=True) != first:
        raise UsageError("passphrases-differ", "the two passphrases differ")
    return first


def confirm(question: str, *, yes: bool) -> None:
    """Ask a person to go on; `--yes` answers, and without a terminal it is required.

    Raises:
        UsageError: `not-confirmed`.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("not-confirmed", question, hint="Add --yes if this is what you want.")
    if not typer.confirm(question, err=True):
        raise UsageError("not-confirmed", "stopped at your request; nothing was done")


def _report_usage(error: click.ClickException) -> None:
    if not _wants_json(sys.argv):
        error.show()
        return
    context = error.ctx if isinstance(error, click.UsageError) else None
    hint = f"See {context.command_path} --help." if context is not None else ""
    _report("bad-usage", error.format_message(), hint)


def _report(code: str, message: str, hint: str) -> None:
    if _wants_json(sys.argv):
        body = {"error": {"code": code, "message": message, "hint": hint}}
        sys.stderr.write(json.dumps(body, separators=(",", ":"), ensure_ascii=False) + "\n")
        return
    console = _stderr()
    console.print(f"error [{code}]: {message}", style="red")
    if hint:
        console.print(f"  {hint}")


def _stderr() -> Console:
    return Console(stderr=True, soft_wrap=True, highlight=False, markup=False, emoji=False)


def _wants_json(arguments: Sequence[str]) -> bool:
    return "--format=json" in arguments or ("--format", "json") in pairwise(arguments)


def _plain(value: object) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
