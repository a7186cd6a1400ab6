"""The sealed envelope: a masked vector on its way to one aggregator, in chunks.

Guarantees: only the holder of the run's envelope key opens a chunk; a chunk that was altered,
moved, dropped, repeated, or taken from another attempt or sender does not open (X25519,
HKDF-SHA256, AES-256-GCM; the additional data names context, sender, receiver, index and whether it
is the last). The key is derived from a fresh ephemeral key, so a nonce never repeats under it.

Not covered: hiding how long the vector is (the manifest says it), and erasing keys from memory.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from accord_common.errors import ProtocolError
from accord_common.rings import Ring, Words
from accord_common.secagg.masks import derive, public_key

CHUNK_BYTES = 8 << 20  # of plaintext: few objects a message, bounded bytes in flight
TAG_BYTES = 16


def chunk_count(words: int, bits: int) -> int:
    """Number of chunks that a vector of `words` of so many bits makes."""
    return -(-words * bits // (8 * CHUNK_BYTES))


def sealed_bytes(words: int, bits: int) -> int:
    """Bytes of all chunks of such a vector, sealed."""
    return words * bits // 8 + TAG_BYTES * chunk_count(words, bits)


def seal(
    vector: Words,
    ephemeral: X25519PrivateKey,
    envelope_key: str,
    *,
    context: bytes,
    source: str,
    destination: str,
) -> list[bytes]:
    """Encrypt `vector` (d,) for the aggregator; returns `chunk_count(d, bits)` ciphertexts."""
    public = public_key(ephemeral)
    key = derive(ephemeral, envelope_key, salt=context, info=_info(public, envelope_key))
    cipher = AESGCM(key)
    count = chunk_count(vector.shape[0], 8 * vector.itemsize)
    little = vector.astype(vector.dtype.newbyteorder("<"), copy=False).data.cast("B")
    return [
        cipher.encrypt(
            _nonce(index),
            little[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES],
            _associated(context, source, destination, index, count),
        )
        for index in range(count)
    ]


def unseal(
    chunks: Sequence[bytes],
    envelope_private: X25519PrivateKey,
    ephemeral_key: str,
    *,
    words: int,
    ring: Ring[Any],
    context: bytes,
    source: str,
    destination: str,
) -> Iterator[Words]:
    """Decrypt chunk by chunk, in order; the pieces join to a vector (words,) in `ring`.

    Raises: ProtocolError: `wrong-chunks` for a wrong number or size, `seal-broken` for a chunk that
        does not open.
    """
    count, size = chunk_count(words, ring.bits), words * ring.bits // 8
    if len(chunks) != count:
        raise ProtocolError("wrong-chunks", f"{len(chunks)} chunks, {words} words make {count}")
    public = public_key(envelope_private)
    key = derive(envelope_private, ephemeral_key, salt=context, info=_info(ephemeral_key, public))
    cipher = AESGCM(key)
    for index, chunk in enumerate(chunks):
        expected = min(CHUNK_BYTES, size - index * CHUNK_BYTES) + TAG_BYTES
        if len(chunk) != expected:
            raise ProtocolError(
                "wrong-chunks", f"chunk {index} has {len(chunk)} bytes, expected {expected}"
            )
        associated = _associated(context, source, destination, index, count)
        try:
            plain = cipher.decrypt(_nonce(index), chunk, associated)
        except InvalidTag as error:
            raise ProtocolError(
                "seal-broken", f"chunk {index} from {source} does not open in this context"
            ) from error
        yield np.frombuffer(plain, np.dtype(ring.words).newbyteorder("<"))


def _info(ephemeral_key: str, envelope_key: str) -> bytes:
    return b"accord envelope v1" + bytes.fromhex(ephemeral_key + envelope_key)


def _nonce(index: int) -> bytes:
    return index.to_bytes(12, "big")


def _associated(context: bytes, source: str, destination: str, index: int, count: int) -> bytes:
    last = b"\x01" if index == count - 1 else b"\x00"
    return context + source.encode() + destination.encode() + index.to_bytes(8, "big") + last
