"""A node's side of the masked sum, R0 to R4; no I/O: bytes in, bytes out.

    advertise(round, attempt)                     R0   -> envelope `advertisement`
    share(round, attempt, cohort)                 R1   -> envelope `shares`
      above 50 nodes, where the graph is drawn:
    advertise(round, attempt)                     R0   -> envelope `commitment`
    reveal(round, attempt, cohort)                draw -> envelope `reveal`
    share_drawn(round, attempt, reveals)          R1   -> envelope `shares`
    open_sharers(round, attempt, cohort hash, sharers, sealed, model)
                                                  R2, all checks before charging -> Sharers
    mask(sharers, vector)                         R2   -> envelope `upload`, sealed chunks
    confirm(round, attempt, uploads)              R3   -> envelope `confirmation`
    unmask(round, attempt, confirmations, uploads)
                                                  R4   -> envelope `unmasking`
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

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from accord_client import unmasking
from accord_client.cohorts import open_cohort, open_sharers
from accord_client.dealing import deal
from accord_client.drawing import commit, reveal
from accord_client.secagg_memory import Begun, Cohort, Prepared, Sharers
from accord_common.envelope import Envelope, sign
from accord_common.errors import ProtocolError
from accord_common.identity import SigningKey
from accord_common.log.checkpoint import Head
from accord_common.manifest import RunManifest, context
from accord_common.rings import Words, ring_of
from accord_common.secagg import sealing
from accord_common.secagg.draw import draw
from accord_common.secagg.graph import Neighbourhood, complete, is_drawn
from accord_common.secagg.masks import add_masks, public_key
from accord_common.secagg.messages import Advertisement, Upload, cohort_hash, upload_root


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
    _draws: int = 0

    def advertise(self, round_: int, attempt: int, log: Head | None = None) -> Envelope:
        """R0: make (once) and return the signed keys for an attempt; repeats the same envelope.

        Keys that were shared, or drew a graph, already are replaced by fresh ones: nothing was
        masked under them. Whatever else was prepared is forgotten; so are the secrets of an earlier
        attempt of the same round. `log` is the newest head that this node has seen.

        Raises:
            ProtocolError: `round-closed` after R4 was answered in this round, else `stale-attempt`
                unless the attempt comes after every one that was masked for.
        """
        prepared = self._prepared
        if prepared is not None and (prepared.round, prepared.attempt) == (round_, attempt):
            if prepared.revealed is None and prepared.dealt is None:
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
            mask_key=public_key(mask),
            channel_key=public_key(channel),
            log=log,
        )
        message, value = commit(message) if is_drawn(self.manifest.n) else (message, b"")
        envelope = sign(message.KIND, message, self.node_key)
        self._prepared = Prepared(round_, attempt, mask, channel, envelope, value)
        return envelope

    def reveal(self, round_: int, attempt: int, cohort: Sequence[Envelope]) -> Envelope:
        """Before R1 of a drawn graph: verify U1, and give what was committed to; repeats itself.

        Args:
            round_: the attempt's round.
            attempt: its number.
            cohort: the commitments of U1 in roster order.

        Raises:
            ProtocolError: `wrong-graph` where it is complete, `too-many-draws` in this run,
                `already-revealed` where it was revealed to another cohort, or as `share` raises.
            VerificationError: a commitment's signature does not hold.
        """
        prepared = self._expect(round_, attempt, drawn=True)
        if prepared.revealed is not None:
            if prepared.revealed.cohort.hash != cohort_hash(cohort):
                raise ProtocolError("already-revealed", "this attempt's value went to other nodes")
            return prepared.revealed.envelope
        most = self.manifest.max_attempts_total
        if self._draws >= most:
            raise ProtocolError(
                "too-many-draws", f"{self._draws} draws in this run, at most {most}"
            )
        members = self._cohort(prepared, cohort)
        prepared.revealed = reveal(prepared, members, cohort, self.node_key)
        self._draws += 1
        return prepared.revealed.envelope

    def share(self, round_: int, attempt: int, cohort: Sequence[Envelope]) -> Envelope:
        """R1: verify U1, draw b, and share b and the mask key among U1; repeats the same envelope.

        Args:
            round_: the attempt's round.
            attempt: its number.
            cohort: the advertisements of U1 in roster order.

        Raises:
            ProtocolError: `wrong-graph` where it is drawn, `no-mask-key`, `small-cohort`,
                `not-in-roster`, `unsorted-cohort`, `not-in-cohort`, `altered-advertisement`,
                `repeated-mask-key`, `weak-mask-key`, `wrong-context`, or `already-shared` where it
                was shared among another cohort.
            VerificationError: an advertisement's signature does not hold.
        """
        prepared = self._expect(round_, attempt, drawn=False)
        members = self._cohort(prepared, cohort)
        return self._share(
            prepared, members, complete(list(members.mask_keys), self.manifest.secagg.threshold)
        )

    def share_drawn(self, round_: int, attempt: int, reveals: Mapping[str, Envelope]) -> Envelope:
        """R1 of a drawn graph: share b and the mask key among this node's neighbours; repeats.

        Args:
            round_: the attempt's round.
            attempt: its number.
            reveals: party -> its `Reveal`, for all of the U1 that this node revealed to.

        Raises:
            ProtocolError: `wrong-graph`, `no-mask-key`, `not-revealed`, or as `draw.draw` raises.
            VerificationError: a reveal's signature does not hold.
        """
        prepared = self._expect(round_, attempt, drawn=True)
        revealed = prepared.revealed
        if revealed is None:
            raise ProtocolError("not-revealed", "this node was not asked to reveal its value")
        around = draw(
            reveals,
            revealed.members,
            manifest=self.manifest,
            manifest_hash=self.manifest_hash,
            node_keys=self.peers,
            round_=round_,
            attempt=attempt,
        )
        return self._share(prepared, revealed.cohort, around)

    def _share(self, prepared: Prepared, members: Cohort, around: Neighbourhood) -> Envelope:
        if prepared.dealt is None:
            prepared.dealt = deal(
                prepared,
                members,
                around,
                manifest=self.manifest,
                manifest_hash=self.manifest_hash,
                party=self.party,
                key=self.node_key,
            )
        elif prepared.dealt.cohort.hash != members.hash:
            raise ProtocolError("already-shared", "this attempt was shared among other nodes")
        return prepared.dealt.envelope

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
            sealed: source -> ciphertext, for this node's neighbours in U2: with a complete graph
                all of U2 but itself.
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
        return open_sharers(
            prepared,
            dealt,
            cohort,
            sharers,
            sealed,
            model,
            manifest=self.manifest,
            manifest_hash=self.manifest_hash,
            party=self.party,
        )

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
        self._begun = begun = Begun.of(self.manifest_hash, self.party, sharers)
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
            ephemeral_key=public_key(ephemeral),
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

    def unmask(
        self,
        round_: int,
        attempt: int,
        confirmations: Sequence[Envelope],
        uploads: Sequence[Envelope] = (),
    ) -> Envelope:
        """R4: one share for each of its circle in U2: of b where that is in U3, else of its key.

        Then no more; repeats the same envelope for the same list, whoever has confirmed it.

        Args:
            round_: the attempt's round.
            attempt: its number.
            confirmations: of at least t members of U3.
            uploads: with a drawn graph, what this node's neighbours in U3 signed in R2.

        Raises:
            ProtocolError: `attempt-over`, or the codes of `unmasking.unmask`.
            VerificationError: a signature does not hold.
        """
        begun = self._open(round_, attempt)
        envelope, self._begun = unmasking.unmask(
            begun, confirmations, uploads, self.manifest, self.peers, self.node_key
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

    def _cohort(self, prepared: Prepared, cohort: Sequence[Envelope]) -> Cohort:
        return open_cohort(
            prepared,
            cohort,
            manifest=self.manifest,
            manifest_hash=self.manifest_hash,
            party=self.party,
            peers=self.peers,
        )

    def _expect(self, round_: int, attempt: int, *, drawn: bool | None = None) -> Prepared:
        """Return the attempt before R2; `drawn` says what its graph must be."""
        if drawn not in (None, is_drawn(self.manifest.n)):
            raise ProtocolError(
                "wrong-graph",
                f"the graph of {self.manifest.n} nodes is {'complete' if drawn else 'drawn'}",
            )
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
