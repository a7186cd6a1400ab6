"""Real processes that die in the middle of a round: five sites, four of which suffice.

A victim is frozen (SIGSTOP) as soon as its outbox has the line of one stage; once the aggregator's
log shows that the next stage has begun, and the victim is silent in it, it is killed. That the sum
is exactly the survivors' is shown where vectors are known (`tests/server/aggregator`); here signed
receipts say whose sum it is, and the auditor's walk from the result holds.
"""

import json
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from accord_client import outbox
from accord_common.chain import fetch_result, fetch_run
from accord_common.envelope import Envelope
from accord_common.errors import NotFoundError
from accord_common.home import Home
from accord_common.receipts import RESULT
from accord_server.demo.federation import Federation
from accord_server.demo.processes import Actor
from tests import federations

BEFORE = {"update": "unmasking", "confirm": "upload", "unmask": "confirmation"}
"""A node's last line before it would answer a stage."""
POLL_S, MOST_POLLS, BEGINS_WITHIN = 0.004, 10_000, 125
ROUNDS = 120  # some 25 pass until a killed node is back


@pytest.fixture(scope="module")
def federation() -> Iterator[Federation]:
    with federations.temporary(5) as federation:
        yield federation


def start(federation: Federation, **changes: Any) -> tuple[str, Iterator[dict[str, Any]]]:
    """A run that every steward has approved, and what a coordinator sees of it."""
    deadlines = {"advertise_s": 5, "update_s": 30, "rejoin_s": 5}
    plan = federations.plan(federation, **({"deadlines": deadlines} | changes))
    run = federation.start_run(plan)
    federation.approve(run)
    home = federation.coordinator.home / "accord"
    lines = federation.services.follow(federation.coordinator, "run", "watch", run, "--home", home)
    return run, lines


def last_line(node: Actor) -> dict[str, Any]:
    """The newest thing a node sent to the aggregator."""
    path = node.home / "accord" / outbox.FILE_NAME
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 8192))
        whole = file.read().split(b"\n")[1:-1]
    entries = [json.loads(line) for line in whole]
    return next((e for e in reversed(entries) if e["to"] == "aggregator"), {"run": "", "kind": ""})


class Stages:
    """The aggregator's log, read as it grows: the newest stage of the newest round."""

    def __init__(self, federation: Federation) -> None:
        self._path: Path = federation.services.log(federation.aggregator)
        self._position = self._path.stat().st_size
        self._seen: set[tuple[str, int]] = set()

    def begun(self, stage: str, round_: int) -> bool:
        with self._path.open("rb") as file:
            file.seek(self._position)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._position += len(whole)
        for line in whole.splitlines():
            entry = json.loads(line)
            if entry.get("event") == "stage":
                self._seen.add((entry["stage"], entry["round"]))
        return (stage, round_) in self._seen


def kill_at(federation: Federation, node: Actor, run: str, stage: str) -> int:
    """Kill a node that is asked in a stage and has not answered; returns the round, from 0."""
    stages, pid, pause = Stages(federation), federation.services.pid(node), Event()
    for _ in range(MOST_POLLS):
        line = last_line(node)
        if (line["run"], line["kind"]) != (run, BEFORE[stage]):
            pause.wait(POLL_S)
            continue
        os.kill(pid, signal.SIGSTOP)
        if last_line(node) == line:  # it has not gone on meanwhile
            round_: int = line["round"] + (stage == "update")
            for _ in range(BEGINS_WITHIN):
                if stages.begun(stage, round_):
                    federation.services.kill(node)
                    return round_
                pause.wait(POLL_S)
        os.kill(pid, signal.SIGCONT)  # what it had said was still on its way
    raise AssertionError(f"{node.name} was never found before {stage}")


def audited(federation: Federation, run: str) -> list[Any]:
    """The receipts of a run, verified from its result to its manifest."""
    with Home.open(federation.coordinator.home / "accord").registry() as client:

        def lookup(record_hash: str) -> Envelope:
            try:
                return client.record(record_hash)
            except NotFoundError:
                return client.agreement(record_hash).envelope

        verified = fetch_run(lookup, client.run(run).manifest_hash)
        (result,) = client.records(kind=RESULT, run=run)
        return list(fetch_result(lookup, result.envelope.hash, verified).receipts)


def test_one_killed_at_each_stage_and_the_run_completes(federation: Federation) -> None:
    run, lines = start(federation, rounds=ROUNDS, spare_attempts=5)
    killed = {}
    for node, stage in zip(federation.nodes[1:4], BEFORE, strict=True):
        killed[stage] = node, kill_at(federation, node, run, stage)
        federation.start_node(node)
        if stage == "unmask":
            break
        for update in lines:  # until it takes part again
            assert update["event"] != "end", update
            if update["event"] == "round" and update["round"] > killed[stage][1] + 2:
                if len(update["sites"]) == 5:
                    break
    updates = list(lines)
    assert updates[-1]["state"] == "completed", updates[-1]

    receipts = audited(federation, run)
    assert [(r.round, r.outcome) for r in receipts] == [(r, "completed") for r in range(ROUNDS)]
    assert all(len(receipt.cohort) >= 4 for receipt in receipts)
    node, round_ = killed["update"]
    party = Home.open(node.home / "accord").profile.party
    assert party in receipts[round_].lost and party not in receipts[round_].cohort
    for stage in ("confirm", "unmask"):  # what it had uploaded counts
        node, round_ = killed[stage]
        party = Home.open(node.home / "accord").profile.party
        assert party in receipts[round_].cohort and len(receipts[round_].cohort) == 5
        assert party not in receipts[round_ + 1].cohort


def test_two_killed_end_the_attempt_and_the_run_says_why(federation: Federation) -> None:
    run, lines = start(federation, rounds=ROUNDS, spare_attempts=5)
    victims = federation.nodes[:2]
    for node in victims:
        kill_at(federation, node, run, "update")
    updates = list(lines)
    for node in victims:
        federation.start_node(node)
    end = updates[-1]
    assert (end["state"], end["code"]) == ("failed", "too-few-nodes"), end
    assert all(node.name in end["cause"] for node in victims)
    receipts = audited(federation, run)
    assert receipts[-1].outcome == "aborted" or len(receipts[-1].cohort) == 4


@pytest.mark.soak(sample=12, full=200)
def test_rounds_go_on_while_nodes_die_and_come_back(
    federation: Federation, size: int, seed: int
) -> None:
    """A node dies every few rounds, as soon as the last one is back."""
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
            if whole == 3 and done < size:
                victim = chance.choice(federation.nodes)
                federation.services.kill(victim)
                federation.start_node(victim)
                kills += 1
    assert end["state"] == "completed", end
    assert done == size and done >= 0.95 * attempts
    assert kills >= max(1, size // 50)
    assert len(audited(federation, run)) == attempts
