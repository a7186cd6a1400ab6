"""Shares on their way: from node to node through the aggregator, and from node to aggregator.

Guarantees: only the addressee opens a share, and only in the context it was made for: attempt,
stage, sender, receiver and cohort are authenticated (X25519, HKDF-SHA256, AES-256-GCM). A key
serves one direction of one attempt, and one message: the nonce is zero. Both sides' keys are in
the key derivation, so a message cannot be taken for one between other keys.

Edge cases: what does not open is refused naming the sender, for whoever forwarded it may not have
broken it; a peer key of low order is refused.

Not covered: that a key seals only once, which the node's state machine keeps; that a share which
opens lies on its secret's polynomial, which only shows when it is combined.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from accord_common.errors import ProtocolError
from accord_common.secagg.masks import derive, public_key
from accord_common.secagg.shamir import PRIME, SHARE_BYTES

_NONCE = bytes(12)
_SHARE_STAGE, _UNMASK_STAGE = b"\x01", b"\x04"


@dataclass(frozen=True, slots=True)
class PeerShares:
    """What one node holds of another: a share of its b, and one of its mask key; 33 bytes each."""

    seed: bytes = field(repr=False)
    key: bytes = field(repr=False)


def seal_shares(
    shares: PeerShares,
    own: X25519PrivateKey,
    peer_key: str,
    *,
    context: bytes,
    source: str,
    destination: str,
    cohort: str,
) -> str:
    """Encrypt two shares from `source`, whose channel key is `own`, to `destination`; hex.

    Raises:
        ProtocolError: `weak-mask-key`.
    """
    key = _channel_key(own, public_key(own), peer_key, peer_key, context, source, destination)
    associated = _associated(context, _SHARE_STAGE, source, destination, cohort)
    return AESGCM(key).encrypt(_NONCE, shares.seed + shares.key, associated).hex()


def open_shares(
    sealed: str,
    own: X25519PrivateKey,
    peer_key: str,
    *,
    context: bytes,
    source: str,
    destination: str,
    cohort: str,
) -> PeerShares:
    """Decrypt what `source` sealed to `destination`, whose channel key is `own`.

    Raises:
        ProtocolError: `share-broken` naming the source; `weak-mask-key`.
    """
    key = _channel_key(own, peer_key, public_key(own), peer_key, context, source, destination)
    associated = _associated(context, _SHARE_STAGE, source, destination, cohort)
    values = _open(sealed, key, associated, source, count=2)
    return PeerShares(*values)


def seal_answer(
    values: Sequence[bytes],
    ephemeral: X25519PrivateKey,
    envelope_key: str,
    *,
    context: bytes,
    source: str,
    destination: str,
    uploads: str,
) -> str:
    """Encrypt the shares of R4 for the aggregator under a fresh ephemeral key; hex."""
    key = _answer_key(ephemeral, envelope_key, public_key(ephemeral), envelope_key, context)
    associated = _associated(context, _UNMASK_STAGE, source, destination, uploads)
    return AESGCM(key).encrypt(_NONCE, b"".join(values), associated).hex()


def open_answer(
    sealed: str,
    envelope_private: X25519PrivateKey,
    ephemeral_key: str,
    *,
    count: int,
    context: bytes,
    source: str,
    destination: str,
    uploads: str,
) -> list[bytes]:
    """Decrypt the `count` shares of one node's R4; `share-broken` names it."""
    own = public_key(envelope_private)
    key = _answer_key(envelope_private, ephemeral_key, ephemeral_key, own, context)
    associated = _associated(context, _UNMASK_STAGE, source, destination, uploads)
    return _open(sealed, key, associated, source, count)


def _open(sealed: str, key: bytes, associated: bytes, source: str, count: int) -> list[bytes]:
    try:
        plain = AESGCM(key).decrypt(_NONCE, bytes.fromhex(sealed), associated)
    except (InvalidTag, ValueError) as error:
        raise ProtocolError(
            "share-broken", f"a share from {source} does not open in this context"
        ) from error
    values = [plain[at : at + SHARE_BYTES] for at in range(0, len(plain), SHARE_BYTES)]
    if len(plain) != count * SHARE_BYTES or any(int.from_bytes(v) >= PRIME for v in values):
        raise ProtocolError("share-broken", f"what {source} sealed are not {count} shares")
    return values


def _channel_key(
    own: X25519PrivateKey,
    source_key: str,
    destination_key: str,
    peer_key: str,
    context: bytes,
    source: str,
    destination: str,
) -> bytes:
    """Key of one direction: source first, in ids and in keys."""
    ids = source.encode() + destination.encode()
    info = b"accord share v1" + ids + bytes.fromhex(source_key + destination_key)
    return derive(own, peer_key, salt=context, info=info)


def _answer_key(
    own: X25519PrivateKey, peer_key: str, ephemeral_key: str, envelope_key: str, context: bytes
) -> bytes:
    info = b"accord unmask v1" + bytes.fromhex(ephemeral_key + envelope_key)
    return derive(own, peer_key, salt=context, info=info)


def _associated(
    context: bytes, stage: bytes, source: str, destination: str, commitment: str
) -> bytes:
    return context + stage + source.encode() + destination.encode() + bytes.fromhex(commitment)
