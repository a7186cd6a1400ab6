"""Keys and certificates are exchanged in a running federation, and one of them is taken back."""

import os
import signal

import pytest

from accord_common.home import Home
from accord_server.demo.federation import Federation
from accord_server.demo.processes import CommandFailed
from tests import federations
from tests.client.cli.test_federation import until


def rounds_of(federation: Federation, run: str) -> int:
    with Home.open(federation.coordinator.home / "accord").registry() as client:
        return client.run(run).round


@pytest.mark.soak(sample=0, full=1)
def test_a_revoked_node_is_lost_by_name_and_comes_back_with_new_keys(size: int) -> None:
    with federations.temporary() as federation:
        node = federation.nodes[size]
        run = federation.start_run(federations.plan(federation, rounds=500, spare_attempts=500))
        until(lambda: rounds_of(federation, run) >= 3)
        renewed = federation.at(node, "renew")  # beside the daemon, in the middle of the run
        before = rounds_of(federation, run)
        until(lambda: rounds_of(federation, run) >= before + 3)
        assert renewed["posted"] and not renewed["rotated"]
        with pytest.raises(CommandFailed) as running:
            federation.at(node, "renew", "--rotate-key")
        assert running.value.code == "already-running"

        federation.at(node, "revoke", "--reason", "the server was stolen", "--yes")
        end = federations.follow(federation, run)[-1]
        assert end["state"] == "failed", end
        assert end["code"] in {"too-few-nodes", "too-few-shares"}  # between rounds, or within one
        assert node.name in end["cause"] and "[key-revoked]" in end["cause"]

        federation.services.kill(node)
        done = federation.at(node, "renew", "--rotate-key")
        assert done["rotated"] and not done["posted"]
        invited = federation.office(
            "partner", "invite", "--role", "data-holder", "--name", node.name
        )
        federation.at(node, "enroll", invited["invitation"])
        federation.start_node(node)
        assert federations.complete(federation)[-1]["state"] == "completed"
        assert federation.at(node, "budget", "verify")["ok"]


@pytest.mark.soak(sample=0, full=1)
def test_an_authority_is_exchanged_under_a_running_federation(size: int) -> None:
    with federations.temporary() as federation:
        registry, ca = federation.registry, federation.registry.home / "ca"
        run = federation.start_run(federations.plan(federation, rounds=500, spare_attempts=500))
        until(lambda: rounds_of(federation, run) >= 3)
        registry.run("ca", "rotate", "--yes", "--home", ca)
        files = registry.home / "registry.pem", federation.aggregator.home / "aggregator.pem"
        registry.run("ca", "renew", *files, "--home", ca)
        for actor in (registry, federation.aggregator):
            os.kill(federation.services.pid(actor), signal.SIGHUP)
        before = rounds_of(federation, run)
        federation.services.kill(federation.nodes[size])  # it connects anew, to new certificates
        federation.start_node(federation.nodes[size])
        until(lambda: rounds_of(federation, run) >= before + 5)
        federation.office("run", "stop", run, "--reason", "enough")
        assert federations.follow(federation, run)[-1]["state"] == "stopped"
        options = ("--party", federation.coordinator.home / "accord", "--home", ca)
        with pytest.raises(CommandFailed) as behind:
            registry.run("ca", "retire", *options)
        assert behind.value.code == "partners-behind"
        for node in federation.nodes:  # a daemon asks when it starts, and then each hour
            federation.services.kill(node)
            federation.start_node(node)
        federation.services.kill(federation.aggregator)
        federation.start_aggregator()
        os.utime(federation.coordinator.home / "accord" / "ca.pem", (0, 0))  # people ask once a day
        federation.office("partner", "list")
        told = registry.run("ca", "status", *options)
        until(
            lambda: all(one["ready"] for one in registry.run("ca", "status", *options)["partners"])
        )
        assert len(told["authorities"]) == 2
        registry.run("ca", "retire", *options)
        assert federations.complete(federation)[-1]["state"] == "completed"
