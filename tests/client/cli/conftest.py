"""The console script in this process: arguments in, exit code, stdout and stderr out."""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog

from accord_client.cli import main
from tests.client.institutions import PASSPHRASE

Run = Callable[..., "Outcome"]


@dataclass(frozen=True)
class Outcome:
    """How a call ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.status == 0, self.err
        return json.loads(self.out)

    @property
    def code(self) -> str:
        """The error's stable code."""
        assert self.status != 0, self.out
        code: str = json.loads(self.err.splitlines()[-1])["error"]["code"]
        return code


@pytest.fixture
def accord_node(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Run]:
    """Calls accord-node; `--format json` unless text=True."""
    monkeypatch.setenv("ACCORD_PASSPHRASE", PASSPHRASE)
    monkeypatch.setenv("ACCORD_NODE_HOME", str(tmp_path / "node"))

    def call(*arguments: object, text: bool = False) -> Outcome:
        line = ["accord-node", *map(str, arguments), *([] if text else ["--format", "json"])]
        monkeypatch.setattr(sys, "argv", line)
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        status = ended.value.code
        return Outcome(status if isinstance(status, int) else 0, captured.out, captured.err)

    yield call
    structlog.reset_defaults()  # the script sends its log to this test's stderr
