"""The signed messages of secure aggregation, and what they commit to.

Guarantees: each message is bound to one manifest, round and attempt, and is signed by the node key
that the institution delegated; a cohort hash commits to every advertisement in it, byte for byte.
"""

import hashlib
from collections.abc import Iterable, Sequence

from accord_common.envelope import Envelope
from accord_common.errors import ProtocolError
from accord_common.fields import Count, Hash, Id, Positive, PublicKey, Record

ADVERTISEMENT = "advertisement"
UPLOAD = "upload"


class Advertisement(Record):
    """R0: a node's fresh X25519 mask key for one attempt."""

    manifest: Hash
    round: Count
    attempt: Count
    party: Id
    mask_key: PublicKey


class Upload(Record):
    """R2: what one masked, sealed vector is, and from which model and cohort it came."""

    manifest: Hash
    round: Count
    attempt: Count
    party: Id
    model: Hash
    cohort: Hash
    words: Positive
    chunks: Positive
    ephemeral_key: PublicKey
    root: Hash


def verify_advertisement(
    envelope: Envelope, *, node_key: str, manifest: str, round_: int, attempt: int, party: str
) -> Advertisement:
    """Decode an advertisement and check signer and context.

    Raises:
        ProtocolError: `wrong-kind` or `wrong-context`.
        VerificationError: the signature does not hold.
    """
    if envelope.kind != ADVERTISEMENT:
        raise ProtocolError("wrong-kind", f"a {envelope.kind} is no {ADVERTISEMENT}")
    envelope.verify([node_key])
    message = Advertisement.from_bytes(envelope.payload)
    _check_context(message, manifest, round_, attempt, party)
    return message


def verify_upload(
    envelope: Envelope, *, node_key: str, manifest: str, round_: int, attempt: int, party: str
) -> Upload:
    """Decode an upload's header and check signer and context; errors as above."""
    if envelope.kind != UPLOAD:
        raise ProtocolError("wrong-kind", f"a {envelope.kind} is no {UPLOAD}")
    envelope.verify([node_key])
    message = Upload.from_bytes(envelope.payload)
    _check_context(message, manifest, round_, attempt, party)
    return message


def cohort_hash(advertisements: Iterable[Envelope]) -> str:
    """H(U1): SHA-256 over the record hashes of the advertisements, in roster order."""
    digest = hashlib.sha256(b"accord cohort v1")
    for envelope in advertisements:
        digest.update(bytes.fromhex(envelope.hash))
    return digest.hexdigest()


def upload_root(chunks: Sequence[bytes]) -> str:
    """SHA-256 over the SHA-256 of each sealed chunk, in order."""
    digest = hashlib.sha256(b"accord upload v1")
    for chunk in chunks:
        digest.update(hashlib.sha256(chunk).digest())
    return digest.hexdigest()


def _check_context(
    message: Advertisement | Upload, manifest: str, round_: int, attempt: int, party: str
) -> None:
    seen = (message.manifest, message.round, message.attempt, message.party)
    if seen != (manifest, round_, attempt, party):
        raise ProtocolError(
            "wrong-context",
            f"{message.party}, round {message.round}, attempt {message.attempt} of run "
            f"{message.manifest[:16]} stands where {party}, round {round_}, attempt {attempt} of "
            f"run {manifest[:16]} belongs",
        )
