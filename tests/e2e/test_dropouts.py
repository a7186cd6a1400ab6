"""Real processes that die in the middle of a round: five sites, four of which suffice.

Every site sends known vectors, so each test says of each completed round, before, while and after
a node was gone, which sum over which survivors its signed receipt must name, and which model.
"""

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

from accord_server.demo.federation import Federation
from tests import federations
from tests.chaos.checking import audited, party_of
from tests.e2e import monitoring
from tests.e2e.killing import BEFORE, RunEnded, kill_at
from tests.known.installing import TASK

ROUNDS = 10
SLOW = {"name": "mlp", "hidden": [1700, 1700]}  # 2.9e6 numbers: a restart lasts a few rounds only


@pytest.fixture(scope="module")
def federation() -> Iterator[Federation]:
    with federations.temporary(5, known=True, watched=True) as federation:
        yield federation


def start(federation: Federation, rounds: int, **changes: Any) -> str:
    """Start a run; meanwhile nodes that an earlier test has killed come back."""
    deadlines = {"advertise_s": 5, "update_s": 30, "rejoin_s": 2}
    plan = federations.plan(federation, task=TASK, rounds=rounds, deadlines=deadlines, **changes)
    services = federation.services
    dead = [node for node in federation.nodes if not services.alive(node)]
    with ThreadPoolExecutor() as people:
        back = [people.submit(federation.start_node, node) for node in dead]
        run = federation.start_run(plan)
        for node in back:
            node.result()
    return run


def watch(federation: Federation, run: str) -> Iterator[dict[str, Any]]:
    """What a run's coordinator sees of it, as it comes."""
    home = federation.coordinator.home / "accord"
    return federation.services.follow(federation.coordinator, "run", "watch", run, "--home", home)


@pytest.mark.soak(sample=0, full=1)
@pytest.mark.parametrize("stage", BEFORE)
def test_one_killed_and_the_run_completes(federation: Federation, stage: str) -> None:
    victim = federation.nodes[[*BEFORE].index(stage)]
    run = start(federation, ROUNDS)
    round_ = kill_at(federation, run, stage, victim)
    end = list(watch(federation, run))[-1]
    assert end["state"] == "completed", end

    receipts = audited(federation, run)
    assert [(r.round, r.outcome) for r in receipts] == [(r, "completed") for r in range(ROUNDS)]
    party, others = (
        party_of(victim),
        {party_of(node) for node in federation.nodes if node != victim},
    )
    cohorts = [set(receipt.cohort) for receipt in receipts]
    assert cohorts[round_] == (others if stage == "update" else {party, *others})  # U3: uploaded
    assert receipts[round_].lost == ([party] if stage == "update" else [])
    assert cohorts[round_ + 1 :] == [others] * (ROUNDS - round_ - 1)


@pytest.mark.soak(sample=0, full=200)
def test_rounds_go_on_while_nodes_die_and_come_back(
    federation: Federation, size: int, seed: int, soak: bool, request: pytest.FixtureRequest
) -> None:
    """A node dies in any stage, every few rounds, as soon as the last one is back."""
    chance = random.Random(seed)
    model = {"architecture": SLOW} if soak else {}
    run = start(federation, size, spare_attempts=size, **model)
    attempts = done = whole = kills = 0

    def strike() -> None:
        nonlocal kills
        victim = chance.choice(federation.nodes)
        kill_at(federation, run, chance.choice(list(BEFORE)), victim)
        federation.start_node(victim)
        kills += 1

    strike()  # on a busy machine the watch begins when a short run is nearly over
    end: dict[str, Any] = {}
    for update in watch(federation, run):
        if update["event"] == "end":
            end = update
        elif update["event"] == "round":
            attempts += 1
            done += update["outcome"] == "completed"
            whole = whole + 1 if len(update["sites"]) == 5 else 0
            if whole == 2:
                with suppress(RunEnded):  # what is seen here comes a moment later
                    strike()
    told = f"{kills} kills, {attempts} attempts, {done} rounds completed"
    request.node.add_report_section("call", "dropouts", told)
    assert end["state"] == "completed", end
    assert done == size and done >= 0.95 * attempts
    assert not soak or kills >= size // 10, told
    assert len(audited(federation, run)) == attempts


@pytest.mark.soak(sample=0, full=1)
def test_two_killed_end_the_attempt_and_the_run_says_why(federation: Federation) -> None:
    run, victims = start(federation, ROUNDS), federation.nodes[:2]
    round_ = kill_at(federation, run, "update", *victims)
    end = list(watch(federation, run))[-1]
    assert (end["state"], end["code"]) == ("failed", "too-few-nodes"), end
    assert all(node.name in end["cause"] for node in victims)
    receipts = audited(federation, run)
    assert [r.outcome for r in receipts] == ["completed"] * round_ + ["aborted"]
    assert {party_of(node) for node in victims} <= {*receipts[-1].lost}


@pytest.mark.soak(sample=0, full=1)
def test_every_expression_of_dashboards_and_alerts_is_exposed(federation: Federation) -> None:
    home = federation.registry.home
    federation.registry.run(
        "registry", "backup", home / "registry.tar", "--home", home / "registry"
    )
    run = start(federation, ROUNDS, architecture=SLOW)
    updates = watch(federation, run)
    assert next(update for update in updates if update["event"] == "round")
    seen = monitoring.exposed(federation, run)
    for update in updates:
        end = update
    assert end["state"] == "completed", end

    wrong = [
        f"{place}: {why}"
        for place, expression, text in monitoring.expressions()
        for why in monitoring.faults(expression, text, seen)
    ]
    assert not wrong, "\n".join(wrong)
    assert run in seen.values("accord_aggregator_run_round", "run")
    assert seen.values("accord_aggregator_node_connected", "name") == {
        node.name for node in federation.nodes
    }
    assert run in seen.values("accord_node_run_round", "run")
    monitoring.wait_until_gone(federation, run)
