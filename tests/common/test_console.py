"""What both console scripts share, and that both are completed by a shell."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.text import Text

from accord_common.cli import Format, emit, table

SCRIPTS = Path(sys.executable).parent


def test_tables_line_up_and_keep_every_character() -> None:
    lines = table("name", "n", rows=[["x" * 90, 1], ["病院", 2], [None, ""]]).splitlines()
    assert [len(line) for line in lines[:2]] == [93, 93]
    assert lines[1].startswith("x" * 90) and lines[2].endswith("2")
    assert lines[3].split() == ["-", "-"]


@pytest.mark.parametrize("shown", [str, Text])
def test_what_is_shown_is_what_was_written(shown: type, capsys: pytest.CaptureFixture[str]) -> None:
    """Names of parties are not markup, and not emoji; long lines are left to the terminal."""
    text = "[red]North[/red] :warning: " + "x" * 300
    emit({}, Format.TEXT, shown(text))
    assert capsys.readouterr().out == text + "\n"


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("accord ", {"demo", "init", "agreement", "run", "registry", "aggregator"}),
        ("accord agreement s", {"show", "sign"}),
        ("accord run start --s", {"--schema", "--sign"}),
        ("accord ca issue --", {"--out", "--name", "--home", "--format"}),
        ("accord-node ", {"init", "dataset", "agreement", "try", "approve", "outbox"}),
        ("accord-node dataset ", {"add", "list", "show", "update"}),
        ("accord-node try --s", {"--steps", "--sampling-rate"}),
    ],
)
def test_a_shell_completes_verbs_and_options(line: str, offered: set[str]) -> None:
    script = line.split()[0]
    told = _completion(script, COMP_WORDS=line, COMP_CWORD=str(len(line.split(" ")) - 1))
    assert offered <= set(told.split())


@pytest.mark.parametrize("script", ["accord", "accord-node"])
def test_completion_can_be_shown_for_a_shell(script: str) -> None:
    told = subprocess.run(
        [SCRIPTS / script, "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert "--install-completion" in told and "--show-completion" in told
    assert f"-F _{script.replace('-', '_')}_completion" in _completion(script, value="source_bash")


def _completion(script: str, value: str = "complete_bash", **environment: str) -> str:
    variable = f"_{script.upper().replace('-', '_')}_COMPLETE"
    done = subprocess.run(
        [SCRIPTS / script],
        env={**os.environ, variable: value, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout
