"""Real processes that die in the middle of a round: five sites, four of which suffice.

Every site sends known vectors, so each test says of each completed round, before, while and after
a node was gone, which sum over which survivors its signed receipt must name, and which model.
"""

import random
from collections.abc import Iterator
from typing import Any

import pytest

from accord_common.chain import fetch_result, fetch_run
from accord_common.envelope import Envelope
from accord_common.errors import NotFoundError
from accord_common.home import Home
from accord_common.receipts import RESULT, AggregatorReceipt
from accord_server.demo.federation import Federation
from tests import federations
from tests.e2e.killing import BEFORE, kill_at
from tests.known.installing import TASK
from tests.known.sums import check_sums, tables_of

ROUNDS = 120  # some 25 pass until a killed node is back
LAST_KILL = 10  # rounds before the end: a coordinator sees a round a moment after it is over


@pytest.fixture(scope="module")
def federation() -> Iterator[Federation]:
    with federations.temporary(5, known=True) as federation:
        yield federation


def start(federation: Federation, **changes: Any) -> tuple[str, Iterator[dict[str, Any]]]:
    """A run that every steward has approved, and what a coordinator sees of it."""
    deadlines = {"advertise_s": 5, "update_s": 30, "rejoin_s": 2}
    plan = federations.plan(federation, task=TASK, deadlines=deadlines, **changes)
    run = federation.start_run(plan)
    federation.approve(run)
    home = federation.coordinator.home / "accord"
    lines = federation.services.follow(federation.coordinator, "run", "watch", run, "--home", home)
    return run, lines


def audited(federation: Federation, run: str) -> tuple[AggregatorReceipt, ...]:
    """The receipts of a run, verified from its result to its manifest; every sum is exact."""
    with Home.open(federation.coordinator.home / "accord").registry() as client:

        def lookup(record_hash: str) -> Envelope:
            try:
                return client.record(record_hash)
            except NotFoundError:
                return client.agreement(record_hash).envelope

        verified = fetch_run(lookup, client.run(run).manifest_hash)
        (result,) = client.records(kind=RESULT, run=run)
        receipts = fetch_result(lookup, result.envelope.hash, verified).receipts
        initial = client.get_blob(verified.manifest.initial_model)
    check_sums(verified.manifest, initial, receipts, tables_of(federation))
    return receipts


def test_one_killed_at_each_stage_and_the_run_completes(federation: Federation) -> None:
    run, lines = start(federation, rounds=ROUNDS)
    killed = {}
    for node, stage in zip(federation.nodes[1:4], BEFORE, strict=True):
        round_ = kill_at(federation, run, stage, node)
        killed[stage] = Home.open(node.home / "accord").profile.party, round_
        federation.start_node(node)
        if stage == "unmask":
            break
        for update in lines:  # until it takes part again
            assert update["event"] != "end", update
            if update["event"] == "round" and update["round"] > round_ + 2:
                if len(update["sites"]) == 5:
                    break
    updates = list(lines)
    assert updates[-1]["state"] == "completed", updates[-1]

    receipts = audited(federation, run)
    assert [(r.round, r.outcome) for r in receipts] == [(r, "completed") for r in range(ROUNDS)]
    party, round_ = killed["update"]
    assert party in receipts[round_].lost and party not in receipts[round_].cohort
    for stage in ("confirm", "unmask"):  # what it had uploaded counts
        party, round_ = killed[stage]
        assert party in receipts[round_].cohort and len(receipts[round_].cohort) == 5
        assert party not in receipts[round_ + 1].cohort


@pytest.mark.soak(sample=24, full=200)
def test_rounds_go_on_while_nodes_die_and_come_back(
    federation: Federation, size: int, seed: int
) -> None:
    """A node dies in any stage, every few rounds, as soon as the last one is back."""
    chance = random.Random(seed)
    run, lines = start(federation, rounds=size, spare_attempts=size)
    attempts = done = whole = kills = 0
    end: dict[str, Any] = {}
    for update in lines:
        if update["event"] == "end":
            end = update
        elif update["event"] == "round":
            attempts += 1
            done += update["outcome"] == "completed"
            whole = whole + 1 if len(update["sites"]) == 5 else 0
            if whole == 3 and done < size - LAST_KILL:
                victim = chance.choice(federation.nodes)
                kill_at(federation, run, chance.choice(list(BEFORE)), victim)
                federation.start_node(victim)
                kills += 1
    assert end["state"] == "completed", end
    assert done == size and done >= 0.95 * attempts
    assert kills >= max(1, size // 50)
    assert len(audited(federation, run)) == attempts


def test_two_killed_end_the_attempt_and_the_run_says_why(federation: Federation) -> None:
    run, lines = start(federation, rounds=ROUNDS)
    victims = federation.nodes[:2]
    round_ = kill_at(federation, run, "update", *victims)
    end = list(lines)[-1]
    assert (end["state"], end["code"]) == ("failed", "too-few-nodes"), end
    assert all(node.name in end["cause"] for node in victims)
    receipts = audited(federation, run)
    assert [r.outcome for r in receipts] == ["completed"] * round_ + ["aborted"]
    parties = {Home.open(node.home / "accord").profile.party for node in victims}
    assert parties <= {*receipts[-1].lost}
