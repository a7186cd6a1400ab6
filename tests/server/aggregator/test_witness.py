"""The aggregator as a witness: heads that nodes show end the run where they are of another log."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest

from accord_common.api.client import RegistryClient
from accord_common.envelope import Envelope
from accord_common.errors import TransportError, VerificationError
from accord_common.identity import SigningKey
from accord_common.log.checkpoint import CHECKPOINT
from accord_server.aggregator.control import Control
from accord_server.aggregator.witness import EVIDENCE, Witness
from tests.common.log.test_peers import shown
from tests.logs import Log
from tests.server.aggregator.test_engine import result_of
from tests.simulator import refuses, simulate

WITHIN_S = 60.0  # a loaded machine; a condition is waited for, not a time


@pytest.fixture
def log() -> Log:
    return Log(SigningKey.generate()).grow(6)


@pytest.fixture
def witness(log: Log, tmp_path: Path) -> Iterator[tuple[Witness, Control]]:
    control = Control()
    witness = Witness(log.key.public, cast(RegistryClient, log), control, tmp_path)
    yield witness, control
    witness.close()


def until(condition: Callable[[], object]) -> None:
    ticks, end = threading.Event(), time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        ticks.wait(0.01)


@pytest.mark.parametrize("count", [4, 9], ids=["of one size", "of another size"])
def test_a_fork_ends_the_run_with_its_evidence(
    witness: tuple[Witness, Control], log: Log, tmp_path: Path, count: int
) -> None:
    watching, control = witness
    watching.show(shown(log.forked(2, count).head))
    until(lambda: control.ending)
    assert control.ending is not None
    assert (control.ending.status, control.ending.code) == ("failed", "log-forked")
    lines = (tmp_path / EVIDENCE).read_bytes().splitlines()
    kinds = [Envelope.from_bytes(line).kind for line in lines]
    assert kinds == [CHECKPOINT, CHECKPOINT, "advertisement"]


def test_heads_of_one_log_end_nothing_also_after_an_outage(
    witness: tuple[Witness, Control], log: Log
) -> None:
    watching, control = witness
    watching.show(shown(log.head))
    until(lambda: watching._peers.waiting_s() == 0)
    log.silent = TransportError("registry-unreachable", "no route")
    older, newer = log.forked(4, 0).head, Log(log.key, list(log.entries)).grow(2).head
    for head in (older, newer):
        watching.show(shown(head))
    log.grow(2)
    log.silent = None
    until(lambda: watching._peers.waiting_s() == 0)
    assert control.ending is None
    with pytest.raises(VerificationError, match=r"\[wrong-head\]"):
        watching.show(shown(Log(SigningKey.generate()).grow(3).head))


def test_nodes_that_found_a_fork_end_the_run_by_its_name(tmp_path: Path) -> None:
    simulation = simulate(tmp_path)
    for node in simulation.order:
        node.faults["train", 1, 0] = refuses("log-forked")
    body = result_of(simulation.drive())
    assert (body.status, body.code, body.rounds) == ("failed", "log-forked", 1)
