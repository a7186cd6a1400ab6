"""Run the console scripts: one command to its JSON answer, or a service until it is stopped.

Guarantees: every process this module starts is gone when `Services` closes, whatever happened.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from accord_common.cli import PASSPHRASE_VARIABLE
from accord_common.errors import AccordError

STOP_S = 10  # a service that ignores SIGTERM this long is killed
COMMAND_S = 180  # longest single command: the first import of torch on a slow disk


class CommandFailed(AccordError):
    """A console script ended with an error; carries its code, message and hint."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Somebody at a terminal: a folder, a passphrase, a console script, perhaps an own user."""

    name: str
    script: str
    home: Path
    wrap: Callable[[list[str]], list[str]] = lambda command: command
    passphrase: str = field(default="", repr=False)

    def command(self, *arguments: str | Path) -> list[str]:
        """Return the full command line, with this actor's --home and JSON output."""
        script = Path(sys.executable).parent / self.script
        return self.wrap([str(script), *map(str, arguments), "--format", "json"])

    def environment(self) -> dict[str, str]:
        """Nothing of the caller's but path and language; home is the actor's own folder."""
        kept = {key: os.environ[key] for key in ("PATH", "LANG", "LC_ALL") if key in os.environ}
        return kept | {
            "HOME": str(self.home),
            PASSPHRASE_VARIABLE: self.passphrase,
            "OMP_NUM_THREADS": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def run(self, *arguments: str | Path) -> Any:
        """Run one verb to its end and return its JSON answer.

        Raises:
            CommandFailed: with the verb's own code.
        """
        result = subprocess.run(
            self.command(*arguments),
            env=self.environment(),
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )
        if result.returncode:
            raise failure(self, arguments, result.returncode, result.stderr)
        return json.loads(result.stdout)


def failure(
    actor: Actor, arguments: tuple[str | Path, ...], status: int, stderr: str
) -> CommandFailed:
    """Turn a script's error output into an error that says which command it was."""
    verb = f"{actor.script} {' '.join(map(str, arguments[:2]))} ({actor.name})"
    for line in reversed(stderr.strip().splitlines()):
        with contextlib.suppress(json.JSONDecodeError, KeyError, TypeError):
            error = json.loads(line)["error"]
            return CommandFailed(error["code"], f"{verb}: {error['message']}", hint=error["hint"])
    tail = stderr.strip()[-2000:]
    return CommandFailed("command-failed", f"{verb} ended with {status}: {tail}")


class Services:
    """Long-running processes; a context manager that stops them in reverse order."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: list[tuple[str, subprocess.Popen[str]]] = []
        self._lock = threading.Lock()
        self._stopped = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, actor: Actor, *arguments: str | Path) -> dict[str, Any]:
        """Start a service and return the JSON line that it writes when it is ready.

        Raises:
            CommandFailed: where it ends before that line.
        """
        log = self.log(actor)
        with log.open("ab") as stderr:
            process = subprocess.Popen(
                actor.command(*arguments),
                env=actor.environment(),
                cwd=actor.home,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                start_new_session=True,  # Ctrl-C is for the demonstration, which then stops them
            )
        self._keep(actor, process)
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise failure(actor, arguments, process.wait(), log.read_text(errors="replace"))
        ready: dict[str, Any] = json.loads(line)
        return ready

    def log(self, actor: Actor) -> Path:
        """Where an actor's services write what they log."""
        return self._logs / f"{actor.name.lower().replace(' ', '-')}.log"

    def follow(self, actor: Actor, *arguments: str | Path) -> "Lines":
        """Start a verb that writes JSON lines until it ends."""
        process = subprocess.Popen(
            actor.command(*arguments),
            env=actor.environment(),
            cwd=actor.home,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._keep(actor, process)
        return Lines(actor, arguments, process)

    def pid(self, actor: Actor) -> int:
        """Process id of an actor's newest process."""
        return self._newest(actor).pid

    def alive(self, actor: Actor) -> bool:
        """Whether an actor's newest process runs."""
        return self._newest(actor).poll() is None

    def kill(self, actor: Actor) -> None:
        """SIGKILL an actor's newest process, as a crash would, and wait until it is gone."""
        process = self._newest(actor)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def stop(self) -> None:
        """Stop everything: SIGTERM to each group, SIGKILL to those that stay.

        An impatient second Ctrl-C does not cut it short; nothing can be started afterwards.
        """
        with self._lock:
            self._stopped = True
        with _undisturbed():
            for _, process in self._running:
                _ask_to_end(process)
            while self._running:
                _, process = self._running[-1]
                _end(process)
                self._running.pop()

    def _newest(self, actor: Actor) -> "subprocess.Popen[str]":
        return next(process for name, process in reversed(self._running) if name == actor.name)

    def _keep(self, actor: Actor, process: subprocess.Popen[str]) -> None:
        with self._lock:  # somebody's thread may still start what `stop` would no longer see
            if not self._stopped:
                self._running.append((actor.name, process))
                return
        _end(process)
        raise CommandFailed("stopped", f"{actor.name} was started after everything was stopped")


@dataclass(frozen=True, slots=True)
class Lines:
    """The JSON lines of a running verb."""

    actor: Actor
    arguments: tuple[str | Path, ...]
    process: subprocess.Popen[str]

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise StopIteration
        value: dict[str, Any] = json.loads(line)
        return value

    def status(self) -> tuple[int, str]:
        """Wait for the end; return exit status and error output."""
        _, stderr = self.process.communicate()
        return self.process.returncode, stderr


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Ignore what would interrupt the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ask_to_end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)


def _end(process: subprocess.Popen[str]) -> None:
    _ask_to_end(process)
    if process.poll() is None:
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()
