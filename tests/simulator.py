"""n nodes and the round engine in one process, on a clock that only moves when everybody waits.

The nodes are real (`NodeSecAgg`: signatures, masks, seals) but train nothing: what a node adds in
a round is a known vector. A script says what goes wrong and when; nothing sleeps, whatever the
deadlines are.
"""

import heapq
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from accord_client.secagg import NodeSecAgg
from accord_common import wire
from accord_common.bulk import Body
from accord_common.canonical import sha256_hex
from accord_common.chain import VerifiedRun, fetch_run
from accord_common.enrolment import OFFER, Offer
from accord_common.envelope import Envelope, sign
from accord_common.errors import AccordError
from accord_common.identity import SigningKey
from accord_common.manifest import Deadlines, SecAgg
from accord_common.receipts import AggregatorReceipt
from accord_common.rings import Z32, Words, quantise, ring_of, scale_for
from accord_server.aggregator.checkpoints import Checkpoints
from accord_server.aggregator.control import Control
from accord_server.aggregator.engine import Engine, RunKeys
from accord_server.aggregator.journal import Ended, Entry, Journal, Note
from accord_server.aggregator.progress import Progress
from accord_server.aggregator.transport import Event, Incoming, InProcessTransport
from tests import world as worlds

Answer = tuple[bytes, tuple[bytes, ...]] | None
Fault = Callable[["SimNode", wire.Request, Answer], Answer]
"""What a node does instead: its request and its honest answer in, what it sends out."""

BOUND = "4"


@dataclass
class SimNode:
    """A node whose update in a round is known; `faults` maps (type, round, attempt) to a fault.

    What it would have on disk is `disk`, written before anything is answered.
    """

    party: str
    secagg: NodeSecAgg
    scale: int
    faults: dict[tuple[str, int, int], Fault] = field(default_factory=dict)
    seen: list[wire.Request] = field(default_factory=list)
    disk: bytes | None = None

    def vector(self, round_: int) -> NDArray[np.float32]:
        """The update, w' x; the same in every attempt."""
        index = self.secagg.manifest.index(self.party)
        generator = np.random.default_rng([index, round_])
        return generator.uniform(-1, 1, self.secagg.manifest.dimension).astype(np.float32)

    def words(self, round_: int) -> Words:
        ring = ring_of(self.secagg.manifest.secagg.ring_bits)
        return quantise(self.vector(round_), self.scale, BOUND, ring)[0]

    def __call__(self, header: bytes, bulk: tuple[bytes, ...]) -> Answer:
        request = wire.decode_request(header)
        self.seen.append(request)
        fault = None
        if not isinstance(request, wire.Finish):
            fault = self.faults.get((request.type, request.round, request.attempt))
        try:
            reply, chunks = self._answer(request, bulk)
        except AccordError as error:
            reply, chunks = wire.refusal(error), ()
        self.disk = self.secagg.dump()
        answer = wire.encode(reply), chunks
        return fault(self, request, answer) if fault else answer

    def _answer(
        self, request: wire.Request, bulk: tuple[bytes, ...]
    ) -> tuple[wire.Reply, tuple[bytes, ...]]:
        secagg = self.secagg
        match request:
            case wire.Advertise():
                envelope = secagg.advertise(request.round, request.attempt)
                return wire.AdvertisementReply(envelope=envelope), ()
            case wire.Share():
                envelope = secagg.share(request.round, request.attempt, request.cohort)
                return wire.SharesReply(envelope=envelope), ()
            case wire.Train():
                return self._train(request, bulk)
            case wire.Confirm():
                envelope = secagg.confirm(request.round, request.attempt, request.uploads)
                return wire.ConfirmationReply(
                    envelope=envelope, shares=self._ahead(request.next)
                ), ()
            case wire.Unmask():
                envelope = secagg.unmask(request.round, request.attempt, request.confirmations)
                return wire.UnmaskingReply(envelope=envelope), ()
            case wire.Finish():
                return wire.Done(), ()

    def _train(
        self, request: wire.Train, bulk: tuple[bytes, ...]
    ) -> tuple[wire.Reply, tuple[bytes, ...]]:
        assert sha256_hex(b"".join(bulk)) == request.model
        sharers = self.secagg.open_sharers(
            request.round,
            request.attempt,
            request.cohort,
            request.sharers,
            request.sealed,
            request.model,
        )
        upload, chunks = self.secagg.mask(sharers, self.words(request.round))
        last = request.round + 1 == self.secagg.manifest.rounds
        following = None if last else self.secagg.advertise(request.round + 1, 0)
        return wire.UpdateReply(upload=upload, next=following), tuple(chunks)

    def _ahead(self, request: wire.Share | None) -> Envelope | None:
        if request is None:
            return None
        try:
            return self.secagg.share(request.round, request.attempt, request.cohort)
        except AccordError:
            return None

    def restart(self) -> None:
        """Lose everything that lies in memory."""
        secagg = self.secagg
        self.secagg = NodeSecAgg(
            secagg.manifest, secagg.manifest_hash, self.party, secagg.node_key, secagg.peers
        )
        if self.disk is not None:
            self.secagg.load(self.disk)


class SimTransport(InProcessTransport):
    """In-process nodes; `now` jumps to the next planned thing, or to the end of a wait."""

    def __init__(self, nodes: Mapping[str, SimNode], now: float = 1000.0) -> None:
        super().__init__(nodes)
        self.now = now
        self._plan: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()

    def later(self, seconds: float, action: Callable[[], object]) -> None:
        """Do something once everybody has waited this long."""
        heapq.heappush(self._plan, (self.now + seconds, next(self._order), action))

    def say(self, answer: Incoming) -> None:
        """Take an answer that was not given while sending."""
        with self._changed:
            self._put(answer)

    def receive(self, timeout_s: float) -> Event | None:
        end = self.now + timeout_s
        while (event := super().receive(0)) is None:
            if not self._plan or self._plan[0][0] > end:
                self.now = end
                return None
            moment, _, action = heapq.heappop(self._plan)
            self.now = max(self.now, moment)
            action()
        return event


@dataclass
class Simulation:
    """One run: its world, its nodes, and as many engines, one after another, as a test kills."""

    world: worlds.World
    run: VerifiedRun
    records: dict[str, Envelope]
    keys: RunKeys
    initial: bytes
    folder: Path
    nodes: dict[str, SimNode]
    control: Control = field(default_factory=Control)
    progress: Progress = field(default_factory=Progress)
    transport: SimTransport = field(init=False)

    def __post_init__(self) -> None:
        self.transport = SimTransport(self.nodes)

    @property
    def order(self) -> list[SimNode]:
        """The nodes in roster order."""
        return [self.nodes[site.party] for site in self.run.manifest.roster]

    def engine(self, journal: Journal) -> Engine:
        return Engine(
            self.run,
            self.keys,
            self.transport,
            journal,
            Checkpoints(self.folder / "checkpoints"),
            initial=Body.of(self.initial),
            control=self.control,
            progress=self.progress,
            clock=lambda: self.transport.now,
        )

    def drive(self) -> Envelope:
        """Run, or go on, to the result."""
        journal = Journal(self.folder / "journal")
        try:
            return self.engine(journal).run()
        finally:
            journal.close()

    def restart_aggregator(self) -> None:
        """Connect the nodes, as they are, to a new transport: the old process is gone."""
        self.control = Control()
        self.transport = SimTransport(self.nodes, self.transport.now)

    def entries(self) -> list[Entry]:
        """The journal so far."""
        journal = Journal(self.folder / "journal")
        found = [entry for entry, _ in journal.read()]
        journal.close()
        return found

    def receipts(self) -> list[AggregatorReceipt]:
        ended = [entry.receipt for entry in self.entries() if isinstance(entry, Ended)]
        return [AggregatorReceipt.from_bytes(receipt.payload) for receipt in ended]

    def notes(self) -> list[str]:
        return [entry.message for entry in self.entries() if isinstance(entry, Note)]

    def lookup(self, result: Envelope) -> Callable[[str], Envelope]:
        """Every record of the run, the aggregator's own included."""
        own = [entry.receipt for entry in self.entries() if isinstance(entry, Ended)]
        known = self.records | {envelope.hash: envelope for envelope in (*own, result)}
        return known.__getitem__

    def expected_sum(self, round_: int, cohort: list[str]) -> Words:
        ring = ring_of(self.run.manifest.secagg.ring_bits)
        total: Words = np.zeros(self.run.manifest.dimension, ring.words)
        for party in cohort:
            total += self.nodes[party].words(round_)
        return total


def simulate(folder: Path, *, n: int = 3, dimension: int = 7, **changes: Any) -> Simulation:
    """Sign a world of n hospitals and a run; `changes` replace fields of the manifest.

    With five hospitals and more, one may be lost: t and n_min are n - 1.
    """
    world = worlds.make_world(n)
    envelope_key = X25519PrivateKey.generate()
    receipt = SigningKey.generate()
    offer = sign(
        OFFER,
        Offer.from_bytes(world.run_keys().offer.payload).model_copy(
            update={
                "envelope_key": envelope_key.public_key().public_bytes_raw().hex(),
                "receipt_key": receipt.public,
            }
        ),
        world.aggregator.node,
    )
    initial = np.linspace(-1, 1, dimension, dtype="<f4").tobytes()
    smallest = n - 1 if n >= 5 else n
    secagg = SecAgg(
        threshold=smallest,
        min_cohort=smallest,
        colluders=0,
        ring_bits=32,
        bound=BOUND,
        scale=scale_for(BOUND, n, Z32),
    )
    manifest = world.manifest(
        worlds.RunKeys(receipt, offer),
        **{
            "dimension": dimension,
            "initial_model": sha256_hex(initial),
            "secagg": secagg,
            "rounds": 3,
            "max_attempts_total": 10,
            "deadlines": Deadlines(advertise_s=10, update_s=60, rejoin_s=120),
        }
        | changes,
    )
    envelopes = [manifest, offer, world.agreement_envelope, *world.delegations.values()]
    records = {envelope.hash: envelope for envelope in envelopes}
    run = fetch_run(records.__getitem__, manifest.hash)
    peers = {party: delegation.node_key for party, delegation in run.delegations.items()}
    nodes = {
        actor.id: SimNode(
            actor.id,
            NodeSecAgg(run.manifest, run.manifest_hash, actor.id, actor.node, peers),
            run.manifest.secagg.scale,
        )
        for actor in world.hospitals
    }
    keys = RunKeys(envelope_key, receipt)
    return Simulation(world, run, records, keys, initial, folder, nodes)


def dies(node: SimNode, request: wire.Request, answer: Answer) -> Answer:
    """The node's process ends over this message."""
    node.restart()
    raise ConnectionError("connection reset")


def dies_and_returns(transport: Callable[[], SimTransport], seconds: float = 1.0) -> Fault:
    """The node's process ends over this message, and another one connects later."""

    def fault(node: SimNode, request: wire.Request, answer: Answer) -> Answer:
        now = transport()
        now.later(seconds, lambda: now.connect(node.party))
        return dies(node, request, answer)

    return fault


def once(fault: Fault) -> Fault:
    """The fault, at the first message only: asked again, the node is honest."""
    done: list[bool] = []

    def wrapped(node: SimNode, request: wire.Request, answer: Answer) -> Answer:
        if done:
            return answer
        done.append(True)
        return fault(node, request, answer)

    return wrapped


def silent(node: SimNode, request: wire.Request, answer: Answer) -> Answer:
    """The node stays connected and never answers this message."""
    return None


def late(transport: Callable[[], SimTransport], seconds: float) -> Fault:
    """The node stays connected and answers so much later."""

    def fault(node: SimNode, request: wire.Request, answer: Answer) -> Answer:
        assert answer is not None
        said = Incoming(node.party, *answer)
        transport().later(seconds, lambda: transport().say(said))
        return None

    return fault


def leaves(code: str) -> Fault:
    """The node sends its update, and refuses the next round in the place of keys for it."""

    def fault(node: "SimNode", request: wire.Request, answer: Answer) -> Answer:
        assert answer is not None
        reply = wire.decode_reply(answer[0])
        assert isinstance(reply, wire.UpdateReply)
        refusal = wire.Refusal(code=code, message=f"refused for {code}")
        return wire.encode(reply.model_copy(update={"next": refusal})), answer[1]

    return fault


def refuses(code: str) -> Fault:
    """The node refuses this message."""
    message = f"refused for {code}"
    return lambda node, request, answer: (wire.encode(wire.Refusal(code=code, message=message)), ())
