"""The node of the working day's first hospital, and its own page, served by its own process.

Its ledger and outbox hold what its receipts at the registry say; a run waits for its steward.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from accord_client.agreements import Agreements
from accord_client.cli.options import DEFAULT_HOME
from accord_client.contact import REGISTRY_SEEN
from accord_client.deciding import caps_of
from accord_client.lock import only_daemon
from accord_client.outbox import Kind
from accord_client.outbox import Place as Within
from accord_client.state import Run
from accord_client.stores import Stores, open_stores
from accord_common.envelope import Envelope
from accord_common.fields import format_time, now
from accord_common.home import Home
from accord_common.manifest import RunManifest
from accord_common.receipts import CONSENT, NODE_RECEIPT, NodeReceipt
from tests.client.institutions import Aggregator, Institutions, make_home, register, write_table
from tests.server.registry.stack import Stack
from tests.world import Actor

HIDDEN = [4]  # widths of a network that the agreement permits
_PATIENCE_S = 120.0
_COMMAND = "from accord_client.cli import main; main()"


def settle_in(folder: Path, stack: Stack, actor: Actor, runs: Sequence[str]) -> Home:
    """Make a hospital's folder, with its part in these runs, as the registry's records show it."""
    world, settings = stack.world, stack.settings
    home = make_home(folder / DEFAULT_HOME.name, world, actor)
    home = home.joined(settings.url, settings.ca.read_bytes(), stack.tokens[actor.id])
    register(home, world, actor, write_table(folder / "tumours.csv"), "ask")
    own = Agreements.of(home)
    own.sign(world.agreement, actor.identity)
    assert own.complete(world.agreement_envelope)
    with open_stores(home) as stores:
        stores.outbox.append("agreement-signature", "registry", world.agreement_hash, 4096)
        for run in runs:
            _live_through(stores, stack, run)
    return home


def ask_for(stack: Stack, actor: Actor, home: Home, title: str) -> Envelope:
    """Propose a run that the node's own checks accept."""
    one = Institutions(
        stack.world, home.path, {actor.id: home}, X25519PrivateKey.generate(), stack.offer()
    )
    manifest = one.manifest(title=title, hidden=HIDDEN)
    coordinator = stack.client(stack.world.coordinator)
    coordinator.put_blob(Aggregator.of(one, manifest).model.tobytes())
    coordinator.post(manifest)
    return manifest


def _live_through(stores: Stores, stack: Stack, run: str) -> None:
    """Remember, charge and write down what the node's records of a run say that it did."""
    registry = stack.client(stack.world.keys[stores.party])
    view = registry.run(run)
    manifest = registry.record(view.manifest_hash)
    records = [
        one.envelope
        for one in registry.records(run=run)
        if stores.key.public in one.envelope.signers
    ]
    (consent,) = (one for one in records if one.kind == CONSENT)
    site = RunManifest.from_bytes(manifest.payload).site(stores.party)
    known = Run(
        run, manifest.hash, view.title, stores.datasets.get(site.dataset).name, "accept", "", "",
        consent.hash, -1, -1, "ready",
    )  # fmt: skip
    stores.state.decide(known, consent, [manifest], now())
    _wrote(stores, consent, Within(run))
    terms = stack.world.agreement_envelope
    caps = caps_of(terms, site.dataset, lambda population: [population])
    for envelope in records:
        if envelope.kind == NODE_RECEIPT:
            said = NodeReceipt.from_bytes(envelope.payload)
            within = Within(run, said.round, said.attempt)
            stores.state.begin(run, said.round, said.attempt)
            stores.ledger.charge(said.ledger.spend, caps, now)
            stores.outbox.append("upload", "aggregator", said.upload, said.upload_bytes, within)
            stores.state.report(run, said.round, said.attempt, envelope)
            _wrote(stores, envelope, within)
    while (queued := stores.state.next_queued()) is not None:
        stores.state.posted(queued, taken=True)
    stores.state.follow(run, view.state, now())


def _wrote(stores: Stores, envelope: Envelope, within: Within) -> None:
    kind: Kind = "consent" if envelope.kind == CONSENT else "node-receipt"
    size = len(envelope.to_bytes())
    stores.outbox.append(kind, "registry", envelope.hash, size, within)


def stir(home: Home) -> None:
    """Have the node heard the registry just now, as its daemon does all the time."""
    with open_stores(home) as stores:
        stores.state.put(REGISTRY_SEEN, format_time(now()))


@dataclass(frozen=True)
class OwnPage:
    """Where the page is, and the cookies of whoever came in by its link."""

    origin: str
    cookies: dict[str, str]
    process: subprocess.Popen[bytes]

    def client(self) -> httpx.Client:
        """Whoever came in, without a browser."""
        return httpx.Client(base_url=self.origin, cookies=self.cookies, timeout=_PATIENCE_S)


@contextmanager
def own_page(home: Home) -> Iterator[OwnPage]:
    """Run `accord-node steward`, beside what stands for the daemon, and come in."""
    command = [sys.executable, "-c", _COMMAND, "steward", "--home", str(home.path)]
    stir(home)
    with (
        only_daemon(home.path),
        subprocess.Popen(
            [*command, "--format", "json"],
            env={**os.environ, "HOME": str(home.path.parent)},  # so no command needs --home
            stdout=subprocess.PIPE,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            link = json.loads(process.stdout.readline())["link"]
            origin, _, code = link.partition("/enter#")
            with httpx.Client(base_url=origin, verify=False, timeout=_PATIENCE_S) as http:
                answer = http.post("/session", json={"code": code}, headers={"Origin": origin})
                assert answer.status_code == 200, answer.text
                _wait(http)
                yield OwnPage(origin, dict(http.cookies), process)
        finally:
            process.terminate()
            process.wait(_PATIENCE_S)


def _wait(http: httpx.Client) -> None:
    """Until the registry has answered and the files were walked."""
    end = time.monotonic() + _PATIENCE_S
    while True:
        page = http.get("/", headers={"Accept": "text/html"}).text
        if "being asked" not in page and "being checked" not in page:
            return
        assert time.monotonic() < end, page
        time.sleep(0.05)
