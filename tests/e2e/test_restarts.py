"""Nodes die and come back: nothing is charged twice, nothing is lost, memory stays flat."""

from pathlib import Path

import pytest

from accord_client.ledger import Ledger
from accord_common.home import Home
from accord_common.privacy.accounting import Tally
from accord_common.privacy.events import Spend
from accord_common.privacy.filter import Cap, RdpFilter
from accord_server.demo.federation import Federation
from tests import federations

GROWTH_KIB = 20 * 1024  # caches fill; a leak of one vector or envelope a round would show
CAP = Cap(epsilon="50", delta="0.00001")


def resident_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError(f"process {pid} has no VmRSS")


def spends(federation: Federation, index: int) -> list[Spend]:
    home = Home.open(federation.nodes[index].home / "accord")
    ledger = Ledger.open(home.path / "ledger.db", home.node_key())
    try:
        ledger.verify([home.node_key().public])
        return [entry.spend for entry, _ in ledger.entries()]
    finally:
        ledger.close()


@pytest.mark.soak(sample=0, full=100)
def test_a_long_run_with_two_node_restarts(size: int) -> None:
    with federations.temporary() as federation:
        run = federation.start_run(
            federations.plan(federation, rounds=size, spare_attempts=20, sampling_rate="0.02")
        )
        victim = federation.nodes[1]
        watched = (federation.nodes[0], federation.aggregator, federation.registry)
        resident: dict[str, list[int]] = {actor.name: [] for actor in watched}
        home = federation.coordinator.home / "accord"
        lines = federation.services.follow(
            federation.coordinator, "run", "watch", run, "--home", home
        )
        done, end = 0, {}
        for update in lines:
            if update["event"] == "round" and update["outcome"] == "completed":
                done += 1
                if done in (size // 4, size // 2):
                    federation.services.kill(victim)
                    federation.start_node(victim)
                if done >= size // 4:
                    for actor in watched:
                        pid = federation.services.pid(actor)
                        resident[actor.name].append(resident_kib(pid))
            elif update["event"] == "end":
                end = update
        assert end["state"] == "completed", end
        assert done == size
        for name, steady in resident.items():
            assert steady[-1] - steady[0] < GROWTH_KIB, (name, steady)
        for index in range(3):
            events = spends(federation, index)
            keys = {(event.run, event.round, event.attempt) for event in events}
            assert len(keys) == len(events) >= size
            assert {event.round for event in events} == set(range(size))
            one = events[0]
            steps = one.steps * len(events)
            whole = Tally(one.adjacency, ((one.noise_multiplier, one.sampling_rate, steps),))
            pieces = RdpFilter(CAP).epsilon(events)
            assert pieces == pytest.approx(RdpFilter(CAP).epsilon(whole), abs=1e-9)
            shown = federation.at(federation.nodes[index], "budget", "show")
            assert shown
