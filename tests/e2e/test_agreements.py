"""Agreements that are halted and ended while a run is under way, also without a registry."""

from typing import Any

import pytest

from accord_client.ledger import Ledger
from accord_client.stores import LEDGER_FILE
from accord_common.api.client import RegistryClient
from accord_common.home import Home
from accord_server.demo.federation import Federation
from accord_server.demo.processes import Actor, CommandFailed
from tests import federations
from tests.client.cli.test_federation import until

ROUNDS = 1000  # more than any of this lasts, and the most that is agreed


def charged(node: Actor) -> int:
    home = Home.open(node.home / "accord")
    ledger = Ledger.open(home.path / LEDGER_FILE, home.node_key())
    try:
        return sum(1 for _ in ledger.entries())
    finally:
        ledger.close()


def registry(federation: Federation) -> RegistryClient:
    return Home.open(federation.coordinator.home / "accord").registry()


def begun(federation: Federation, rounds: int = 3) -> str:
    """A run that has completed some rounds."""
    run = federation.start_run(
        federations.plan(federation, rounds=ROUNDS, spare_attempts=0, noise_multiplier="40")
    )
    with registry(federation) as client:
        until(lambda: client.run(run).round >= rounds)
    return run


def assert_halted(end: dict[str, Any], why: str, code: str) -> None:
    """Ended by the registry's word, or by nodes that heard of it before the aggregator."""
    told = {"stopped": why, "failed": code}
    assert told[end["state"]] in end["cause"], end


@pytest.mark.soak(sample=0, full=1)
def test_runs_under_a_halted_or_ended_agreement_stop(size: int) -> None:
    with federations.temporary(4, aggregation={"min_cohort": 2, "colluders": 0}) as federation:
        node, known = federation.nodes[size], federation.agreement
        run = begun(federation)
        said = federation.at(node, "agreement", "suspend", known, "--reason", "an audit", "--yes")
        before = charged(node)
        assert said["posted"]
        end = federations.follow(federation, run)[-1]
        assert_halted(end, "suspended the agreement: an audit", "[agreement-suspended]")
        assert charged(node) <= before + 1  # a round that had begun
        assert federation.office("agreement", "show", known)["status"] == "suspended"
        with pytest.raises(CommandFailed) as refused:
            federation.start_run(federations.plan(federation))
        assert refused.value.code == "not-active"

        federation.at(node, "agreement", "resume", known, "--yes")
        assert federations.complete(federation)[-1]["state"] == "completed"

        run = begun(federation)
        federation.services.kill(federation.registry)
        said = federation.at(node, "agreement", "withdraw", known, "--reason", "over", "--yes")
        before = charged(node)
        assert not said["posted"]
        others = [other for other in federation.nodes if other is not node]
        then = charged(others[0])
        until(lambda: charged(others[0]) > then + 3)  # they have not heard of it
        assert charged(node) <= before + 1
        federation.start_registry()
        end = federations.follow(federation, run)[-1]
        assert_halted(end, "withdrew from the agreement: over", "[agreement-withdrawn]")
        assert federation.office("agreement", "show", known)["status"] == "withdrawn"
        assert federation.at(node, "budget", "verify")["ok"]
