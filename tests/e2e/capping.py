"""Lower a site's own cap below what it accepted, so that it stops after so many attempts."""

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
from tests.recording.knowing import entries

DELTA = "0.00001"
PATIENCE_S, POLL_S = 60.0, 0.02


def cap_after_consent(federation: Federation, node: Actor, run: str, attempts: int) -> None:
    """As soon as a site has accepted a run, cap it at so many attempts.

    Before the run its ledger had entries of the run's mechanism alone. The caller holds the
    aggregator still, so that no attempt begins before.
    """
    party = Home.open(node.home / "accord").profile.party
    until, pause = time.monotonic() + PATIENCE_S, Event()
    with Home.open(federation.coordinator.home / "accord").registry() as client:
        while not any(c.party == party and c.decision for c in client.run(run).consents):
            assert time.monotonic() < until, f"no consent of {node.name} in {PATIENCE_S:g} s"
            pause.wait(POLL_S)
    spends = [entry.spend for entry, _ in entries(node)]
    rule, most = RdpFilter(Cap(epsilon="0", delta=DELTA)), len(spends) + attempts
    fits, one_too_many = (rule.epsilon(spends[:1] * count) for count in (most, most + 1))
    cap = f"{(fits + one_too_many) / 2:.9f}"
    federation.at(node, "budget", "cap", "tumours", "--epsilon", cap, "--delta", DELTA)


def shown(federation: Federation, run: str) -> tuple[Any, Any, str]:
    """The run and its rounds by the registry's API, and the text of `accord run show`."""
    out = io.StringIO()
    with Home.open(federation.coordinator.home / "accord").registry() as client:
        view, rounds = client.run(run), client.rounds(run)
        verified = desk.verified_run(client, view)
        text = run_text.run(view, verified, desk.verified_result(client, verified), rounds, {})
    Console(file=out, width=200).print(text)
    return view, rounds, out.getvalue()


def at_node(federation: Federation, node: Actor, run: str) -> dict[str, Any]:
    """What `accord-node status` tells the steward about a refusal."""
    (found,) = [r["refusal"] for r in federation.at(node, "status")["runs"] if r["id"] == run]
    assert isinstance(found, dict)
    return found
