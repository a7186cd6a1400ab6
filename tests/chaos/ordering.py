"""Have a process die at a named step, and bring it back."""

import json
import shutil
import signal
import time
from pathlib import Path
from threading import Event
from typing import Any

from accord_server.demo.federation import Federation
from accord_server.demo.processes import Actor
from tests.chaos import dying
from tests.chaos.dying import ORDER, Step
from tests.known import installing

PATIENCE_S = 120.0  # for what takes a second or two on a machine that has nothing else to do
_POLL_S = 0.01


def make_mortal(federation: Federation, *installed: Path) -> None:
    """Before anything is started: registry, aggregator and nodes will take orders."""
    federation.registry = _mortal(federation.registry)
    federation.aggregator = _mortal(federation.aggregator)
    federation.nodes = [_mortal(node, *installed) for node in federation.nodes]


def order(actor: Actor, step: Step, signal_: signal.Signals = signal.SIGKILL) -> None:
    """Have an actor's process die, or stop, when it next comes to a step."""
    new = _place(actor) / "new"
    new.write_text(f"{signal_:d} {step}")
    new.replace(_place(actor) / ORDER)


def await_death(federation: Federation, actor: Actor, step: Step | None = None) -> None:
    """Wait until an actor's process is gone."""
    where = f" at the step {step}" if step else ""
    until(lambda: not federation.services.alive(actor), f"{actor.name} to die as ordered{where}")


def await_stop(federation: Federation, actor: Actor) -> int:
    """Wait until an actor's process stands still; return its id."""
    pid = federation.services.pid(actor)
    status = Path(f"/proc/{pid}/status")
    until(lambda: "State:\tT" in status.read_text(), f"{actor.name} to stop as ordered")
    return pid


def restart(federation: Federation, actor: Actor) -> dict[str, Any]:
    """Start the service of an actor whose process is gone."""
    if actor == federation.registry:
        return federation.start_registry()
    if actor == federation.aggregator:
        return federation.start_aggregator()
    return federation.start_node(actor)


def until(true: Any, what: str, patience_s: float = PATIENCE_S) -> None:
    """Wait for a condition."""
    end, pause = time.monotonic() + patience_s, Event()
    while not true():
        assert time.monotonic() < end, f"waited {patience_s:g} s for {what}"
        pause.wait(_POLL_S)


def logged(federation: Federation, actor: Actor, event: str) -> list[dict[str, Any]]:
    """What an actor's service has logged under this name, oldest first."""
    path = federation.services.log(actor)
    if actor in federation.nodes:
        path = actor.home / "accord" / "logs" / "node.jsonl"
    lines = path.read_bytes().splitlines()
    found = [json.loads(line) for line in lines if line.startswith(b"{") and line.endswith(b"}")]
    return [line for line in found if line.get("event") == event]


def _mortal(actor: Actor, *installed: Path) -> Actor:
    place = _place(actor)
    place.mkdir()
    shutil.copy(dying.__file__, place / "sitecustomize.py")
    return installing.having(actor, place, *installed)


def _place(actor: Actor) -> Path:
    return actor.home.with_name(f"{actor.home.name}-orders")
