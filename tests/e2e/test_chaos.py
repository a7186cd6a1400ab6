"""What befalls processes, disks, clocks and lines; what the run does, and what people are told.

Three sites, all of which are needed: what befalls one befalls the run. After each run that goes on
its receipts, models, sums and ledgers must fit together, to the byte and to the attempt.
"""

import json
import os
import random
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from accord_server.coordinator.watching import log_lines
from accord_server.demo.federation import Federation
from accord_server.demo.processes import Actor, CommandFailed
from tests import federations
from tests.benchmarks.bench_wire import divert
from tests.benchmarks.relay import Relay
from tests.chaos.checking import (
    Cut,
    charged,
    check_completed,
    ended,
    newest_attempt,
    office,
)
from tests.chaos.dying import CONSENT, END, FINISH, ROUND, STEPS, Step
from tests.chaos.ordering import await_death, await_stop, logged, order, restart, until
from tests.chaos.places import ahead, small_disk
from tests.e2e.killing import frozen
from tests.known.installing import TASK

DEADLINES = {"advertise_s": 60, "update_s": 60, "rejoin_s": 120}  # a death is to be the only cause
LINE_SILENT_S = 15  # what a node's line may be silent before the node gives it up
LEAN = {  # of the table, in `make test`
    "node: charged, before training",
    "aggregator: R4 decided, nobody asked",
    "registry: a round's receipt, not committed",
}


@pytest.fixture(scope="module")
def three_sites() -> Iterator[Federation]:
    with federations.temporary(mortal=True) as federation:
        yield federation


@pytest.fixture
def federation(three_sites: Federation) -> Iterator[Federation]:
    """All processes as they were, whatever a test did to them."""
    registry, aggregator, nodes = three_sites.registry, three_sites.aggregator, three_sites.nodes
    three_sites.nodes = list(nodes)
    yield three_sites
    three_sites.registry, three_sites.aggregator, three_sites.nodes = registry, aggregator, nodes
    for actor in (registry, aggregator, *nodes):
        if not three_sites.services.alive(actor):
            restart(three_sites, actor)


def start(federation: Federation, rounds: int, attempts: int = 5, **deadlines: int) -> str:
    plan = federations.plan(
        federation,
        task=TASK,
        rounds=rounds,
        spare_attempts=attempts,
        sampling_rate="0.02",
        deadlines=DEADLINES | deadlines,
    )
    return federation.start_run(plan)


def victims(federation: Federation, steps: Sequence[Step]) -> list[Actor]:
    """Who dies at each step: the nodes take turns."""
    others = {"registry": federation.registry, "aggregator": federation.aggregator}
    return [
        others.get(step.process, federation.nodes[index % 3]) for index, step in enumerate(steps)
    ]


def survive(federation: Federation, steps: Sequence[Step]) -> int:
    """One run in which a process dies at each of the steps, in their order."""
    dying, cuts = victims(federation, steps), []
    order(dying[0], steps[0])
    run = start(federation, len(steps) + 1, len(steps))
    for index, (step, victim) in enumerate(zip(steps, dying, strict=True)):
        await_death(federation, victim, step)
        if step.charged is not None:
            nodes = (victim,) if victim in federation.nodes else tuple(federation.nodes)
            cuts.append(Cut(newest_attempt(federation, run), nodes, step.charged))
        away = victim == federation.registry  # the run would go on without it
        with frozen(federation.services.pid(federation.aggregator)) if away else nullcontext():
            if index + 1 < len(steps):
                order(dying[index + 1], steps[index + 1])
            restart(federation, victim)
    return check_completed(federation, run, cuts)


@pytest.mark.soak(sample=len(LEAN), full=len(STEPS) - len(FINISH))
def test_a_run_survives_a_death_at_each_step(federation: Federation, size: int) -> None:
    """The end's deaths have a run of their own: rounds do not wait for a slow registry."""
    lean = [step for step in STEPS if str(step) in LEAN]
    runs = [lean] if size == len(LEAN) else [[*CONSENT, *ROUND], END]
    assert sum(map(len, runs)) == size
    for steps in runs:
        assert survive(federation, steps) <= 2 * len(steps) + 1


@pytest.mark.soak(sample=0, full=len(FINISH))
def test_nodes_that_die_while_they_are_told_of_the_end(federation: Federation, size: int) -> None:
    for node, step in zip(federation.nodes, FINISH, strict=False):
        order(node, step)
    run = start(federation, 2)
    for node in federation.nodes[:size]:
        await_death(federation, node)
        restart(federation, node)
    assert check_completed(federation, run) == 2


@pytest.mark.soak(sample=0, full=500)
def test_a_run_survives_deaths_at_random_times(
    federation: Federation, size: int, seed: int, request: pytest.FixtureRequest
) -> None:
    """Any process, at any time; one in four dies again while it starts."""
    chance, kills, runs = random.Random(seed), 0, 0
    actors = [federation.registry, federation.aggregator, *federation.nodes]
    while kills < size:
        wanted = min(size - kills, 20)
        run = start(federation, rounds=3 * wanted, attempts=2 * wanted)
        runs += 1
        for _ in range(wanted):
            Event().wait(chance.uniform(0, 0.5))
            kills += strike(federation, chance.choice(actors), chance)
        check_completed(federation, run)
    request.node.add_report_section("call", "kills", f"{kills} in {runs} runs, seed {seed}")


def strike(federation: Federation, victim: Actor, chance: random.Random) -> int:
    """Kill an actor's process, and start it again; return how often it died."""
    federation.services.kill(victim)
    if chance.random() < 0.75:
        restart(federation, victim)
        return 1
    with ThreadPoolExecutor(1) as hand:
        before = federation.services.pid(victim)
        starting = hand.submit(restart, federation, victim)
        while federation.services.pid(victim) == before and not starting.done():
            Event().wait(0.001)
        Event().wait(chance.uniform(0, 2))
        federation.services.kill(victim)
        with suppress(CommandFailed):
            starting.result()
    restart(federation, victim)
    return 2


def step_of(process: str, name: str) -> Step:
    (found,) = [step for step in STEPS if (step.process, step.name) == (process, name)]
    return found


def told(federation: Federation, run: str) -> str:
    """What `accord run logs` shows."""
    with office(federation) as client:
        return "\n".join(line.message for line in log_lines(client, run, follow=False))


def begun(federation: Federation, run: str) -> None:
    """Wait until a run has completed its first round."""
    with office(federation) as client:
        until(lambda: client.run(run).round, "the first round")


def remedies(node: Actor) -> dict[str, str]:
    """What `accord-node check` finds wrong, and what it advises."""
    done = subprocess.run(
        node.command("check", "--home", node.home / "accord"),
        env=node.environment(),
        capture_output=True,
        check=False,
    )
    checks = json.loads(done.stdout)["checks"]
    return {check["name"]: check["remedy"] for check in checks if not check["ok"]}


def at_site(federation: Federation, node: Actor, run: str) -> dict[str, Any]:
    """What `accord-node status` says of a run."""
    (found,) = [item for item in federation.at(node, "status")["runs"] if item["id"] == run]
    assert isinstance(found, dict)
    return found


def exchange(federation: Federation, node: Actor, other: Actor) -> None:
    """Have a site's daemon run as `other` from now on."""
    if federation.services.alive(node):
        federation.services.kill(node)
    federation.nodes[federation.nodes.index(node)] = other
    federation.start_node(other)


@pytest.mark.soak(sample=0, full=1)
def test_flowers_state_is_lost_in_mid_round(federation: Federation) -> None:
    """Flower keeps it in memory; what it has on disk goes too. The round begins again."""
    order(federation.aggregator, step_of("aggregator", "first upload folded"))
    run = start(federation, 2)
    await_death(federation, federation.aggregator)
    shutil.rmtree(federation.aggregator.home / "accord" / "flower", ignore_errors=True)
    restart(federation, federation.aggregator)
    assert check_completed(federation, run) == 3
    assert "the aggregator is back; 0 rounds are complete" in told(federation, run)


@pytest.mark.soak(sample=0, full=600)
def test_the_registry_is_down(federation: Federation, size: int) -> None:
    """The run goes on without it, to its end; everybody who asks is told that it is away."""
    order(federation.registry, step_of("registry", "a round's receipt, not committed"))
    run = start(federation, 15)
    await_death(federation, federation.registry)
    node = federation.nodes[0]

    def over() -> bool:
        return any(e["run"] == run for e in logged(federation, federation.aggregator, "run-ended"))

    until(over, "the run's end at the aggregator", 300)
    Event().wait(size)
    with pytest.raises(CommandFailed, match="registry-unreachable") as failed:
        federation.office("run", "show", run)
    assert "Does the server run" in failed.value.hint
    assert federation.at(node, "status")["queued"] > 0
    troubles = logged(federation, node, "registry-trouble")
    assert troubles and "registry-unreachable" in {line["code"] for line in troubles}
    assert logged(federation, federation.aggregator, "registry-away")
    restart(federation, federation.registry)
    assert check_completed(federation, run) == 15


@pytest.mark.soak(sample=0, full=60)
def test_a_site_stands_still_while_a_round_is_unmasked(federation: Federation, size: int) -> None:
    """No other attempt of that round could be: it is waited for, beyond the stage's time."""
    node = federation.nodes[0]
    order(node, step_of("node", "asked to unmask"), signal.SIGSTOP)
    run = start(federation, 3, advertise_s=2)
    pid = await_stop(federation, node)
    Event().wait(size)
    os.kill(pid, signal.SIGCONT)
    assert check_completed(federation, run) == 3


@pytest.mark.soak(sample=0, full=60)
def test_a_site_stands_still(federation: Federation, size: int) -> None:
    """Its round is aborted and tried again; the run waits for it, and says for whom."""
    node = federation.nodes[0]
    order(node, step_of("node", "charged, before training"), signal.SIGSTOP)
    run = start(federation, 3, update_s=3, advertise_s=120)
    pid = await_stop(federation, node)
    place = newest_attempt(federation, run)
    late = f"{node.name}: no update within 3 s"
    until(lambda: late in told(federation, run), "the aggregator to say who is late")
    Event().wait(size)
    os.kill(pid, signal.SIGCONT)
    assert check_completed(federation, run, [Cut(place, (node,), True)]) == 4


@pytest.mark.soak(sample=0, full=60)
def test_the_lines_to_the_aggregator_are_cut(federation: Federation, size: int) -> None:
    """Nothing arrives, and nothing says so. The run stands still, then goes on by itself."""
    with Relay() as relay:
        divert(federation, relay)
        run = start(federation, 30, advertise_s=150, update_s=150)
        begun(federation, run)
        with relay.cut():
            Event().wait(size)
        check_completed(federation, run)
        if size > LINE_SILENT_S:
            for node in federation.nodes:
                assert logged(federation, node, "aggregator-line-lost")
        federation.services.kill(federation.aggregator)


@pytest.mark.soak(sample=0, full=1)
def test_a_clock_is_ten_minutes_off(federation: Federation, tmp_path: Path) -> None:
    """The run fails and names site and clock; `accord-node status` and `check` say what to do."""
    node, wrong = federation.nodes[0], ahead(federation.nodes[0], 600, tmp_path)
    exchange(federation, node, wrong)
    run = start(federation, 2, rejoin_s=30)

    def noted() -> Any:
        return at_site(federation, wrong, run)["aggregator"]

    until(noted, "the node to say what keeps it from the aggregator")
    trouble = noted()
    assert trouble["code"] == "node-clock-skew" and "set it, best by NTP" in trouble["hint"]
    view = ended(federation, run)
    assert (view.state, view.code) == ("failed", "too-few-nodes"), view
    clock = r"its clock is (59|60)\d s ahead of the aggregator's, the bound is 300"
    assert re.search(f"{node.name}: not connected: {clock}", view.cause), view.cause
    assert "Set the clock" in remedies(wrong)["clock"]
    exchange(federation, wrong, node)
    assert check_completed(federation, start(federation, 2)) == 2


@pytest.mark.soak(sample=0, full=1)
def test_the_disk_of_a_site_is_full(federation: Federation) -> None:
    """It pays for what it has written down, leaves, and is back once there is room.

    Whether the ledger finds room in its log where the round's secrets find none, and whether the
    refusal finds some in the outbox, and ends the run, or it just leaves, chance says.
    """
    node = federation.nodes[0]
    federation.services.kill(node)
    with small_disk(node.home / "accord") as disk:
        cramped = disk.within(node)
        exchange(federation, node, cramped)
        order(cramped, step_of("node", "asked to train, before the charge"), signal.SIGSTOP)
        run = start(federation, 2)
        pid = await_stop(federation, cramped)
        place = newest_attempt(federation, run)
        disk.fill()
        os.kill(pid, signal.SIGCONT)
        stderr = federation.services.log(node)
        until(lambda: "error: disk-full" in stderr.read_text(), "the node to say so")
        disk.free()
        view = ended(federation, run)
        if view.state == "failed":
            assert re.search(rf"{node.name}: .*\[(ledger|round-secrets)-unwritable\]", view.cause)
            run = start(federation, 2)
            ended(federation, run)
        federation.services.kill(cramped)
    refused = "ledger-unwritable" in stderr.read_text()
    federation.nodes[0] = node
    federation.start_node(node)
    assert (place in charged(node, view.manifest_hash)) != refused
    check_completed(federation, run)


@pytest.mark.soak(sample=0, full=1)
def test_the_disk_of_the_aggregator_is_full(federation: Federation) -> None:
    """The run waits, says why to all who watch it, and goes on once there is room."""
    aggregator = federation.aggregator
    federation.services.kill(aggregator)
    with small_disk(aggregator.home / "accord") as disk:
        federation.aggregator = disk.within(aggregator)
        restart(federation, federation.aggregator)
        run = start(federation, 100)
        begun(federation, run)
        disk.fill()
        full = "the aggregator's disk: No space left on device"
        until(lambda: full in told(federation, run), "the aggregator to say that its disk is full")
        disk.free()
        check_completed(federation, run)
        federation.services.kill(federation.aggregator)


@pytest.mark.soak(sample=0, full=1)
def test_the_disk_of_the_registry_is_full(federation: Federation) -> None:
    """It keeps nothing, and says so; the run goes on, and its records come once there is room."""
    registry = federation.registry
    federation.services.kill(registry)
    with small_disk(registry.home / "registry") as disk:
        federation.registry = disk.within(registry)
        restart(federation, federation.registry)
        run = start(federation, 40)
        begun(federation, run)
        disk.fill()
        until(lambda: logged(federation, registry, "disk-full"), "the registry to say so")
        with pytest.raises(CommandFailed, match="registry-disk-full") as failed:
            federation.office("run", "stop", run, "--reason", "to see what is said")
        assert "make room" in failed.value.hint
        disk.free()
        check_completed(federation, run)
        federation.services.kill(federation.registry)
