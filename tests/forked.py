"""Verbs that start at once: forked from a process that has imported what verbs import.

A federation of three takes some thirty verbs to set up, and most of each is Python reading modules.
Such a verb is a process of its own all the same, with its own arguments, environment and folder; an
interpreter's start is what it leaves out, and so `sitecustomize` of a PYTHONPATH. Daemons are
started as ever.
"""

import atexit
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from accord_server.demo.federation import Federation
from accord_server.demo.processes import Actor, failure

_PACKAGES = {"accord": "accord_server", "accord-node": "accord_client"}
_MESSAGE_BYTES = 1 << 20  # a verb's arguments and environment: a few kB


@dataclass(frozen=True, slots=True)
class ForkedActor(Actor):
    """An actor whose verbs are forked."""

    @classmethod
    def of(cls, actor: Actor) -> "ForkedActor":
        """The same actor."""
        return cls(**{field.name: getattr(actor, field.name) for field in fields(actor)})

    def run(self, *arguments: str | Path) -> Any:
        """Run one verb to its end and return its JSON answer; errors are those of `Actor.run`."""
        command, environment = self.command(*arguments), self.environment()
        if command[0] == "env":
            given = [word for word in command[1:] if "=" in word.partition("/")[0]]
            environment |= dict(word.split("=", 1) for word in given)
            command = command[1 + len(given) :]
        if Path(command[0]).name != self.script:  # it runs in a place of its own
            return Actor.run(self, *arguments)
        with tempfile.TemporaryDirectory(prefix="verb-") as folder:
            out, err = Path(folder, "out"), Path(folder, "err")
            with socket.socket(socket.AF_UNIX) as line:
                line.connect(_parent(self.script))
                line.sendall(
                    json.dumps(
                        {
                            "arguments": command,
                            "environment": environment,
                            "folder": str(self.home),
                            "out": str(out),
                            "err": str(err),
                        }
                    ).encode()
                )
                line.shutdown(socket.SHUT_WR)
                status = line.recv(8)
            assert status, f"{command} was killed: {err.read_text()}"
            if int(status):
                raise failure(self, arguments, int(status), err.read_text())
            return json.loads(out.read_text())


def fork_verbs(federation: Federation, *, of_nodes: bool = True) -> None:
    """Have everybody's verbs forked from now on."""
    federation.registry = ForkedActor.of(federation.registry)
    federation.coordinator = ForkedActor.of(federation.coordinator)
    federation.aggregator = ForkedActor.of(federation.aggregator)
    if of_nodes:
        federation.nodes = [*map(ForkedActor.of, federation.nodes)]


@cache
def _parent(script: str) -> str:
    """Start the process that forks a script's verbs, once for all tests here; its socket's path."""
    folder = tempfile.TemporaryDirectory(prefix="forks-")
    path = f"{folder.name}/socket"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.forked", script, path], cwd=Path(__file__).parents[1],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment,
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    atexit.register(folder.cleanup)
    atexit.register(process.wait)
    atexit.register(process.stdin.close)  # first: at its end the process goes
    return path


def _serve(script: str, path: str) -> None:
    """Fork a child for each connection, until standard input ends."""
    app = import_module(f"{_PACKAGES[script]}.cli.app")
    if script == "accord":  # what verbs import when they are called
        verbs = (verb.target.partition(":")[0] for verb in app.VERBS.values())
        late = ["httpcore", *(f"accord_server.cli.{verb}" for verb in verbs)]
    else:
        late = ["httpcore", "accord_client.agreements", "accord_client.data.files"]
    for name in (*late, "pandera.pandas"):
        import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for a child
    with socket.socket(socket.AF_UNIX) as listener, selectors.DefaultSelector() as selector:
        listener.bind(path)
        listener.listen(64)
        selector.register(listener, selectors.EVENT_READ)
        selector.register(0, selectors.EVENT_READ)
        os.write(1, b"ready\n")
        while all(key.fileobj is listener for key, _ in selector.select()):
            line, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                status = _be(line, app.main)
                line.sendall(str(status).encode())
                os._exit(status)
            line.close()


def _be(line: socket.socket, main: Callable[[], object]) -> int:
    """Become the verb that was asked for; its exit status."""
    asked = json.loads(line.makefile("rb").read(_MESSAGE_BYTES))
    os.environ.clear()
    os.environ.update(asked["environment"])
    os.chdir(asked["folder"])
    sys.path[:0] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    sys.argv = asked["arguments"]
    for number, name in ((0, os.devnull), (1, asked["out"]), (2, asked["err"])):
        os.dup2(os.open(name, os.O_RDWR | os.O_CREAT), number)
    status = 0
    try:
        main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    return status


if __name__ == "__main__":
    _serve(*sys.argv[1:])
