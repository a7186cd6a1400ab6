"""The signed messages of secure aggregation, R0 to R4, and what they commit to; see SPEC.md.

Above 50 nodes, R0's message is a `Commitment`, and a `Reveal` goes before R1.

Guarantees: each message is bound to one manifest, round, attempt and party, and is signed by the
node key that the institution delegated (`verify`). The three lists that a server could tell
differently to different nodes are committed to by hash: U1 with every advertisement in it
(`cohort_hash`), U2 (`sharers_hash`), U3 with every upload in it (`uploads_hash`).

Not covered: whether a list follows from the manifest; each side's state machine asks that.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, ClassVar, TypeVar

from pydantic import Field, StringConstraints

from accord_common.envelope import Envelope
from accord_common.errors import ProtocolError
from accord_common.fields import Count, Hash, Id, Positive, PublicKey, Record
from accord_common.log.checkpoint import Head
from accord_common.manifest import MAX_ROSTER

ADVERTISEMENT = "advertisement"
SHARES = "shares"
UPLOAD = "upload"
CONFIRMATION = "confirmation"
UNMASKING = "unmasking"
COMMITMENT = "commitment"
REVEAL = "reveal"

SealedShares = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{164}$")]  # 2 shares and a tag
SealedAnswer = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{2}){1,6616}$")]  # 200 shares


class Message(Record):
    """What every message names: the attempt it belongs to, and its sender."""

    KIND: ClassVar[str]

    manifest: Hash
    round: Count
    attempt: Count
    party: Id


class Advertisement(Message):
    """R0: a node's two fresh X25519 keys for one attempt: for masks, and for shares.

    `log` is the newest head of the registry's log that the node has seen.
    """

    KIND = ADVERTISEMENT

    mask_key: PublicKey
    channel_key: PublicKey
    log: Head | None = None


class Commitment(Advertisement):
    """R0 of a drawn graph: the keys, and a commitment to what this node adds to the draw."""

    KIND = COMMITMENT

    commitment: Hash


class Reveal(Message):
    """Before R1 of a drawn graph: the 32 bytes that this node committed to, given to one U1."""

    KIND = REVEAL

    cohort: Hash
    value: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Shares(Message):
    """R1: for each neighbour in U1 its share of b and of the mask key, sealed to it alone."""

    KIND = SHARES

    cohort: Hash
    sealed: Annotated[dict[Id, SealedShares], Field(min_length=1, max_length=MAX_ROSTER)]


class Upload(Message):
    """R2: what one masked, sealed vector is, and for which model, U1 and U2 it was masked."""

    KIND = UPLOAD

    model: Hash
    cohort: Hash
    sharers: Hash
    words: Positive
    chunks: Positive
    ephemeral_key: PublicKey
    root: Hash


class Confirmation(Message):
    """R3: the model, U1, U2 and U3 that this node was told; at most one an attempt."""

    KIND = CONFIRMATION

    model: Hash
    cohort: Hash
    sharers: Hash
    uploads: Hash


class Unmasking(Message):
    """R4: one share for each of the sender's circle in U2, sealed to the run's envelope key."""

    KIND = UNMASKING

    uploads: Hash
    ephemeral_key: PublicKey
    sealed: SealedAnswer


M = TypeVar("M", bound=Message)


def verify(
    message: type[M],
    envelope: Envelope,
    *,
    node_key: str,
    manifest: str,
    round_: int,
    attempt: int,
    party: str,
) -> M:
    """Decode a message of one kind, and check signer, attempt and sender.

    Raises:
        FormatError: the bytes are no such message.
        ProtocolError: `wrong-kind` or `wrong-context`.
        VerificationError: the signature does not hold.
    """
    if envelope.kind != message.KIND:
        raise ProtocolError("wrong-kind", f"a {envelope.kind} is no {message.KIND}")
    envelope.verify([node_key])
    body = message.from_bytes(envelope.payload)
    if (body.manifest, body.round, body.attempt, body.party) != (manifest, round_, attempt, party):
        raise ProtocolError(
            "wrong-context",
            f"{body.party}, round {body.round}, attempt {body.attempt} of run "
            f"{body.manifest[:16]} stands where {party}, round {round_}, attempt {attempt} of "
            f"run {manifest[:16]} belongs",
        )
    return body


def cohort_hash(advertisements: Iterable[Envelope]) -> str:
    """H(U1): SHA-256 over the record hashes of the advertisements, in roster order."""
    digest = hashlib.sha256(b"accord cohort v1")
    for envelope in advertisements:
        digest.update(bytes.fromhex(envelope.hash))
    return digest.hexdigest()


def sharers_hash(parties: Iterable[str]) -> str:
    """H(U2): SHA-256 over the party ids, in roster order."""
    digest = hashlib.sha256(b"accord sharers v1")
    for party in parties:
        digest.update(party.encode())
    return digest.hexdigest()


def uploads_hash(uploads: Mapping[str, str]) -> str:
    """H(U3): SHA-256 over party id and upload's record hash of each, in the order of party ids.

    That is the roster's order, which is sorted by party id.
    """
    digest = hashlib.sha256(b"accord uploads v1")
    for party, upload in sorted(uploads.items()):
        digest.update(party.encode() + bytes.fromhex(upload))
    return digest.hexdigest()


def upload_root(chunks: Sequence[bytes]) -> str:
    """SHA-256 over the SHA-256 of each sealed chunk, in order."""
    digest = hashlib.sha256(b"accord upload v1")
    for chunk in chunks:
        digest.update(hashlib.sha256(chunk).digest())
    return digest.hexdigest()
