"""The aggregator's side of the masked sum, R0 to R4, for one attempt; no I/O.

    advertise(party, envelope) ... close_cohort()  -> U1's advertisements       (R1's request)
    share(party, envelope)     ... close_sharers() -> U2        (R2's request, with sealed_for)
    fold(party, envelope, chunks)  close_uploads() -> {party: upload hash}, U3 (R3's)
    confirm(party, envelope)   ... close_confirmations() -> >= t confirmations (R4's)
    unmask(party, envelope)    ... total()         -> the sum over U3

Above 50 nodes the graph is drawn: R0 takes commitments, and before R1 `draw(reveals)` fixes who is
whose neighbour, or ends the attempt.

`missing` names whom the open stage waits for. `lose(party)` says that a node is gone: it is waited
for no more, and what it has done so far counts; once too few remain for the attempt to succeed,
`small-cohort` ends it. A node that comes back may still answer the open stage.

Guarantees: `total` is the exact sum modulo 2^k over the whole of U3, |U3| >= max(t, n_min), or
there is none. A message counts once, and only if signature, context, lists, root and every seal
hold; one that does not leaves everything as it was. Individual vectors exist only masked, one chunk
at a time. A mask key that the shares give is compared with the advertised one before it is used;
where more than t shares of a secret are there, all must agree.

R1 may be done before the model is known: `model` is set, at the latest, before the first `fold`.

Not covered: whether what a node masked is honest; a wrong share of some b among exactly t.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from accord_common.envelope import Envelope
from accord_common.errors import ProtocolError
from accord_common.manifest import RunManifest, context
from accord_common.rings import Words, ring_of
from accord_common.secagg import sealing
from accord_common.secagg.channels import open_answer
from accord_common.secagg.draw import draw
from accord_common.secagg.graph import Neighbourhood, complete, is_drawn
from accord_common.secagg.masks import add_masks
from accord_common.secagg.messages import (
    Advertisement,
    Commitment,
    Confirmation,
    M,
    Shares,
    Unmasking,
    Upload,
    cohort_hash,
    sharers_hash,
    upload_root,
    uploads_hash,
    verify,
)
from accord_server.aggregator.attempt_state import Stage, Staged, Suspended
from accord_server.aggregator.folding import SpoiledSum, add_whole
from accord_server.aggregator.left_over import combined, left_over


@dataclass(slots=True)
class Attempt(Staged):
    """One attempt at one round.

    Args:
        manifest: the run's manifest.
        manifest_hash: its record hash.
        node_keys: party id to delegated node key, for the whole roster.
        envelope_private: the run's X25519 key that uploads are sealed to.
        round: round number, from 0.
        attempt: attempt number within the round, from 0.
        model: hash of the model that the round starts from.
    """

    manifest: RunManifest
    manifest_hash: str
    node_keys: Mapping[str, str]
    envelope_private: X25519PrivateKey
    round: int
    attempt: int
    model: str
    advertised: dict[str, Envelope] = field(default_factory=dict)
    uploads: dict[str, str] = field(default_factory=dict)
    _keys: dict[str, str] = field(default_factory=dict)  # mask keys
    _cohort: tuple[str, ...] = ()
    _cohort_hash: str = ""
    _graph: Neighbourhood | None = None
    _shares: dict[str, Shares] = field(default_factory=dict)
    _sharers: tuple[str, ...] = ()
    _sum: Words | None = None
    _confirmations: dict[str, Envelope] = field(default_factory=dict)
    _answers: dict[str, list[bytes]] = field(default_factory=dict)  # in `_held_by`'s order

    def advertise(self, party: str, envelope: Envelope) -> None:
        """R0: take a node's keys; a newer advertisement replaces the older; `wrong-stage`."""
        self._require(Stage.ADVERTISE, party)
        kind = Commitment if is_drawn(self.manifest.n) else Advertisement
        self._keys[party] = self._verify(kind, party, envelope).mask_key
        self.advertised[party] = envelope
        self._lost.discard(party)

    def withdraw(self, party: str) -> None:
        """R0: forget an advertisement: the node, and its keys with it, is gone."""
        self._require(Stage.ADVERTISE, party)
        self.advertised.pop(party, None)

    def close_cohort(self) -> list[Envelope]:
        """Fix U1 as those who advertised; return the advertisements in roster order.

        Raises:
            ProtocolError: `small-cohort` under max(t, n_min).
        """
        self._close(Stage.ADVERTISE, len(self.advertised), self.manifest.smallest_cohort)
        self._cohort = tuple(sorted(self.advertised))
        members = [self.advertised[party] for party in self._cohort]
        self._cohort_hash = cohort_hash(members)
        if not is_drawn(self.manifest.n):
            self._graph = complete(self._cohort, self.manifest.secagg.threshold)
        return members

    def draw(self, reveals: Mapping[str, Envelope]) -> None:
        """Before R1 above 50 nodes: fix the graph, once; the codes of `draw.draw`."""
        self._require(Stage.SHARE, "the draw")
        if self._graph is not None:
            raise ProtocolError("wrong-stage", "the attempt has its graph")
        self._graph = draw(
            reveals,
            [self.advertised[party] for party in self._cohort],
            manifest=self.manifest,
            manifest_hash=self.manifest_hash,
            node_keys=self.node_keys,
            round_=self.round,
            attempt=self.attempt,
        )

    def share(self, party: str, envelope: Envelope) -> None:
        """R1: take a node's sealed shares.

        Raises:
            ProtocolError: `wrong-stage`, `not-in-cohort`, `repeated-message`, `wrong-cohort`,
                `wrong-shares`, `wrong-kind`, `wrong-context`.
            VerificationError: the signature does not hold.
        """
        self._require(Stage.SHARE, party, self._cohort, self._shares)
        message = self._verify(Shares, party, envelope)
        if message.cohort != self._cohort_hash:
            raise ProtocolError("wrong-cohort", f"{party} shared among another cohort")
        if message.sealed.keys() != set(self.graph.circles[party]) - {party}:
            raise ProtocolError("wrong-shares", f"{party} did not share among its neighbours")
        self._shares[party] = message

    def retract(self, party: str) -> None:
        """R1: forget a node's shares: it is gone, and the secrets that go with them, too."""
        self._require(Stage.SHARE, party)
        self._shares.pop(party, None)

    def close_sharers(self) -> tuple[str, ...]:
        """Fix U2 as those whose shares arrived, in roster order; `small-cohort`."""
        self._close(Stage.SHARE, len(self._shares), self.manifest.smallest_cohort)
        self._sharers = tuple(sorted(self._shares))
        self._sum = np.zeros(self.manifest.dimension, ring_of(self.manifest.secagg.ring_bits).words)
        return self._sharers

    def sealed_for(self, party: str) -> dict[str, str]:
        """For R2's request to a member of U2: what its neighbours in U2 sealed to it."""
        return {
            source: self._shares[source].sealed[party]
            for source in self._held_by(party)
            if source != party
        }

    def fold(self, party: str, envelope: Envelope, chunks: Sequence[bytes]) -> None:
        """R2: verify one upload whole, then add it to the accumulator.

        Raises:
            ProtocolError: `wrong-stage`, `not-in-cohort`, `repeated-message`, `wrong-context`,
                `wrong-model`, `wrong-cohort`, `wrong-length`, `wrong-root`, `wrong-chunks` or
                `seal-broken`.
            VerificationError: the signature does not hold.
            SpoiledSum: it was added in part; the attempt has no sum any more.
        """
        self._require(Stage.UPLOAD, party, self._sharers, self.uploads)
        header = self._verify(Upload, party, envelope)
        if header.model != self.model:
            raise ProtocolError("wrong-model", f"{party} trained from {header.model[:16]}")
        if (header.cohort, header.sharers) != (self._cohort_hash, sharers_hash(self._sharers)):
            raise ProtocolError("wrong-cohort", f"{party} masked for another cohort")
        if header.words != self.manifest.dimension:
            raise ProtocolError("wrong-length", f"{party} sends {header.words} words")
        if header.root != upload_root(chunks) or header.chunks != len(chunks):
            raise ProtocolError("wrong-root", f"the chunks of {party} are not those it signed")
        total = self._accumulator()
        try:
            add_whole(total, lambda: self._open(party, header.ephemeral_key, chunks))
        except SpoiledSum:
            self._sum = None
            raise
        self.uploads[party] = envelope.hash

    def close_uploads(self) -> dict[str, str]:
        """Fix U3 as those whose uploads are in the sum: party -> upload hash; `small-cohort`."""
        self._close(Stage.UPLOAD, len(self.uploads), self.manifest.smallest_cohort)
        self.uploads = dict(sorted(self.uploads.items()))
        return self.uploads

    def suspend(self) -> tuple[Suspended, Words]:
        """Between R2 and R3: all that `resume` needs, and the masked sum (not copied)."""
        if self.stage is not Stage.CONFIRM:
            raise ProtocolError("wrong-stage", f"suspended in {self.stage.name}")
        members = [self.advertised[party] for party in self._cohort]
        suspended = Suspended(
            cohort=members, sharers=list(self._sharers), uploads=self.uploads, model=self.model
        )
        return suspended, self._accumulator()

    def resume(self, suspended: Suspended, words: Words) -> None:
        """Go on with a suspended attempt, in a fresh one of the same place; R3 is next.

        Raises:
            ProtocolError: `wrong-length`, and what `advertise` raises.
        """
        for envelope in suspended.cohort:
            self.advertise(Advertisement.from_bytes(envelope.payload).party, envelope)
        self.close_cohort()
        if words.shape != (self.manifest.dimension,):
            raise ProtocolError("wrong-length", f"a sum {words.shape}")
        self._sharers, self.uploads = tuple(suspended.sharers), dict(suspended.uploads)
        self.model, self._sum, self.stage = suspended.model, words, Stage.CONFIRM

    def confirm(self, party: str, envelope: Envelope) -> None:
        """R3: take a node's signature over all lists.

        Raises:
            ProtocolError: `wrong-stage`, `not-in-cohort`, `repeated-message`, `wrong-confirmation`,
                `wrong-kind`, `wrong-context`.
            VerificationError: the signature does not hold.
        """
        self._require(Stage.CONFIRM, party, self.uploads, self._confirmations)
        message = self._verify(Confirmation, party, envelope)
        lists = (self.model, self._cohort_hash, sharers_hash(self._sharers))
        told = (message.model, message.cohort, message.sharers)
        if told != lists or message.uploads != uploads_hash(self.uploads):
            raise ProtocolError("wrong-confirmation", f"{party} confirms other lists")
        self._confirmations[party] = envelope

    def close_confirmations(self) -> list[Envelope]:
        """End R3; return all confirmations in roster order, at least t; `small-cohort`."""
        threshold = self.manifest.secagg.threshold
        self._close(Stage.CONFIRM, len(self._confirmations), threshold)
        return [self._confirmations[party] for party in sorted(self._confirmations)]

    def unmask(self, party: str, envelope: Envelope) -> None:
        """R4: take a node's shares, one for each of its circle in U2.

        Raises:
            ProtocolError: `wrong-stage`, `not-in-cohort`, `repeated-message`, `wrong-confirmation`,
                `share-broken`, `wrong-kind`, `wrong-context`.
            VerificationError: the signature does not hold.
        """
        self._require(Stage.UNMASK, party, self.uploads, self._answers)
        message = self._verify(Unmasking, party, envelope)
        if message.uploads != uploads_hash(self.uploads):
            raise ProtocolError("wrong-confirmation", f"{party} unmasks other uploads")
        self._answers[party] = open_answer(
            message.sealed,
            self.envelope_private,
            message.ephemeral_key,
            count=len(self._held_by(party)),
            context=self._context,
            source=party,
            destination=self.manifest.aggregator.party,
            uploads=message.uploads,
        )

    @property
    def unmaskable(self) -> bool:
        """Whether enough nodes have answered R4, so that `total` can be formed."""
        return self.stage is Stage.UNMASK and self._recoverable(self._answers)

    def total(self) -> Words:
        """The sum (d,) over all of U3, modulo 2^k.

        Raises:
            ProtocolError: `too-few-shares` where R4's answers are; `inconsistent-shares`,
                `bad-secret` or `mask-key-mismatch` where the shares give no secret, or not the
                advertised one.
        """
        if not self.unmaskable:
            raise ProtocolError("too-few-shares", f"{len(self._answers)} nodes gave their shares")
        if not self._unmasked:
            held = {holder: self._held_by(holder) for holder in self._answers}
            masks = left_over(
                combined(self._answers, held, self.graph.threshold, self.manifest),
                frozenset(self.uploads),
                self.graph,
                self._keys,
                context=self._context,
                cohort=self._cohort_hash,
                model=self.model,
            )
            add_masks(self._accumulator(), masks)
            self._unmasked = True
        return self._accumulator()

    @property
    def graph(self) -> Neighbourhood:
        """Who shares with whom; `wrong-stage` before it is known."""
        if self._graph is None:
            raise ProtocolError("wrong-stage", "the graph has yet to be drawn")
        return self._graph

    @property
    def cohort(self) -> tuple[str, ...]:
        """Parties of U1 in roster order; empty until `close_cohort`."""
        return self._cohort

    @property
    def cohort_hash(self) -> str:
        """H(U1), for R2's request; empty until `close_cohort`."""
        return self._cohort_hash

    @property
    def sharers(self) -> tuple[str, ...]:
        """Parties of U2 in roster order; empty until `close_sharers`."""
        return self._sharers

    def _expected(self) -> tuple[Sequence[str], Mapping[str, object]]:
        match self.stage:
            case Stage.ADVERTISE:
                return (), self.advertised
            case Stage.SHARE:
                return self._cohort, self._shares
            case Stage.UPLOAD:
                return self._sharers, self.uploads
            case Stage.CONFIRM:
                return tuple(self.uploads), self._confirmations
            case Stage.UNMASK:
                return tuple(self.uploads), self._answers

    def _verify(self, kind: type[M], party: str, envelope: Envelope) -> M:
        if party not in self.node_keys:
            raise ProtocolError("not-in-roster", f"{party} is not in the roster")
        return verify(
            kind,
            envelope,
            node_key=self.node_keys[party],
            manifest=self.manifest_hash,
            round_=self.round,
            attempt=self.attempt,
            party=party,
        )

    def _needed(self) -> int:
        late = self.stage in (Stage.CONFIRM, Stage.UNMASK)
        return self.manifest.secagg.threshold if late else self.manifest.smallest_cohort

    def _recoverable(self, holders: Collection[str]) -> bool:
        return self.graph.recoverable(self._sharers, holders)

    def _held_by(self, party: str) -> list[str]:
        """The members of U2 of whose secrets a node has shares, in roster order."""
        return [member for member in self.graph.circles[party] if member in self._sharers]

    @property
    def _context(self) -> bytes:
        return context(self.manifest_hash, self.round, self.attempt)

    def _accumulator(self) -> Words:
        if self._sum is None:
            raise ProtocolError("wrong-stage", "there is no sum before U2 is fixed")
        return self._sum

    def _open(self, party: str, ephemeral_key: str, chunks: Sequence[bytes]) -> Iterator[Words]:
        return sealing.unseal(
            chunks,
            self.envelope_private,
            ephemeral_key,
            words=self.manifest.dimension,
            ring=ring_of(self.manifest.secagg.ring_bits),
            context=self._context,
            source=party,
            destination=self.manifest.aggregator.party,
        )
