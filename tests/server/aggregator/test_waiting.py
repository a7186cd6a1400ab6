"""For whom a run waits is said while it waits, and nodes that come back by themselves are let."""

from pathlib import Path

import pytest

from accord_common import wire
from accord_server.aggregator.control import Control
from tests.server.aggregator.test_engine import check_chain, outcomes, result_of
from tests.simulator import (
    Answer,
    Fault,
    SimNode,
    Simulation,
    dies_and_returns,
    once,
    refuses,
    silent,
    simulate,
)

OUTAGE = "registry-outage"


@pytest.fixture
def simulation(tmp_path: Path) -> Simulation:
    return simulate(tmp_path)


def heard(simulation: Simulation) -> list[str | None]:
    """Everything that the run says of whom it waits for, as it says it."""
    told: list[str | None] = []

    class Telling(Control):
        def waits(self, words: str | None) -> None:
            if words != self.waiting:
                told.append(words)
            super().waits(words)

    simulation.control = Telling()
    return told


def name(simulation: Simulation, index: int) -> str:
    return simulation.run.agreement.party(simulation.order[index].party).name


def returns_later(simulation: Simulation, seconds: float) -> Fault:
    """The node lacks the registry; it hears it again, and connects again, later."""

    def fault(node: SimNode, request: wire.Request, answer: Answer) -> Answer:
        transport = simulation.transport

        def reconnect() -> None:
            transport.disconnect(node.party)
            transport.connect(node.party)

        transport.later(seconds, reconnect)
        return refuses(OUTAGE)(node, request, answer)

    return fault


@pytest.mark.parametrize(("stage", "attempts"), [("advertise", 1), ("train", 2)])
def test_nodes_that_lack_the_registry_come_back_by_themselves(
    simulation: Simulation, stage: str, attempts: int
) -> None:
    for node in simulation.order:
        node.faults[stage, 0, 0] = once(returns_later(simulation, 20))
    result = simulation.drive()
    body = result_of(result)
    assert (body.status, body.rounds, body.refused) == ("completed", 3, {})
    assert len(outcomes(simulation)) == 3 + attempts - 1
    check_chain(simulation, result)


def test_a_node_that_lacks_the_registry_for_good_fails_the_run_by_name(
    simulation: Simulation,
) -> None:
    simulation.order[1].faults["advertise", 0, 0] = refuses(OUTAGE)
    began = simulation.transport.now
    body = result_of(simulation.drive())
    assert (body.status, body.code) == ("failed", "too-few-nodes")
    assert f"{name(simulation, 1)}: refused for {OUTAGE} [{OUTAGE}]" in body.cause
    assert simulation.transport.now - began >= simulation.run.manifest.deadlines.rejoin_s


def test_a_run_says_for_which_lost_node_it_waits(simulation: Simulation) -> None:
    told = heard(simulation)
    simulation.order[1].faults["train", 1, 0] = dies_and_returns(lambda: simulation.transport, 30)
    assert result_of(simulation.drive()).status == "completed"
    lost = name(simulation, 1)
    assert told == [f"{lost} (not connected)", lost, None]


def test_a_run_says_whose_answer_a_slow_stage_lacks(simulation: Simulation) -> None:
    told = heard(simulation)
    simulation.order[2].faults["train", 1, 0] = silent
    began = simulation.transport.now
    simulation.transport.later(29, lambda: told.append("29 s later"))
    assert result_of(simulation.drive()).status == "completed"
    assert told[0] == "29 s later" and told[1] == name(simulation, 2) and told[-1] is None
    assert simulation.transport.now - began >= simulation.run.manifest.deadlines.update_s
