"""Sealed chunks open in their place only."""

from collections.abc import Callable

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from accord_common.errors import ProtocolError
from accord_common.rings import Z32, Words, ring_of
from accord_common.secagg.sealing import CHUNK_BYTES, chunk_count, seal, unseal

CHUNK_WORDS = CHUNK_BYTES // 4
RECEIVER, SENDER = X25519PrivateKey.generate(), X25519PrivateKey.generate()
CONTEXT = bytes(range(48))


def public(key: X25519PrivateKey) -> str:
    return key.public_key().public_bytes_raw().hex()


def sealed(words: int) -> tuple[Words, list[bytes]]:
    vector = np.arange(words, dtype=np.uint32)
    return vector, seal(
        vector, SENDER, public(RECEIVER), context=CONTEXT, source="node", destination="agg"
    )


def opened(
    chunks: list[bytes],
    words: int,
    *,
    context: bytes = CONTEXT,
    source: str = "node",
    destination: str = "agg",
    receiver: X25519PrivateKey = RECEIVER,
    sender: X25519PrivateKey = SENDER,
) -> Words:
    pieces = unseal(
        chunks,
        receiver,
        public(sender),
        words=words,
        ring=Z32,
        context=context,
        source=source,
        destination=destination,
    )
    return np.concatenate(list(pieces))


@pytest.mark.parametrize("words", [1, 1000, CHUNK_WORDS, CHUNK_WORDS + 1])
def test_what_is_sealed_opens(words: int) -> None:
    vector, chunks = sealed(words)
    assert len(chunks) == chunk_count(words, 32)
    assert np.array_equal(opened(chunks, words), vector)


@pytest.mark.parametrize("bits", [16, 64])
def test_narrow_and_wide_words_open_too(bits: int) -> None:
    words = CHUNK_BYTES * 8 // bits + 3
    vector = np.arange(words).astype(ring_of(bits).words)
    chunks = seal(
        vector, SENDER, public(RECEIVER), context=CONTEXT, source="node", destination="agg"
    )
    assert len(chunks) == chunk_count(words, bits) == 2
    pieces = unseal(
        chunks,
        RECEIVER,
        public(SENDER),
        words=words,
        ring=ring_of(bits),
        context=CONTEXT,
        source="node",
        destination="agg",
    )
    assert np.array_equal(np.concatenate(list(pieces)), vector)


WORDS = CHUNK_WORDS + 5


@pytest.mark.parametrize(
    ("alter", "code"),
    [
        (lambda c: [c[1], c[0]], "wrong-chunks"),
        (lambda c: [c[0]], "wrong-chunks"),
        (lambda c: [c[0], c[1], c[1]], "wrong-chunks"),
        (lambda c: [c[0][:-1], c[1]], "wrong-chunks"),
        (lambda c: [c[0], bytes([c[1][0] ^ 1]) + c[1][1:]], "seal-broken"),
    ],
)
def test_altered_moved_dropped_and_repeated_chunks_are_refused(
    alter: Callable[[list[bytes]], list[bytes]], code: str
) -> None:
    _, chunks = sealed(WORDS)
    with pytest.raises(ProtocolError) as caught:
        opened(alter(chunks), WORDS)
    assert caught.value.code == code


def test_a_chunk_opens_in_its_context_for_its_parties_only() -> None:
    _, chunks = sealed(10)
    other = X25519PrivateKey.generate()
    attempts: list[Callable[[], object]] = [
        lambda: opened(chunks, 10, context=CONTEXT[::-1]),
        lambda: opened(chunks, 10, source="eve"),
        lambda: opened(chunks, 10, destination="eve"),
        lambda: opened(chunks, 10, receiver=other),
        lambda: opened(chunks, 10, sender=other),
    ]
    for attempt in attempts:
        with pytest.raises(ProtocolError) as caught:
            attempt()
        assert caught.value.code == "seal-broken"


def test_the_last_chunk_of_a_longer_vector_is_not_the_last_of_a_shorter() -> None:
    _, chunks = sealed(2 * CHUNK_WORDS)
    with pytest.raises(ProtocolError) as caught:
        opened(chunks[:1], CHUNK_WORDS)
    assert caught.value.code == "seal-broken"
