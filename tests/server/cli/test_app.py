"""The console script as a whole: quick, complete, and clear about what is missing."""

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import click
import pytest
import typer

from accord_server.cli import app as console
from tests.server.cli.office import PASSPHRASE, accord

COUNTRY = ("--jurisdiction", "DE")


def commands(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Every verb below a command."""
    if not isinstance(command, click.Group):
        yield path
        return
    for name, inner in command.commands.items():
        yield from commands(inner, (*path, name))


def every_verb() -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for name in console.VERBS:
        module, _, attribute = console.VERBS[name].target.partition(":")
        app = getattr(import_module(f"accord_server.cli.{module}"), attribute)
        found += commands(typer.main.get_command(app), (name,))
    return found


@pytest.mark.parametrize("verb", every_verb(), ids=" ".join)
def test_every_verb_has_help_with_an_example(verb: tuple[str, ...]) -> None:
    answer = accord(*verb, "--help")
    assert answer.code == 0 and answer.err == ""
    words = " ".join(answer.out.split())
    assert f"Usage: accord {' '.join(verb)}" in words
    assert f"Example: accord {' '.join(verb)}" in words


@pytest.mark.parametrize("verb", every_verb(), ids=" ".join)
def test_every_verb_answers_in_json(verb: tuple[str, ...]) -> None:
    assert "--format" in accord(*verb, "--help").out


def test_the_brief_help_imports_no_verb() -> None:
    """Nothing heavy, and nothing of a verb: that is what keeps it instant."""
    script = (
        "import sys; sys.argv = ['accord', '--help']\n"
        "from accord_server.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'flwr', 'fastapi', 'sqlalchemy', 'pandas', 'numpy', 'httpx'}\n"
        "mine = {m for m in sys.modules if m.startswith('accord_server.cli.')}\n"
        "print(sorted(heavy & set(sys.modules)), sorted(mine), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr.strip() == "[] ['accord_server.cli.app']"
    for name, verb in console.VERBS.items():
        assert name in done.stdout and verb.help.split(".")[0][:30] in done.stdout


def test_a_mistyped_verb_is_answered_with_the_near_one() -> None:
    answer = accord("partnr")
    assert answer.code == 2 and answer.out == ""
    assert answer.err.count("Did you mean") == 1 and "partner" in answer.err


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "accord_server.cli.task", raising=False)
    verb = console.VERBS["task"]._replace(target="needs_torch:app")
    monkeypatch.setitem(console.VERBS, "task", verb)

    def load(name: str) -> object:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr(console, "import_module", load)
    answer = accord("task", "list", "--format", "json")
    assert (answer.code, answer.out, answer.error["code"]) == (2, "", "missing-extra")
    assert answer.error["hint"] == "pip install 'accord[coordinator]'"


def test_a_part_of_accord_that_is_missing_is_a_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    verb = console.VERBS["task"]._replace(target="absent:app")
    monkeypatch.setitem(console.VERBS, "task", verb)
    answer = accord("task", "list", "--format", "json")
    assert (answer.code, answer.error["code"]) == (1, "internal-error")
    assert "ModuleNotFoundError: No module named 'accord_server.cli.absent'" in str(answer.error)


def test_keys_are_made_once_and_sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "accord"
    arguments = ("init", "--name", "Office", "--role", "auditor", *COUNTRY, "--home", home)
    monkeypatch.setenv("ACCORD_PASSPHRASE", "short")
    short = accord(*arguments, "--format", "json")
    assert (short.code, short.error["code"]) == (2, "short-passphrase") and not home.exists()
    monkeypatch.setenv("ACCORD_PASSPHRASE", PASSPHRASE)
    made = accord(*arguments, "--format", "json").json
    assert (made["name"], made["role"]) == ("Office", "auditor")
    assert b"accord-sealed-key-v1" in (home / "identity.key").read_bytes()
    assert accord(*arguments, "--format", "json").error["code"] == "home-exists"
    unjoined = accord("run", "list", "--home", home, "--format", "json")
    assert (unjoined.code, unjoined.error["code"]) == (2, "not-enrolled")


def test_a_torn_invitation_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCORD_PASSPHRASE", PASSPHRASE)
    own = ("--home", tmp_path / "accord", "--format", "json")
    accord("init", "--name", "Office", *COUNTRY, *own)
    answer = accord("enroll", "accord-invite:eyJjYSI6", *own)
    assert (answer.code, answer.error["code"]) == (5, "bad-invitation")


def test_tasks_are_listed_and_scaffolded(tmp_path: Path) -> None:
    listed = accord("task", "list", "--format", "json").json
    assert all(len(item["code_hash"]) == 64 for item in listed)
    folder = tmp_path / "triage"
    made = accord("task", "new", "triage", "--folder", folder, "--format", "json").json
    assert made["name"] == "triage" and (folder / "pyproject.toml").exists()
    again = accord("task", "new", "triage", "--folder", folder, "--format", "json")
    assert (again.code, again.error["code"]) == (2, "folder-not-empty")
