"""Every process dies at every step of a run, and at moments that nobody chose; the run ends right.

Three sites, all of which are needed: while one is gone, the run waits for it. After each run its
receipts, models, sums and ledgers must fit together, to the byte and to the attempt.
"""

import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from threading import Event

import pytest

from accord_server.demo.federation import Federation
from accord_server.demo.processes import Actor, CommandFailed
from tests import federations
from tests.chaos.checking import Cut, check_completed, newest_attempt
from tests.chaos.dying import CONSENT, END, FINISH, ROUND, STEPS, Step
from tests.chaos.ordering import await_death, order, restart
from tests.e2e.killing import frozen
from tests.known.installing import TASK

DEADLINES = {"advertise_s": 60, "update_s": 60, "rejoin_s": 120}  # a death is to be the only cause
LEAN = {  # of the table, in `make test`: one before, one on each side of what is decided for good
    "node: charged, before training",
    "node: uploaded, before the confirmation",
    "aggregator: R4 decided, nobody asked",
    "aggregator: checkpoint on disk, no receipt",
    "registry: a round's receipt, not committed",
}


@pytest.fixture(scope="module")
def federation() -> Iterator[Federation]:
    with federations.temporary(mortal=True) as federation:
        yield federation


def start(federation: Federation, rounds: int, attempts: int) -> str:
    plan = federations.plan(
        federation,
        task=TASK,
        rounds=rounds,
        spare_attempts=attempts,
        sampling_rate="0.02",
        deadlines=DEADLINES,
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
        await_death(federation, victim)
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
    lean = [step for step in STEPS if str(step) in LEAN]
    steps = lean if size == len(LEAN) else [*CONSENT, *ROUND, *END]
    assert len(steps) == size
    assert survive(federation, steps) <= len(steps) + 1 + size


@pytest.mark.soak(sample=0, full=len(FINISH))
def test_nodes_that_die_while_they_are_told_of_the_end(federation: Federation, size: int) -> None:
    run = start(federation, 2, size)
    for node, step in zip(federation.nodes, FINISH, strict=False):
        order(node, step)
    for node in federation.nodes[:size]:
        await_death(federation, node)
        restart(federation, node)
    assert check_completed(federation, run) == 2


@pytest.mark.soak(sample=2, full=500)
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
