"""A node's side of the masked sum; no I/O: bytes in, bytes out.

Guarantees: a mask key serves one attempt and one vector, then is gone; every advertisement in a
cohort verifies under the key that its institution delegated and under this attempt's context; the
own entry is the one this node made; fewer than max(t, n_min) nodes are refused. What it refuses, it
refuses with a stable code and leaves its state as it was.

Not covered: charging the ledger and durability (`node.py` does both before it calls `mask`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from accord_common.envelope import Envelope, sign
from accord_common.errors import ProtocolError
from accord_common.identity import SigningKey
from accord_common.manifest import RunManifest, context
from accord_common.secagg import sealing
from accord_common.secagg.masks import Pair, add_masks, derive, pair_key
from accord_common.secagg.messages import (
    ADVERTISEMENT,
    UPLOAD,
    Advertisement,
    Upload,
    cohort_hash,
    upload_root,
    verify_advertisement,
)


@dataclass(frozen=True, slots=True)
class Cohort:
    """A verified cohort of one attempt: mask keys by party, in roster order, and H(U1)."""

    round: int
    attempt: int
    hash: str
    mask_keys: Mapping[str, str]


@dataclass(slots=True)
class NodeSecAgg:
    """The mask keys of one run at one node.

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
    _secrets: dict[tuple[int, int], tuple[X25519PrivateKey, Envelope]] = field(default_factory=dict)

    def advertise(self, round_: int, attempt: int) -> Envelope:
        """Make (once) and return the signed mask key for an attempt; repeats the same envelope."""
        known = self._secrets.get((round_, attempt))
        if known is not None:
            return known[1]
        secret = X25519PrivateKey.generate()
        message = Advertisement(
            manifest=self.manifest_hash,
            round=round_,
            attempt=attempt,
            party=self.party,
            mask_key=secret.public_key().public_bytes_raw().hex(),
        )
        envelope = sign(ADVERTISEMENT, message, self.node_key)
        self._secrets[round_, attempt] = (secret, envelope)
        return envelope

    def open_cohort(self, round_: int, attempt: int, members: Sequence[Envelope]) -> Cohort:
        """Verify the advertisements that the aggregator passed on.

        Raises:
            ProtocolError: `no-mask-key`, `small-cohort`, `unsorted-cohort`, `not-in-cohort`,
                `altered-advertisement`, `repeated-mask-key`, `weak-mask-key`, `wrong-context`.
            VerificationError: an advertisement's signature does not hold.
        """
        if (round_, attempt) not in self._secrets:
            raise ProtocolError(
                "no-mask-key",
                f"no mask key for round {round_} attempt {attempt}: used, or lost in a restart",
                hint="The aggregator must open a new attempt.",
            )
        if len(members) < self.manifest.smallest_cohort:
            raise ProtocolError(
                "small-cohort",
                f"{len(members)} nodes, max(t, n_min) is {self.manifest.smallest_cohort}",
            )
        keys: dict[str, str] = {}
        for envelope in members:
            claimed = Advertisement.from_bytes(envelope.payload).party
            if claimed not in self.peers:
                raise ProtocolError("not-in-roster", f"{claimed} is not in the roster")
            message = verify_advertisement(
                envelope,
                node_key=self.peers[claimed],
                manifest=self.manifest_hash,
                round_=round_,
                attempt=attempt,
                party=claimed,
            )
            keys[claimed] = message.mask_key
        order = [self.manifest.index(party) for party in keys]
        if order != sorted(order) or len(keys) != len(members):
            raise ProtocolError("unsorted-cohort", "the cohort repeats or is not in roster order")
        if len(set(keys.values())) != len(keys):
            raise ProtocolError("repeated-mask-key", "two nodes advertise one mask key")
        own = self._secrets[round_, attempt][1]
        if self.party not in keys:
            raise ProtocolError("not-in-cohort", "this node is not in the cohort")
        if own not in members:
            raise ProtocolError("altered-advertisement", "this node's own entry was exchanged")
        for peer in keys.values():  # before anything is charged for a sum that cannot be masked
            derive(self._secrets[round_, attempt][0], peer, salt=b"", info=b"accord key check v1")
        return Cohort(round_, attempt, cohort_hash(members), keys)

    def mask(
        self, cohort: Cohort, vector: NDArray[np.uint32], model: str
    ) -> tuple[Envelope, list[bytes]]:
        """Mask `vector` (d,) in place, seal it, and sign what it is; the mask key is used up.

        Raises:
            ProtocolError: `no-mask-key` on a second call for one attempt, `wrong-length`.
        """
        if vector.shape != (self.manifest.dimension,):
            raise ProtocolError(
                "wrong-length", f"vector {vector.shape}, manifest says ({self.manifest.dimension},)"
            )
        secret, _ = self._take(cohort.round, cohort.attempt)
        ctx = context(self.manifest_hash, cohort.round, cohort.attempt)
        add_masks(vector, self._pairs(cohort, secret, ctx, model))
        ephemeral = X25519PrivateKey.generate()
        keys = self.manifest.aggregator
        chunks = sealing.seal(
            vector,
            ephemeral,
            keys.envelope_key,
            context=ctx,
            source=self.party,
            destination=keys.party,
        )
        header = Upload(
            manifest=self.manifest_hash,
            round=cohort.round,
            attempt=cohort.attempt,
            party=self.party,
            model=model,
            cohort=cohort.hash,
            words=vector.shape[0],
            chunks=len(chunks),
            ephemeral_key=ephemeral.public_key().public_bytes_raw().hex(),
            root=upload_root(chunks),
        )
        return sign(UPLOAD, header, self.node_key), chunks

    def forget_before(self, round_: int) -> None:
        """Drop mask keys of earlier rounds."""
        self._secrets = {key: value for key, value in self._secrets.items() if key[0] >= round_}

    def _take(self, round_: int, attempt: int) -> tuple[X25519PrivateKey, Envelope]:
        try:
            return self._secrets.pop((round_, attempt))
        except KeyError:
            raise ProtocolError(
                "no-mask-key", f"the key of round {round_} attempt {attempt} has been used"
            ) from None

    def _pairs(
        self, cohort: Cohort, secret: X25519PrivateKey, ctx: bytes, model: str
    ) -> list[Pair]:
        own = self.manifest.index(self.party)
        pairs = []
        for peer, public in cohort.mask_keys.items():
            if peer == self.party:
                continue
            adds = own < self.manifest.index(peer)
            lower, higher = (self.party, peer) if adds else (peer, self.party)
            key = pair_key(
                secret,
                public,
                lower=lower,
                higher=higher,
                context=ctx,
                cohort=cohort.hash,
                model=model,
            )
            pairs.append(Pair(key, adds))
        return pairs
