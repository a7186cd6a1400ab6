"""A recorded federation: what its sites said, and what everybody knows about each of them."""

import hashlib
import shutil
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from flwr.supercore.primitives.asymmetric import public_key_to_bytes

from accord_client.ledger import Ledger
from accord_common.agreement import AGREEMENT, Agreement
from accord_common.authorities import fingerprint_of, read_bundle
from accord_common.envelope import Envelope
from accord_common.home import Home
from accord_common.log.checkpoint import Head
from accord_common.manifest import MANIFEST, RunManifest
from accord_common.privacy.events import NO_PREDECESSOR, LedgerEntry
from accord_common.receipts import AGGREGATOR_RECEIPT, AggregatorReceipt
from accord_server.demo.federation import Federation, Share
from accord_server.demo.processes import Actor, Services
from tests import federations
from tests.forked import fork_verbs
from tests.known import installing
from tests.recording.fields import Known, field_of
from tests.recording.reading import (
    Request,
    body_of,
    content_of,
    cut_off,
    envelopes,
    flat,
    leaves,
    requests,
)

SIZE = 200
RECORDER = Path(__file__).with_name("recorder.py")


@dataclass
class Recorded:
    """A federation, and for each site the folder with what it said."""

    federation: Federation
    said: list[Path]
    runs: list[str] = field(default_factory=list)

    @cached_property
    def requests(self) -> list[list[Request]]:
        """By site, in the order of its connections; read once, when all is said."""
        return [requests(folder) for folder in self.said]

    @cached_property
    def records(self) -> list[Envelope]:
        """Everything at the registry."""
        with Home.open(self.federation.coordinator.home / "accord").registry() as client:
            found, after = [], 0
            while page := client.records(after):
                found += [item.envelope for item in page]
                after = page[-1].sequence
        return found

    @cached_property
    def agreement(self) -> Agreement:
        """The one that all have signed."""
        (found,) = [e for e in self.records if e.kind == AGREEMENT]
        return Agreement.from_bytes(found.payload)

    def home(self, site: int) -> Home:
        return Home.open(self.federation.nodes[site].home / "accord")

    def entries(self, site: int) -> list[tuple[LedgerEntry, Envelope]]:
        """A site's ledger."""
        return entries(self.federation.nodes[site])

    def known(self, site: int) -> Known:
        """What is public, what this site's ledger holds, and what it was told."""
        home, known = self.home(site), Known()

        def name(record: str, value: Any) -> None:
            for path, leaf in flat(record, value):
                known.named.setdefault(field_of(path), set()).add(leaf)

        name("profile", home.profile.to_json())
        key = home.flower_key().private.public_key()
        known.named["flower.public_key"] = {b64encode(public_key_to_bytes(key)).decode()}
        known.named["own.key"] = {home.node_key().public, home.profile.identity_key}
        known.named["ca"] = {fingerprint_of(read_bundle(home.ca_path.read_bytes())[0])}
        name("agreement", self.agreement.to_json())
        (own,) = [d for d in self.agreement.datasets if d.owner == home.profile.party]
        name("dataset", own.to_json())
        with Home.open(self.federation.coordinator.home / "accord").registry() as client:
            name("table", client.datasets()[0].table.to_json())  # one schema, its hash is agreed
            for checkpoint in client.tree.checkpoints():
                name("checkpoint", Head.of(checkpoint).to_json())
        for envelope in self.records:
            known.hashes.add(envelope.hash)
            if envelope.kind == MANIFEST:
                manifest = RunManifest.from_bytes(envelope.payload)
                known.manifests[envelope.hash] = manifest
                known.hashes.add(manifest.initial_model)
                name("manifest", manifest.to_json())
                for item in manifest.roster:
                    if item.party == home.profile.party:  # not every run has every site
                        name("site", item.to_json())
            elif envelope.kind == AGGREGATOR_RECEIPT:
                receipt = AggregatorReceipt.from_bytes(envelope.payload)
                known.hashes.add(receipt.model_before)
        for entry, envelope in self.entries(site):
            name("ledger", entry.to_json())
            known.hashes.add(envelope.hash)
        known.hashes |= self._made(site) | self._shared | {NO_PREDECESSOR}
        known.heard = b"".join(path.read_bytes() for path in self.said[site].glob("*.heard"))
        return known

    def _made(self, site: int) -> set[str]:
        """Hashes of what this site sent: envelopes, sealed vectors, and any site's objects."""
        found = self._objects | {envelope.hash for envelope in envelopes(self.requests[site])}
        for request in self.requests[site]:
            for path, value in leaves(request):
                if path == "chunk":
                    root = b"accord upload v1" + hashlib.sha256(value).digest()
                    found.add(hashlib.sha256(root).hexdigest())
        return found | cut_off(self.requests[site], found)

    @cached_property
    def _objects(self) -> set[str]:
        """Ids of all objects; one that several sites have alike is taken from the first."""
        contents = (content_of(request) for sent in self.requests for request in sent)
        return {hashlib.sha256(one).hexdigest() for one in contents if one is not None}

    @cached_property
    def _shared(self) -> set[str]:
        """Hashes of lists: one for all sites, so that none can say anything of its own by it."""
        lists: dict[tuple[Any, ...], set[str]] = {}
        for envelope in envelopes(request for sent in self.requests for request in sent):
            body = body_of(envelope)
            for name in {"cohort", "sharers", "uploads"} & body.keys():
                place = (name, body["manifest"], body["round"], body["attempt"])
                lists.setdefault(place, set()).add(body[name])
        assert all(len(values) == 1 for values in lists.values()), lists
        return {value for values in lists.values() for value in values}


def entries(node: Actor) -> list[tuple[LedgerEntry, Envelope]]:
    """A node's ledger, while it runs."""
    home = Home.open(node.home / "accord")
    ledger = Ledger.open(home.path / "ledger.db", home.node_key())
    try:
        return ledger.entries()
    finally:
        ledger.close()


@contextmanager
def recording(folder: Path, tables: list[str]) -> Iterator[Recorded]:
    """A federation of one site for each table, recorded from the first command on.

    The task `known-vectors` is installed for all who load tasks.
    """
    (folder / "logs").mkdir(parents=True)
    installing.install(folder / "installed")
    shares = [
        Share(f"Site {index}", table, SIZE, "auto-within-agreement")
        for index, table in enumerate(tables)
    ]
    with Services(folder / "logs") as services:
        schema = federations.synthetic_schema()
        federation = Federation(folder / "parties", services, shares, schema)
        said = [folder / "said" / str(index) for index in range(len(tables))]
        places = zip(federation.nodes, said, strict=True)
        federation.nodes = [_kept(node, place, folder / "installed") for node, place in places]
        federation.coordinator = installing.having(federation.coordinator, folder / "installed")
        fork_verbs(federation, of_nodes=False)  # a node's are recorded by its sitecustomize
        federation.found()
        federation.enrol_all()
        datasets = [{"owner": node.name, "name": "tumours"} for node in federation.nodes]
        federation.agree({**federations.terms(), "datasets": datasets})
        federation.start()
        yield Recorded(federation, said)


def _kept(node: Actor, place: Path, installed: Path) -> Actor:
    place.mkdir(parents=True)
    shutil.copy(RECORDER, place / "sitecustomize.py")
    found = f"PYTHONPATH={place}:{installed}"
    return replace(node, wrap=lambda command: ["env", found, *command])
