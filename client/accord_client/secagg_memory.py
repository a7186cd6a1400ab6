"""What a node's side of secure aggregation remembers: in memory before R2, and for good after it.

Guarantees: a `Prepared` is never written anywhere, so a restart loses it and nothing of it can be
used twice; a `Begun` holds all that R3 and R4 need; after R4, or once replaced, it has no secret.

Not covered: sealing a `Begun` on disk and syncing it; Python cannot wipe what it has freed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from pydantic import Field, StringConstraints

from accord_common.api.wire import WireEnvelope
from accord_common.envelope import Envelope
from accord_common.fields import Count, Hash, Id, Record
from accord_common.secagg.channels import PeerShares
from accord_common.secagg.graph import Neighbourhood
from accord_common.secagg.masks import Pair

ShareHex = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{66}$")]


@dataclass(frozen=True, slots=True)
class Cohort:
    """A verified U1: each member's keys by party, in roster order, and H(U1)."""

    hash: str
    mask_keys: Mapping[str, str]
    channel_keys: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Revealed:
    """This node's part in the draw of the graph: the U1 that it was for, and the `Reveal`."""

    cohort: Cohort
    members: tuple[Envelope, ...]
    envelope: Envelope


@dataclass(frozen=True, slots=True)
class Dealt:
    """R1 done: the secret b, this node's shares of its own secrets, and the signed `Shares`."""

    cohort: Cohort
    around: Neighbourhood
    seed: bytes = field(repr=False)
    own: PeerShares
    envelope: Envelope


@dataclass(slots=True)
class Prepared:
    """An attempt before its vector is masked: R0, the draw where there is one, then R1.

    `value` is what this node adds to the draw of the graph; empty where the graph is complete.
    """

    round: int
    attempt: int
    mask: X25519PrivateKey = field(repr=False)
    channel: X25519PrivateKey = field(repr=False)
    advertisement: Envelope
    value: bytes = field(default=b"", repr=False)
    revealed: Revealed | None = None
    dealt: Dealt | None = None


@dataclass(frozen=True, slots=True)
class Sharers:
    """A verified U2: its streams, and the shares that members of it gave this node.

    `shares` are of those in the node's circle, its own included, in roster order: of all of U2 with
    a complete graph.
    """

    round: int
    attempt: int
    model: str
    cohort: str
    hash: str
    parties: tuple[str, ...]
    shares: Mapping[str, PeerShares] = field(repr=False)
    pairs: tuple[Pair, ...] = field(repr=False)


class HeldShares(Record):
    """What this node holds of one member of U2, hex."""

    seed: ShareHex
    key: ShareHex


class Begun(Record):
    """An attempt whose vector was masked: what it was, what was signed, what may still be said.

    `upload` is null until the vector is signed; `shares` is null once R4 was answered, or the
    attempt was replaced; `uploads` and `confirmation` are null before R3, `unmasking` before R4.
    """

    manifest: Hash
    party: Id
    round: Count
    attempt: Count
    model: Hash
    cohort: Hash
    sharers: list[Id]
    upload: Hash | None
    shares: Annotated[dict[Id, HeldShares] | None, Field(repr=False)]
    uploads: list[Id] | None
    confirmation: WireEnvelope | None
    unmasking: WireEnvelope | None

    @classmethod
    def of(cls, manifest: str, party: str, sharers: Sharers) -> "Begun":
        """What is known when the vector of `party` is about to be masked for `sharers`."""
        return cls(
            manifest=manifest,
            party=party,
            round=sharers.round,
            attempt=sharers.attempt,
            model=sharers.model,
            cohort=sharers.cohort,
            sharers=list(sharers.parties),
            upload=None,
            shares={
                giver: HeldShares(seed=held.seed.hex(), key=held.key.hex())
                for giver, held in sharers.shares.items()
            },
            uploads=None,
            confirmation=None,
            unmasking=None,
        )
