"""What every console script does with trouble: one message, a stable code, never a traceback."""

import json
import sys
from pathlib import Path

import pytest
import typer

from accord_common import cli
from accord_common.cli import LOG, run_app
from accord_common.errors import UsageError


def ends(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    trouble: Exception,
    *arguments: str,
) -> tuple[int, str]:
    """Run a script whose one verb raises; its exit code and what it wrote to stderr."""
    app = typer.Typer(pretty_exceptions_enable=False)

    @app.command()
    def verb(format_: cli.FormatOption = cli.Format.TEXT) -> None:
        raise trouble

    monkeypatch.setattr(sys, "argv", ["accord", *arguments])
    with pytest.raises(SystemExit) as stop:
        run_app(app)
    captured = capsys.readouterr()
    assert captured.out == "" and "Traceback" not in captured.err
    assert isinstance(stop.value.code, int)
    return stop.value.code, captured.err


def test_the_disk_s_trouble_is_one_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = FileNotFoundError(2, "No such file or directory", "/home/a/token")
    code, said = ends(monkeypatch, capsys, gone, "--format", "json")
    told = json.loads(said)["error"]
    assert (code, told["code"]) == (1, "system-error")
    assert told["message"] == "/home/a/token: No such file or directory" and told["hint"]


def test_a_defect_is_one_message_that_says_where(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = ends(monkeypatch, capsys, ZeroDivisionError("by zero"))
    assert code == 1
    assert "[internal-error]: ZeroDivisionError: by zero (test_cli.py:" in said


def test_a_wrong_command_line_is_json_where_json_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = ends(monkeypatch, capsys, ValueError(), "--format=json", "--no-such-option")
    assert code == 2
    assert json.loads(said)["error"]["code"] == "bad-usage"
    code, said = ends(monkeypatch, capsys, ValueError(), "--no-such-option")
    assert code == 2 and said.startswith("Usage:")


def test_a_passphrase_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="no-passphrase"):
        cli.read_passphrase(tmp_path / "key")


def test_a_log_that_cannot_be_written_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/full", "w", encoding="utf-8", buffering=1) as full:
        monkeypatch.setattr(sys, "stderr", full)
        LOG.write("a line\n")
        LOG.flush()
        with pytest.raises(OSError, match="No space left"):
            full.close()
    monkeypatch.undo()
