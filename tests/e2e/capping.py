"""Lower a site's own cap in mid-run, so that it ends after a known number of attempts."""

import io
import time
from threading import Event
from typing import Any

from rich.console import Console

from accord_common.home import Home
from accord_common.privacy.filter import Cap, RdpFilter
from accord_server.cli import run_text
from accord_server.coordinator import desk
from accord_server.demo.federation import Federation
from accord_server.demo.processes import Actor
from tests.e2e.killing import frozen
from tests.recording.knowing import entries

DELTA = "0.00001"
PATIENCE_S, POLL_S = 60.0, 0.02


def stop_after_two_more(federation: Federation, node: Actor, before: int) -> int:
    """Once a run is under way, cap a site at two attempts more; returns how many in the run.

    Before the run its ledger had `before` entries, all of the run's mechanism. The aggregator
    stands still meanwhile, so that one attempt at most is under way at the node.
    """
    until, pause = time.monotonic() + PATIENCE_S, Event()
    while len(entries(node)) == before and time.monotonic() < until:
        pause.wait(POLL_S)
    with frozen(federation.services.pid(federation.aggregator)):
        spends = [entry.spend for entry, _ in entries(node)]
        rule, most = RdpFilter(Cap(epsilon="0", delta=DELTA)), len(spends) + 2
        fits, one_too_many = (rule.epsilon(spends[:1] * count) for count in (most, most + 1))
        cap = f"{(fits + one_too_many) / 2:.9f}"
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


def at_node(federation: Federation, node: Actor, run: str) -> dict[str, Any]:
    """What `accord-node status` tells the steward about a refusal."""
    (found,) = [r["refusal"] for r in federation.at(node, "status")["runs"] if r["id"] == run]
    assert isinstance(found, dict)
    return found
