"""Both state machines above 50 nodes, where the graph is drawn; see `secagg_driver`.

There is no engine for these: what travels in a request beside an envelope is handed over as it is.
A roster of so many needs no agreement here.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from unittest.mock import patch

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from accord_client.secagg import NodeSecAgg
from accord_common import identity
from accord_common.canonical import parse
from accord_common.envelope import Envelope
from accord_common.fields import MAX_RECORD_BYTES, new_id
from accord_common.identity import SigningKey
from accord_common.manifest import RunManifest, SecAgg, default_threshold
from accord_common.rings import Words
from accord_common.secagg.messages import Message
from accord_server.aggregator.secagg import Attempt
from tests import world as worlds
from tests.secagg_driver import Federation, Script

DRAW = 0.5  # the exchange between stages 0 and 1, for `Script.lost_at`


def drawn_federation(
    n: int, *, lost: int, colluders: int = 0, dimension: int = 7, attempts: int = 100
) -> Federation:
    """A run of n institutions, of which `lost` may be lost and `colluders` collude."""
    envelope_key = X25519PrivateKey.generate()
    keys = {party: SigningKey.generate() for party in sorted(new_id() for _ in range(n))}
    body = _manifest().model_dump()
    site, aggregator = body["roster"][0], body["aggregator"]
    body |= {
        "roster": [site | {"party": party, "dataset": new_id()} for party in keys],
        "aggregator": aggregator
        | {"envelope_key": envelope_key.public_key().public_bytes_raw().hex()},
        "secagg": SecAgg(
            threshold=default_threshold(n),
            min_cohort=n - lost,
            colluders=colluders,
            ring_bits=32,
            bound="4",
            scale=1,
        ).model_dump(),
        "dimension": dimension,
        "rounds": 4,
        "max_attempts_total": attempts,
    }
    return Federation(RunManifest.model_validate(body), "ab" * 32, keys, envelope_key)


@lru_cache
def _manifest() -> RunManifest:
    world = worlds.make_world(2)
    return world.manifest_body(world.run_keys())


@contextmanager
def verified_once() -> Iterator[None]:
    """Decode and verify only once what a hundred nodes are shown: it holds for all or for none."""
    verify: Any = lru_cache(maxsize=None)(identity.verify)
    decode: Any = lru_cache(maxsize=None)(
        lambda kind, data: kind.from_json(parse(data, max_bytes=MAX_RECORD_BYTES))
    )
    with (
        patch.object(identity, "verify", verify),
        patch.object(Message, "from_bytes", classmethod(decode)),
    ):
        yield


@dataclass
class Drawn:
    """One attempt under an honest server, stage by stage; tests go on from where they stop it.

    Attributes:
        cohort: U1's commitments.
        reveals: party -> its reveal.
        headers: party -> its upload's header.
        chunks: party -> its upload's sealed chunks.
    """

    fed: Federation
    server: Attempt
    script: Script = field(default_factory=Script)
    cohort: list[Envelope] = field(default_factory=list)
    reveals: dict[str, Envelope] = field(default_factory=dict)
    headers: dict[str, Envelope] = field(default_factory=dict)
    chunks: dict[str, list[bytes]] = field(default_factory=dict)
    uploads: dict[str, str] = field(default_factory=dict)
    confirmations: list[Envelope] = field(default_factory=list)

    @property
    def place(self) -> tuple[int, int]:
        return self.server.round, self.server.attempt

    def commit(self) -> None:
        for party, node in self._present(0, self.fed.parties):
            self.server.advertise(party, node.advertise(*self.place))
        self.cohort = self.server.close_cohort()

    def draw(self) -> None:
        for party, node in self._present(DRAW, self.server.cohort):
            self.reveals[party] = node.reveal(*self.place, self.cohort)
        self.server.draw(self.reveals)

    def share(self) -> None:
        for party, node in self._present(1, self.server.cohort):
            self.server.share(party, node.share_drawn(*self.place, self.reveals))
        self.server.close_sharers()

    def upload(self) -> None:
        for party, _ in self._present(2, self.server.sharers):
            self.headers[party], self.chunks[party] = self.mask(party)
            self.server.fold(party, self.headers[party], self.chunks[party])
        self.uploads = self.server.close_uploads()

    def mask(self, party: str, **changes: Any) -> tuple[Envelope, list[bytes]]:
        """R2 at one node, told the truth but for `changes`."""
        told: dict[str, Any] = {
            "cohort": self.server.cohort_hash,
            "sharers": list(self.server.sharers),
            "sealed": self.server.sealed_for(party),
            "model": self.server.model,
        } | changes
        node = self.fed.nodes[party]
        return node.mask(node.open_sharers(*self.place, **told), self.fed.vector(party))

    def confirm(self) -> None:
        for party, node in self._present(3, self.uploads):
            self.server.confirm(party, node.confirm(*self.place, self.uploads))
        self.confirmations = self.server.close_confirmations()

    def unmask(self) -> Words:
        for party, node in self._present(4, self.uploads):
            told = self.confirmations, self.told(party)
            self.server.unmask(party, node.unmask(*self.place, *told))
        return self.server.total()

    def told(self, party: str) -> list[Envelope]:
        """R4's request: the headers of a node's neighbours in U3."""
        circle = self.server.graph.circles[party]
        return [self.headers[peer] for peer in circle if peer in self.uploads and peer != party]

    def _present(self, stage: float, parties: Collection[str]) -> Iterator[tuple[str, NodeSecAgg]]:
        present = self.script.here(stage, list(parties))
        for party in set(parties) - set(present):
            self.server.lose(party)
        for party in present:
            if (stage, party) in self.script.restarts:
                self.fed.restart(party)
            yield party, self.fed.nodes[party]


def drive_drawn(fed: Federation, attempt: Attempt, script: Script | None = None) -> Words:
    """Run an attempt to its sum with an honest server; ProtocolError where it aborts."""
    attempted = Drawn(fed, attempt, script or Script())
    with verified_once():
        for stage in ("commit", "draw", "share", "upload", "confirm"):
            getattr(attempted, stage)()
        return attempted.unmask()
