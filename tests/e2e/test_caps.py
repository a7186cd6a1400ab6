"""A steward lowers the institution's own cap in mid-run: its node stops, and everybody is told.

Four sites, three of which suffice; the second run has three, all of which are needed.
"""

import io
import time
from collections.abc import Iterator
from threading import Event
from typing import Any

import pytest
from rich.console import Console

from accord_client.ledger import Ledger
from accord_common.home import Home
from accord_common.privacy.events import Spend
from accord_common.privacy.filter import Cap, RdpFilter
from accord_server.cli import run_text
from accord_server.coordinator import desk
from accord_server.demo.federation import Federation
from accord_server.demo.processes import Actor
from tests import federations
from tests.e2e.killing import frozen

ROUNDS = 30  # more than are over before a watcher sees the second one
DELTA, CODE = "0.00001", "budget-exceeded"
PATIENCE_S, POLL_S = 60.0, 0.02


@pytest.fixture(scope="module")
def federation() -> Iterator[Federation]:
    with federations.temporary(4) as federation:
        yield federation


def spends(node: Actor) -> list[Spend]:
    home = Home.open(node.home / "accord")
    ledger = Ledger.open(home.path / "ledger.db", home.node_key())
    try:
        return [entry.spend for entry, _ in ledger.entries()]
    finally:
        ledger.close()


def stop_after_two_more(federation: Federation, node: Actor, before: int = 0) -> int:
    """Once a run is under way, cap a site at two attempts more; returns how many in the run.

    Before the run it had `before`.

    The aggregator stands still meanwhile: at most one attempt is under way at the node.
    """
    until, pause = time.monotonic() + PATIENCE_S, Event()
    while len(spends(node)) == before and time.monotonic() < until:
        pause.wait(POLL_S)
    with frozen(federation.services.pid(federation.aggregator)):
        spent = spends(node)
        rule, most = RdpFilter(Cap(epsilon="0", delta=DELTA)), len(spent) + 2
        fits, not_any_more = (rule.epsilon(spent[:1] * count) for count in (most, most + 1))
        cap = f"{(fits + not_any_more) / 2:.9f}"
        federation.at(node, "budget", "cap", "tumours", "--epsilon", cap, "--delta", DELTA)
    return most - before


def shown(federation: Federation, run: str) -> tuple[Any, Any, str]:
    """The run and its rounds by the registry's API, and the text of `accord run show`."""
    out = io.StringIO()
    with Home.open(federation.coordinator.home / "accord").registry() as client:
        view, rounds = client.run(run), client.rounds(run)
        verified = desk.verified_run(client, view)
        text = run_text.run(view, verified, desk.verified_result(client, verified), rounds)
    Console(file=out, width=200).print(text)
    return view, rounds, out.getvalue()


def party_of(node: Actor) -> str:
    return Home.open(node.home / "accord").profile.party


def at_node(federation: Federation, node: Actor, run: str) -> dict[str, Any] | None:
    """What the steward reads about a refusal."""
    (found,) = [
        item["refusal"] for item in federation.at(node, "status")["runs"] if item["id"] == run
    ]
    return found


def test_the_run_goes_on_without_a_node_at_its_cap(federation: Federation) -> None:
    node = federation.nodes[0]
    run = federation.start_run(federations.plan(federation, rounds=ROUNDS))
    charged = stop_after_two_more(federation, node)
    updates = federations.follow(federation, run)
    end = updates[-1]
    assert (end["state"], end["rounds"]) == ("completed", ROUNDS), end
    assert end["refused"] == {node.name: {"round": charged + 1, "code": CODE}}
    assert len(spends(node)) == charged < ROUNDS
    assert {len(spends(other)) for other in federation.nodes[1:]} == {ROUNDS}

    view, rounds, text = shown(federation, run)
    refusals = {item.party: item.refusal for item in view.consents if item.refusal is not None}
    assert {who: (at.round, at.code) for who, at in refusals.items()} == {
        party_of(node): (charged, CODE)
    }
    taking_part = [party_of(node) in attempt.cohort for attempt in rounds]
    assert taking_part == [True] * charged + [False] * (ROUNDS - charged)
    assert [attempt.refused for attempt in rounds[charged:]] == [{party_of(node): CODE}] * (
        ROUNDS - charged
    )
    assert f"not from round {charged + 1} [{CODE}]" in text
    told = at_node(federation, node, run)
    assert told is not None and (told["round"], told["code"]) == (charged, CODE)
    assert "would reach" in told["reason"]  # figures: for the steward's eyes, and nobody else's
    assert "would reach" not in str(updates) + text


def test_a_run_that_needs_the_node_ends_and_says_why(federation: Federation) -> None:
    node, others = federation.nodes[1], federation.nodes[2:]
    names = [f"{site.name}/tumours" for site in (node, *others)]
    before = len(spends(node))
    run = federation.start_run(federations.plan(federation, rounds=ROUNDS, datasets=names))
    charged = stop_after_two_more(federation, node, before)
    end = federations.follow(federation, run)[-1]
    assert (end["state"], end["code"], end["rounds"]) == ("failed", "too-few-nodes", charged), end
    assert node.name in end["cause"] and f"[{CODE}]" in end["cause"]
    assert end["refused"] == {node.name: {"round": charged + 1, "code": CODE}}
    # It said so before the round: nobody was charged for an attempt that could not succeed.
    assert {len(spends(site)) - before for site in (node, *others)} == {charged}
    view, _, text = shown(federation, run)
    assert (view.state, view.code) == ("failed", "too-few-nodes")
    assert node.name in view.cause and f"[{CODE}]" in view.cause
    assert f"not from round {charged + 1} [{CODE}]" in text
    told = at_node(federation, node, run)
    assert told is not None and (told["round"], told["code"]) == (charged, CODE)
