"""People at terminals: what they type, and what they read. Nothing is answered in JSON."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from accord_server.demo.processes import COMMAND_S, Actor

_WITHOUT = {("agreement", "new"), ("audit", "verify")}  # verbs that take no --home


@dataclass(frozen=True)
class Said:
    """How a command ended.

    Attributes:
        code: the exit status.
        out: what it answered.
        err: what it said beside that.
    """

    code: int
    out: str
    err: str

    def ok(self) -> str:
        """The answer of a command that must have worked."""
        assert self.code == 0, self.err
        return self.out


def say(actor: Actor, *arguments: object) -> Said:
    """Type a command, as this actor."""
    script = Path(sys.executable).parent / actor.script
    words = [*map(str, arguments)]
    if "--home" not in words and tuple(words[:2]) not in _WITHOUT:
        words += ["--home", str(actor.home / "accord")]
    done = subprocess.run(
        actor.wrap([str(script), *words]),
        env=actor.environment() | {"COLUMNS": "200"},
        cwd=actor.home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=COMMAND_S,
        check=False,
    )
    return Said(done.returncode, done.stdout, done.stderr)
