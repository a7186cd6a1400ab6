"""The aggregator's side of the masked sum; no I/O.

Guarantees: `total` is the exact sum modulo 2^32 over all of the attempt's cohort, or there is none;
an upload counts once, and only if its signature, context, cohort, model, root and every seal hold.
A bad upload leaves the accumulator as it was. Individual vectors exist only masked, one chunk at a
time.

Not covered: whether what a node masked is honest.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from accord_common.envelope import Envelope
from accord_common.errors import ProtocolError
from accord_common.manifest import RunManifest, context
from accord_common.secagg import sealing
from accord_common.secagg.messages import (
    cohort_hash,
    upload_root,
    verify_advertisement,
    verify_upload,
)


@dataclass(slots=True)
class Attempt:
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
    _cohort: tuple[str, ...] = ()
    _cohort_hash: str = ""
    _sum: NDArray[np.uint32] | None = None

    def advertise(self, party: str, envelope: Envelope) -> None:
        """Take a node's advertisement; `cohort-closed` once the cohort is fixed."""
        if self._cohort:
            raise ProtocolError("cohort-closed", f"{party} advertises after the cohort was fixed")
        verify_advertisement(
            envelope,
            node_key=self.node_keys[party],
            manifest=self.manifest_hash,
            round_=self.round,
            attempt=self.attempt,
            party=party,
        )
        self.advertised[party] = envelope

    def withdraw(self, party: str) -> None:
        """Forget an advertisement: the node is gone. `cohort-closed` once the cohort is fixed."""
        if self._cohort:
            raise ProtocolError("cohort-closed", f"{party} leaves after the cohort was fixed")
        self.advertised.pop(party, None)

    def close_cohort(self) -> list[Envelope]:
        """Fix U1 as those who advertised, in roster order.

        Raises:
            ProtocolError: `small-cohort` under max(t, n_min).
        """
        smallest = self.manifest.smallest_cohort
        if len(self.advertised) < smallest:
            raise ProtocolError(
                "small-cohort", f"{len(self.advertised)} nodes advertised, {smallest} are needed"
            )
        self._cohort = tuple(sorted(self.advertised, key=self.manifest.index))
        members = [self.advertised[party] for party in self._cohort]
        self._cohort_hash = cohort_hash(members)
        self._sum = np.zeros(self.manifest.dimension, np.uint32)
        return members

    @property
    def cohort(self) -> tuple[str, ...]:
        """Parties of U1 in roster order; empty until `close_cohort`."""
        return self._cohort

    @property
    def missing(self) -> frozenset[str]:
        """Parties of U1 whose upload has not been folded in."""
        return frozenset(self._cohort) - self.uploads.keys()

    def fold(self, party: str, envelope: Envelope, chunks: Sequence[bytes]) -> None:
        """Verify one upload whole, then add it to the accumulator.

        Raises:
            ProtocolError: `not-in-cohort`, `repeated-upload`, `wrong-context`, `wrong-model`,
                `wrong-cohort`, `wrong-length`, `wrong-root`, `wrong-chunks` or `seal-broken`.
            VerificationError: the signature does not hold.
        """
        if party not in self._cohort or self._sum is None:
            raise ProtocolError("not-in-cohort", f"{party} is not in this attempt's cohort")
        if party in self.uploads:
            raise ProtocolError("repeated-upload", f"{party} uploads twice")
        header = verify_upload(
            envelope,
            node_key=self.node_keys[party],
            manifest=self.manifest_hash,
            round_=self.round,
            attempt=self.attempt,
            party=party,
        )
        if header.model != self.model:
            raise ProtocolError("wrong-model", f"{party} trained from {header.model[:16]}")
        if header.cohort != self._cohort_hash:
            raise ProtocolError("wrong-cohort", f"{party} masked for another cohort")
        if header.words != self.manifest.dimension:
            raise ProtocolError("wrong-length", f"{party} sends {header.words} words")
        if header.root != upload_root(chunks) or header.chunks != len(chunks):
            raise ProtocolError("wrong-root", f"the chunks of {party} are not those it signed")
        done = 0  # words
        try:
            for piece in self._open(party, header.ephemeral_key, chunks):
                block = self._sum[done : done + piece.shape[0]]
                np.add(block, piece, out=block)
                done += piece.shape[0]
        except ProtocolError:
            self._take_back(party, header.ephemeral_key, chunks, done)
            raise
        self.uploads[party] = envelope.hash

    def total(self) -> NDArray[np.uint32]:
        """The sum (d,) over all of U1; `incomplete-sum` while an upload is missing."""
        if self._sum is None or self.missing:
            raise ProtocolError("incomplete-sum", f"missing {sorted(self.missing)}")
        return self._sum

    def _open(
        self, party: str, ephemeral_key: str, chunks: Sequence[bytes]
    ) -> Iterator[NDArray[np.uint32]]:
        return sealing.unseal(
            chunks,
            self.envelope_private,
            ephemeral_key,
            words=self.manifest.dimension,
            context=context(self.manifest_hash, self.round, self.attempt),
            source=party,
            destination=self.manifest.aggregator.party,
        )

    def _take_back(
        self, party: str, ephemeral_key: str, chunks: Sequence[bytes], words: int
    ) -> None:
        """Subtract the first `words` of an upload whose later chunk did not open."""
        assert self._sum is not None
        done = 0
        pieces = self._open(party, ephemeral_key, chunks)
        while done < words:
            piece = next(pieces)
            block = self._sum[done : done + piece.shape[0]]
            np.subtract(block, piece, out=block)
            done += piece.shape[0]
