"""Masks that hide one vector and leave the sum alone (Bonawitz et al. 2017, section 4).

Guarantees: to anybody without one of a pair's two mask keys, a vector masked for that pair is
indistinguishable from uniform over Z_2^k, k the word's bits (AES-256 in counter mode, key from
HKDF-SHA256 over X25519). The key also binds the attempt, the cohort and the model that the round
started from: nodes that were given different cohorts or different models do not cancel, so such a
server learns noise.

Edge cases: a cohort of one has no pair and is refused; a peer key of low order is refused. Each key
pair serves one attempt; the caller discards it after one vector.

Not covered: who may learn which key when; see the state machines.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from accord_common.errors import ProtocolError
from accord_common.rings import Words
from accord_common.secagg.keystream import BLOCK_BYTES, Keystream

SEED_BYTES = 32


@dataclass(frozen=True, slots=True)
class Pair:
    """One mask: its stream's key, and whether this side adds (lower index) or subtracts it."""

    key: bytes
    adds: bool


def pair_key(
    own: X25519PrivateKey,
    peer_public: str,
    *,
    lower: str,
    higher: str,
    context: bytes,
    cohort: str,
    model: str,
) -> bytes:
    """Derive the 32-byte stream key that both sides of a pair share.

    Args:
        own: this node's mask key for the attempt.
        peer_public: the peer's advertised X25519 key, hex.
        lower: party id at the lower roster index.
        higher: party id at the higher one.
        context: `manifest.context`.
        cohort: `messages.cohort_hash` of the attempt.
        model: hash of the model that the round starts from.

    Raises:
        ProtocolError: `weak-mask-key` where the peer's key has low order (RFC 7748, section 6.1).
    """
    info = b"accord mask v1" + lower.encode() + higher.encode() + bytes.fromhex(cohort + model)
    return derive(own, peer_public, salt=context, info=info)


def public_key(key: X25519PrivateKey) -> str:
    """The public half, 64 hex digits, as messages carry it."""
    return key.public_key().public_bytes_raw().hex()


def derive(own: X25519PrivateKey, peer_public: str, *, salt: bytes, info: bytes) -> bytes:
    """HKDF-SHA256 (RFC 5869) over an X25519 secret, 32 bytes; `weak-mask-key` for low order."""
    try:
        secret = own.exchange(X25519PublicKey.from_public_bytes(bytes.fromhex(peer_public)))
    except ValueError as error:
        raise ProtocolError("weak-mask-key", f"key {peer_public[:16]} has low order") from error
    return HKDF(hashes.SHA256(), 32, salt, info).derive(secret)


def self_key(seed: bytes, context: bytes, party: str) -> bytes:
    """Derive the 32-byte stream key of a node's own mask from `seed`, b_u of the paper.

    Guarantee: whoever does not hold b_u, or t shares of it, cannot tell the mask from uniform; so a
    vector stays hidden even where all its pairwise masks are revealed because it was late. The
    mask is added like a pairwise one; the server subtracts it once b_u has been released.

    Args:
        seed: 32 bytes from the operating system, fresh for each attempt.
        context: `manifest.context`.
        party: id of the party whose mask it is.

    Raises:
        ProtocolError: `short-seed` unless the seed has 32 bytes.
    """
    if len(seed) != SEED_BYTES:
        raise ProtocolError("short-seed", f"a self mask from {len(seed)} bytes, not {SEED_BYTES}")
    return HKDF(hashes.SHA256(), 32, context, b"accord self mask v1" + party.encode()).derive(seed)


def add_masks(vector: Words, pairs: Sequence[Pair]) -> None:
    """Add every stream to `vector` (d,) in place, modulo 2^k of its words, little-endian.

    Blocks are walked in order, and all streams are applied to a block before the next one, so that
    the block stays in cache.

    Raises:
        ProtocolError: `no-peers` where there is nobody to hide among.
    """
    if not pairs:
        raise ProtocolError("no-peers", "a vector without a single mask would travel in clear")
    streams = [(Keystream(pair.key), np.add if pair.adds else np.subtract) for pair in pairs]
    raw = bytearray(BLOCK_BYTES)
    words = np.frombuffer(raw, vector.dtype.newbyteorder("<"))  # (block_words,)
    view, block_words = memoryview(raw), words.shape[0]
    for start in range(0, vector.shape[0], block_words):
        block = vector[start : start + block_words]
        part, mask = view[: block.nbytes], words[: block.shape[0]]
        for stream, combine in streams:
            stream.fill(part)
            combine(block, mask, out=block)
