"""The node's log: a file that only its owner reads, brief lines for people, no secret in either."""

import json
import logging
import secrets
from pathlib import Path

import pytest
import structlog

from accord_client import logs
from accord_common.logs import LogFile
from tests.logging_state import logs_restored


def test_file_and_terminal_hold_no_secret(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = f"accord_{secrets.token_urlsafe(32)}"
    with logs_restored():
        logs.configure(LogFile(tmp_path / logs.FILE))
        structlog.get_logger("accord").info("update-ready", round=3, token=secret)
        logging.getLogger("a library").warning("sent Authorization: Bearer %s", secret)
        try:
            raise RuntimeError(f"no answer to {secret}")
        except RuntimeError:
            structlog.get_logger("accord").exception("session-error")
    path = tmp_path / logs.FILE
    assert path.stat().st_mode & 0o777 == 0o600
    text, brief = path.read_text(), capsys.readouterr().err
    assert secret not in text + brief
    ready, sent, failed = map(json.loads, text.splitlines())
    assert ready.items() >= {"event": "update-ready", "round": 3, "level": "info"}.items()
    assert sent["event"].startswith("sent Authorization: Bearer")
    assert "test_file_and_terminal" in str(failed["exception"])
    first, _, last = brief.splitlines()
    assert first.endswith("update-ready round=3 token=[redacted]")
    assert last.endswith("error: session-error")  # a traceback is for the file
