"""Both state machines of secure aggregation in memory, message by message, without an engine.

Every message passes through its wire header, so what is driven is what travels. A `Script` says
which node is lost at which stage, who restarts from its dump, and in which order answers come.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from random import Random
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from accord_client.secagg import NodeSecAgg
from accord_common import wire
from accord_common.enrolment import OFFER, Offer
from accord_common.envelope import sign
from accord_common.errors import ProtocolError
from accord_common.identity import SigningKey
from accord_common.manifest import RunManifest, SecAgg, default_threshold
from accord_common.rings import Words, ring_of
from accord_server.aggregator.secagg import Attempt
from tests import world as worlds

MODEL = "d0" * 32
BULK = tuple[bytes, ...]


@dataclass
class Federation:
    """A signed run, its nodes' machines, and the aggregator's envelope key."""

    manifest: RunManifest
    manifest_hash: str
    node_keys: dict[str, SigningKey]
    envelope_key: X25519PrivateKey
    nodes: dict[str, NodeSecAgg] = field(default_factory=dict)
    exchanges: list[tuple[str, wire.Request, wire.Reply]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.nodes = {party: self.machine(party) for party in self.parties}

    @property
    def parties(self) -> list[str]:
        """The roster, in its order."""
        return [site.party for site in self.manifest.roster]

    @property
    def peers(self) -> dict[str, str]:
        return {party: key.public for party, key in self.node_keys.items()}

    @property
    def words(self) -> type[np.unsignedinteger[Any]]:
        words: type[np.unsignedinteger[Any]] = ring_of(self.manifest.secagg.ring_bits).words
        return words

    def machine(self, party: str) -> NodeSecAgg:
        """A node's machine as it is before it has done anything."""
        key = self.node_keys[party]
        return NodeSecAgg(self.manifest, self.manifest_hash, party, key, self.peers)

    def restart(self, party: str) -> None:
        """End a node's process: what it dumped comes back, what it only held in memory is lost."""
        kept = self.nodes[party].dump()
        self.nodes[party] = self.machine(party)
        if kept is not None:
            self.nodes[party].load(kept)

    def attempt(self, round_: int = 0, attempt: int = 0, model: str = MODEL) -> Attempt:
        return Attempt(
            self.manifest,
            self.manifest_hash,
            self.peers,
            self.envelope_key,
            round_,
            attempt,
            model,
        )

    def vector(self, party: str, round_: int = 0, attempt: int = 0) -> Words:
        """What a node adds: any words, since the sum is taken modulo 2^k."""
        generator = np.random.default_rng([self.manifest.index(party), round_, attempt])
        top = np.iinfo(self.words).max
        vector: Words = generator.integers(
            0, top, self.manifest.dimension, dtype=self.words, endpoint=True
        )
        return vector

    def expected(self, parties: list[str], round_: int = 0, attempt: int = 0) -> Words:
        total = np.zeros(self.manifest.dimension, self.words)
        for party in parties:
            np.add(total, self.vector(party, round_, attempt), out=total)
        return total

    def ask(self, party: str, request: wire.Request) -> tuple[wire.Reply, BULK]:
        """One exchange, through the headers' bytes."""
        told = wire.decode_request(wire.encode(request))
        reply, bulk = self._answer(self.nodes[party], told)
        self.exchanges.append((party, request, reply))
        return wire.decode_reply(wire.encode(reply)), bulk

    def _answer(self, node: NodeSecAgg, request: wire.Request) -> tuple[wire.Reply, BULK]:
        match request:
            case wire.Advertise():
                keys = node.advertise(request.round, request.attempt)
                return wire.AdvertisementReply(envelope=keys), ()
            case wire.Share():
                shares = node.share(request.round, request.attempt, request.cohort)
                return wire.SharesReply(envelope=shares), ()
            case wire.Train():
                sharers = node.open_sharers(
                    request.round,
                    request.attempt,
                    request.cohort,
                    request.sharers,
                    request.sealed,
                    request.model,
                )
                vector = self.vector(node.party, request.round, request.attempt)
                upload, chunks = node.mask(sharers, vector)
                return wire.UpdateReply(upload=upload, next=None), tuple(chunks)
            case wire.Confirm():
                confirmation = node.confirm(request.round, request.attempt, request.uploads)
                return wire.ConfirmationReply(envelope=confirmation, shares=None), ()
            case wire.Unmask():
                answer = node.unmask(request.round, request.attempt, request.confirmations)
                return wire.UnmaskingReply(envelope=answer), ()
            case wire.Finish():
                return wire.Done(), ()


@cache
def _world(n: int) -> worlds.World:
    return worlds.make_world(n)


def federation(
    n: int = 3,
    *,
    threshold: int | None = None,
    min_cohort: int = 2,
    colluders: int = 0,
    bits: int = 32,
    dimension: int = 7,
) -> Federation:
    """A signed run of n hospitals; t is the default one unless given."""
    world = _world(n)
    envelope_key = X25519PrivateKey.generate()
    offered = Offer.from_bytes(world.run_keys().offer.payload).model_copy(
        update={"envelope_key": envelope_key.public_key().public_bytes_raw().hex()}
    )
    secagg = SecAgg(
        threshold=threshold or default_threshold(n),
        min_cohort=min_cohort,
        colluders=colluders,
        ring_bits=bits,  # type: ignore[arg-type]  # the record checks it
        bound="4",
        scale=1,
    )
    envelope = world.manifest(
        worlds.RunKeys(SigningKey.generate(), sign(OFFER, offered, world.aggregator.node)),
        secagg=secagg,
        dimension=dimension,
        rounds=10,
        max_attempts_total=100,
    )
    keys = {actor.id: actor.node for actor in world.hospitals}
    manifest = RunManifest.from_bytes(envelope.payload)
    return Federation(manifest, envelope.hash, keys, envelope_key)


@dataclass
class Script:
    """What goes wrong in an attempt.

    Args:
        lost_at: party -> stage, 0 to 4, from which on it answers nothing.
        restarts: (stage, party): the node restarts from its dump before that stage; 3 and 4.
        repeats: (stage, party): asked twice at that stage; must answer with the same bytes.
        order: shuffles in which order nodes answer.
    """

    lost_at: Mapping[str, float] = field(default_factory=dict)
    restarts: set[tuple[int, str]] = field(default_factory=set)
    repeats: set[tuple[int, str]] = field(default_factory=set)
    order: Random = field(default_factory=lambda: Random(0))

    def here(self, stage: float, parties: list[str]) -> list[str]:
        """Who answers at a stage, in the order of their answers."""
        left = [party for party in parties if self.lost_at.get(party, 9) > stage]
        self.order.shuffle(left)
        return left


def drive(fed: Federation, attempt: Attempt, script: Script | None = None) -> Words:
    """Run an attempt to its sum with an honest server; ProtocolError where it aborts."""
    script = script or Script()
    place: dict[str, Any] = {
        "manifest": fed.manifest_hash,
        "round": attempt.round,
        "attempt": attempt.attempt,
    }

    def each(stage: int, parties: list[str], make: Any) -> list[tuple[str, Any, BULK]]:
        answers = []
        present = script.here(stage, parties)
        for party in set(parties) - set(present):
            attempt.lose(party)
        for party in present:
            if (stage, party) in script.restarts:
                fed.restart(party)
            reply, bulk = fed.ask(party, make(party))
            if stage != 2 and (stage, party) in script.repeats:
                assert fed.ask(party, make(party))[0] == reply
            answers.append((party, reply, bulk))
        return answers

    for party, reply, _ in each(0, fed.parties, lambda _: wire.Advertise(**place)):
        attempt.advertise(party, reply.envelope)
    cohort = attempt.close_cohort()
    for party, reply, _ in each(
        1, list(attempt.cohort), lambda _: wire.Share(**place, cohort=cohort)
    ):
        attempt.share(party, reply.envelope)
    sharers = attempt.close_sharers()

    def train(party: str) -> wire.Train:
        return wire.Train(
            **place,
            cohort=attempt.cohort_hash,
            sharers=list(sharers),
            sealed=attempt.sealed_for(party),
            model=attempt.model,
        )

    for party, reply, chunks in each(2, list(sharers), train):
        attempt.fold(party, reply.upload, chunks)
        if (2, party) in script.repeats:
            with_code("repeated-message", partial(attempt.fold, party, reply.upload, chunks))
    uploads = attempt.close_uploads()
    for party, reply, _ in each(
        3, list(uploads), lambda _: wire.Confirm(**place, uploads=uploads, next=None)
    ):
        attempt.confirm(party, reply.envelope)
    confirmations = attempt.close_confirmations()
    for party, reply, _ in each(
        4, list(uploads), lambda _: wire.Unmask(**place, confirmations=confirmations)
    ):
        attempt.unmask(party, reply.envelope)
    return attempt.total()


def with_code(code: str, action: Any) -> None:
    """Do something that must be refused with a code."""
    try:
        action()
    except ProtocolError as error:
        assert error.code == code, error
    else:
        raise AssertionError(f"nothing was refused, expected {code}")
