"""Kill a node that is asked in a stage of a round and has not answered.

The victim is frozen (SIGSTOP) as soon as its outbox has the line of the stage before. It is killed
once the aggregator's log shows that the stage has begun; where that does not come, what the node
had said was still on its way, and it may go on.
"""

import json
import os
import signal
import time
from pathlib import Path
from threading import Event
from typing import Any

from accord_client import outbox
from accord_server.demo.federation import Federation
from accord_server.demo.processes import Actor

BEFORE = {"update": "unmasking", "confirm": "upload", "unmask": "confirmation"}
"""A node's last line before it would answer a stage: R2, R3, R4."""

POLL_S = 0.004  # a tenth of what a node takes from one line to the next
FROZEN_S = 0.5  # a stage begins a few milliseconds after the last answer to the one before
FOUND_WITHIN_S = 60.0  # some 200 rounds
_TAIL_BYTES = 8192  # at least two lines


def kill_at(federation: Federation, run: str, stage: str, victim: Actor, *others: Actor) -> int:
    """Kill `victim` in a stage, and `others` just before: while the stage still waits for it.

    Returns:
        The round, from 0.
    """
    log, pid, pause = AggregatorLog(federation, run), federation.services.pid(victim), Event()
    until = time.monotonic() + FOUND_WITHIN_S
    while time.monotonic() < until:
        line = last_line(victim)
        if (line["run"], line["kind"]) != (run, BEFORE[stage]):
            log.read()
            pause.wait(POLL_S)
            continue
        os.kill(pid, signal.SIGSTOP)
        os.waitid(os.P_PID, pid, os.WSTOPPED)  # from here on it writes nothing
        round_: int = line["round"] + (stage == "update")
        thaw = time.monotonic() + FROZEN_S
        while last_line(victim) == line and time.monotonic() < thaw:
            log.read()
            if (stage, round_) in log.stages:
                for node in (*others, victim):
                    federation.services.kill(node)
                return round_
            pause.wait(POLL_S)
        os.kill(pid, signal.SIGCONT)
    raise AssertionError(f"{victim.name} was not found before {stage} in {FOUND_WITHIN_S:g} s")


def last_line(node: Actor) -> dict[str, Any]:
    """The newest thing that a node sent to the aggregator."""
    path = node.home / "accord" / outbox.FILE_NAME
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        whole = file.read().split(b"\n")[1:-1]
    entries = [json.loads(line) for line in whole]
    return next((e for e in reversed(entries) if e["to"] == "aggregator"), {"run": "", "kind": ""})


class AggregatorLog:
    """The aggregator's log, read as it grows from now on.

    Attributes:
        stages: (stage, round) of those that have begun.
    """

    def __init__(self, federation: Federation, run: str) -> None:
        self.stages: set[tuple[str, int]] = set()
        self._run = run
        self._path: Path = federation.services.log(federation.aggregator)
        self._position = self._path.stat().st_size

    def read(self) -> None:
        """Take in what is new; AssertionError where the run has ended."""
        with self._path.open("rb") as file:
            file.seek(self._position)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._position += len(whole)
        for line in whole.splitlines():
            entry = json.loads(line)
            if entry.get("event") == "stage":
                self.stages.add((entry["stage"], entry["round"]))
            if entry.get("event") == "run-ended" and entry["run"] == self._run:
                raise AssertionError(f"the run has ended: {entry['status']}, {entry['cause']}")
