"""A node's side of the masked sum, R0 to R4; no I/O: bytes in, bytes out.

    advertise(round, attempt)                     R0   -> envelope `advertisement`
    share(round, attempt, cohort)                 R1   -> envelope `shares`
    open_sharers(round, attempt, cohort hash, sharers, sealed, model)
                                                  R2, all checks before charging -> Sharers
    mask(sharers, vector)                         R2   -> envelope `upload`, sealed chunks
    confirm(round, attempt, uploads)              R3   -> envelope `confirmation`
    unmask(round, attempt, confirmations)         R4   -> envelope `unmasking`
    dump() / load(bytes)                          what R3 and R4 need, secrets in clear

One attempt may be prepared (R0, R1; in memory only) while the one before it awaits R3 and R4.
`dump()` changes with `mask`, `confirm`, `unmask`, and with an `advertise` that replaces an attempt.
The caller must have it on disk, sealed and synced, BEFORE it releases what these calls return, and
must never load an older one.

Guarantees. A mask key serves one vector; nothing is masked twice for one attempt, nor for one that
does not come after the last. Every advertisement verifies under the key that its institution
delegated and under this attempt; fewer than max(t, n_min) nodes are refused at each stage. One
cohort is shared among, and one list of uploads confirmed, for an attempt: the same request gets the
same bytes, another is refused. A share is given only after t members of U3 signed the very
values that this node signed; for each member of U2 it is of b or of the mask key, never both; then
the shares are forgotten, and no further attempt of that round is joined. What it refuses, it
refuses with a stable code and leaves its state as it was.

Not covered: charging the ledger, durability, and whether other nodes' vectors are honest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from secrets import token_bytes

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from accord_client import unmasking
from accord_client.cohorts import mask_streams, open_cohort
from accord_client.secagg_memory import Begun, Dealt, HeldShares, Prepared, Sharers
from accord_common.envelope import Envelope, sign
from accord_common.errors import ProtocolError
from accord_common.identity import SigningKey
from accord_common.manifest import RunManifest, context
from accord_common.rings import Words, ring_of
from accord_common.secagg import sealing
from accord_common.secagg.channels import PeerShares, open_shares, seal_shares
from accord_common.secagg.masks import SEED_BYTES, add_masks
from accord_common.secagg.messages import (
    Advertisement,
    Shares,
    Upload,
    sharers_hash,
    upload_root,
)
from accord_common.secagg.shamir import split


@dataclass(slots=True)
class NodeSecAgg:
    """One run's secure aggregation at one node.

    Args:
        manifest: the run's manifest.
        manifest_hash: its record hash.
        party: this institution.
        node_key: the delegated signing key.
        peers: party id to delegated node key, for the whole roster.
    """

    manifest: RunManifest
    manifest_hash: str
    party: str
    node_key: SigningKey
    peers: Mapping[str, str]
    _prepared: Prepared | None = None
    _begun: Begun | None = None

    def advertise(self, round_: int, attempt: int) -> Envelope:
        """R0: make (once) and return the signed keys for an attempt; repeats the same envelope.

        Keys that were shared already are replaced by fresh ones: whoever asks again has lost what
        was shared, and nothing was masked under them. Whatever else was prepared is forgotten; so
        are the secrets of an earlier attempt of the same round, which can then no longer be
        unmasked here.

        Raises:
            ProtocolError: `round-closed` after R4 was answered in this round, else `stale-attempt`
                unless the attempt comes after every one that was masked for.
        """
        prepared = self._prepared
        if prepared is not None and (prepared.round, prepared.attempt) == (round_, attempt):
            if prepared.dealt is None:
                return prepared.advertisement
        begun = self._begun
        if begun is not None:
            if begun.round == round_ and begun.unmasking is not None:
                raise ProtocolError("round-closed", f"round {round_} was unmasked here")
            if (round_, attempt) <= (begun.round, begun.attempt):
                raise ProtocolError(
                    "stale-attempt",
                    f"round {round_} attempt {attempt} does not come after those masked for here",
                    hint="The aggregator must open a new attempt.",
                )
            if begun.round == round_:
                self._begun = begun.model_copy(update={"shares": None})
        mask, channel = X25519PrivateKey.generate(), X25519PrivateKey.generate()
        message = Advertisement(
            manifest=self.manifest_hash,
            round=round_,
            attempt=attempt,
            party=self.party,
            mask_key=_public(mask),
            channel_key=_public(channel),
        )
        envelope = sign(Advertisement.KIND, message, self.node_key)
        self._prepared = Prepared(round_, attempt, mask, channel, envelope)
        return envelope

    def share(self, round_: int, attempt: int, cohort: Sequence[Envelope]) -> Envelope:
        """R1: verify U1, draw b, and share b and the mask key among U1; repeats the same envelope.

        Args:
            round_: the attempt's round.
            attempt: its number.
            cohort: the advertisements of U1 in roster order.

        Raises:
            ProtocolError: `no-mask-key`, `small-cohort`, `not-in-roster`, `unsorted-cohort`,
                `not-in-cohort`, `altered-advertisement`, `repeated-mask-key`, `weak-mask-key`,
                `wrong-context`, or `already-shared` where it was shared among another cohort.
            VerificationError: an advertisement's signature does not hold.
        """
        prepared = self._expect(round_, attempt)
        members = open_cohort(
            prepared,
            cohort,
            manifest=self.manifest,
            manifest_hash=self.manifest_hash,
            party=self.party,
            peers=self.peers,
        )
        if prepared.dealt is not None:
            if prepared.dealt.cohort.hash != members.hash:
                raise ProtocolError("already-shared", "this attempt was shared among other nodes")
            return prepared.dealt.envelope
        ctx = context(self.manifest_hash, round_, attempt)
        threshold, seed = self.manifest.secagg.threshold, token_bytes(SEED_BYTES)
        points = [self.manifest.index(party) + 1 for party in members.mask_keys]
        dealt = {
            party: PeerShares(of_seed.value, of_key.value)
            for party, of_seed, of_key in zip(
                members.mask_keys,
                split(seed, threshold, points),
                split(prepared.mask.private_bytes_raw(), threshold, points),
                strict=True,
            )
        }
        own = dealt.pop(self.party)
        message = Shares(
            manifest=self.manifest_hash,
            round=round_,
            attempt=attempt,
            party=self.party,
            cohort=members.hash,
            sealed={
                peer: seal_shares(
                    shares,
                    prepared.channel,
                    members.channel_keys[peer],
                    context=ctx,
                    source=self.party,
                    destination=peer,
                    cohort=members.hash,
                )
                for peer, shares in dealt.items()
            },
        )
        envelope = sign(Shares.KIND, message, self.node_key)
        prepared.dealt = Dealt(members, seed, own, envelope)
        return envelope

    def open_sharers(
        self,
        round_: int,
        attempt: int,
        cohort: str,
        sharers: Sequence[str],
        sealed: Mapping[str, str],
        model: str,
    ) -> Sharers:
        """R2, before anything is charged: verify U2 and open what its members sealed to this node.

        Args:
            round_: the attempt's round.
            attempt: its number.
            cohort: H(U1) as the aggregator says it.
            sharers: U2 in roster order.
            sealed: source -> ciphertext, for all of U2 but this node.
            model: h_r, the hash of the model to train from.

        Raises:
            ProtocolError: `no-mask-key`, `not-shared`, `wrong-cohort`, `small-cohort`,
                `unsorted-cohort`, `not-in-cohort`, `wrong-shares`, or `share-broken` naming the
                source.
        """
        prepared = self._expect(round_, attempt)
        dealt = prepared.dealt
        if dealt is None:
            raise ProtocolError("not-shared", "this node was not asked to share its secrets")
        if cohort != dealt.cohort.hash:
            raise ProtocolError("wrong-cohort", "this is not the cohort that was shared among")
        unmasking.check_list(sharers, dealt.cohort.mask_keys, self.party, self.manifest)
        if sealed.keys() != set(sharers) - {self.party}:
            raise ProtocolError("wrong-shares", "the shares are not those of U2's other members")
        ctx = context(self.manifest_hash, round_, attempt)
        shares = {
            party: dealt.own
            if party == self.party
            else open_shares(
                sealed[party],
                prepared.channel,
                dealt.cohort.channel_keys[party],
                context=ctx,
                source=party,
                destination=self.party,
                cohort=cohort,
            )
            for party in sharers
        }
        pairs = mask_streams(prepared.mask, dealt, sharers, self.party, ctx, model)
        return Sharers(round_, attempt, model, cohort, sharers_hash(sharers), shares, pairs)

    def mask(self, sharers: Sharers, vector: Words) -> tuple[Envelope, list[bytes]]:
        """R2: mask `vector` (d,) in place, seal it, and sign what it is; the mask key is used up.

        Raises:
            ProtocolError: `no-mask-key` on a second call for one attempt, `wrong-length`.
        """
        secagg, dimension = self.manifest.secagg, self.manifest.dimension
        if vector.shape != (dimension,) or vector.dtype != ring_of(secagg.ring_bits).words:
            raise ProtocolError(
                "wrong-length",
                f"vector {vector.dtype}{vector.shape}, manifest says {secagg.ring_bits} bits and "
                f"({dimension},)",
            )
        self._expect(sharers.round, sharers.attempt)
        self._prepared = None  # whatever happens next, these keys mask nothing else
        self._begun = begun = Begun(
            manifest=self.manifest_hash,
            party=self.party,
            round=sharers.round,
            attempt=sharers.attempt,
            model=sharers.model,
            cohort=sharers.cohort,
            sharers=list(sharers.shares),
            upload=None,
            shares={
                party: HeldShares(seed=held.seed.hex(), key=held.key.hex())
                for party, held in sharers.shares.items()
            },
            uploads=None,
            confirmation=None,
            unmasking=None,
        )
        add_masks(vector, sharers.pairs)
        ctx = context(self.manifest_hash, sharers.round, sharers.attempt)
        ephemeral, aggregator = X25519PrivateKey.generate(), self.manifest.aggregator
        chunks = sealing.seal(
            vector,
            ephemeral,
            aggregator.envelope_key,
            context=ctx,
            source=self.party,
            destination=aggregator.party,
        )
        header = Upload(
            manifest=self.manifest_hash,
            round=sharers.round,
            attempt=sharers.attempt,
            party=self.party,
            model=sharers.model,
            cohort=sharers.cohort,
            sharers=sharers.hash,
            words=vector.shape[0],
            chunks=len(chunks),
            ephemeral_key=_public(ephemeral),
            root=upload_root(chunks),
        )
        envelope = sign(Upload.KIND, header, self.node_key)
        self._begun = begun.model_copy(update={"upload": envelope.hash})
        return envelope, chunks

    def confirm(self, round_: int, attempt: int, uploads: Mapping[str, str]) -> Envelope:
        """R3: sign model, U1, U2 and U3; the same list gets the same envelope, for ever.

        Args:
            round_: the attempt's round.
            attempt: its number.
            uploads: U3: party -> record hash of its upload.

        Raises:
            ProtocolError: `attempt-over`, or the codes of `unmasking.confirm`.
        """
        begun = self._open(round_, attempt)
        envelope, self._begun = unmasking.confirm(begun, uploads, self.manifest, self.node_key)
        return envelope

    def unmask(self, round_: int, attempt: int, confirmations: Sequence[Envelope]) -> Envelope:
        """R4: one share for each of U2: of b where it is in U3, else of its mask key; then no more.

        Repeats the same envelope for the same list of uploads, whoever has confirmed it.

        Args:
            round_: the attempt's round.
            attempt: its number.
            confirmations: of at least t members of U3.

        Raises:
            ProtocolError: `attempt-over`, or the codes of `unmasking.unmask`.
            VerificationError: a signature does not hold.
        """
        begun = self._open(round_, attempt)
        envelope, self._begun = unmasking.unmask(
            begun, confirmations, self.manifest, self.peers, self.node_key
        )
        if self._prepared is not None and self._prepared.round == round_:
            self._prepared = None  # the round is closed
        return envelope

    @property
    def held(self) -> tuple[int, int] | None:
        """The round and attempt of which shares are held, if of any."""
        begun = self._begun
        return None if begun is None or begun.shares is None else (begun.round, begun.attempt)

    def dump(self) -> bytes | None:
        """All that a restart must not lose, secrets in clear; None before the first `mask`."""
        return None if self._begun is None else self._begun.to_bytes()

    def load(self, data: bytes) -> None:
        """Go on from the newest dump, on a machine that has done nothing yet.

        Raises:
            FormatError: these bytes are no dump.
            ProtocolError: `wrong-context` for another run's or node's; `already-begun`.
        """
        begun = Begun.from_bytes(data)
        if (begun.manifest, begun.party) != (self.manifest_hash, self.party):
            raise ProtocolError("wrong-context", "the dump is another run's or another node's")
        if self._begun is not None or self._prepared is not None:
            raise ProtocolError("already-begun", "a dump is loaded first of all")
        self._begun = begun

    def _expect(self, round_: int, attempt: int) -> Prepared:
        prepared = self._prepared
        if prepared is None or (prepared.round, prepared.attempt) != (round_, attempt):
            raise ProtocolError(
                "no-mask-key",
                f"no mask key for round {round_} attempt {attempt}: used, or lost in a restart",
                hint="The aggregator must open a new attempt.",
            )
        return prepared

    def _open(self, round_: int, attempt: int) -> Begun:
        """Return the attempt that R3 or R4 speaks of."""
        begun = self._begun
        if begun is None or (begun.round, begun.attempt) != (round_, attempt):
            raise ProtocolError(
                "attempt-over", f"round {round_} attempt {attempt} is not open at this node"
            )
        if begun.shares is None and begun.unmasking is None:
            raise ProtocolError("attempt-over", "the attempt was replaced by a later one")
        return begun


def _public(key: X25519PrivateKey) -> str:
    return key.public_key().public_bytes_raw().hex()
