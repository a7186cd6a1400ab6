"""Both ways make the bytes of AES-256 in counter mode, however they are asked for."""

import os

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from accord_common.secagg.keystream import BLOCK_BYTES, Keystream


def counter_mode(key: bytes, size: int) -> bytes:
    """Counter mode spelled out: each counter encrypted by itself."""
    counters = b"".join(counter.to_bytes(16, "big") for counter in range(-(-size // 16)))
    return Cipher(algorithms.AES256(key), modes.ECB()).encryptor().update(counters)[:size]


@pytest.mark.parametrize("by_gcm", [False, True])
@given(sizes=st.lists(st.integers(0, 70), max_size=8))
def test_pieces_of_any_size_join_to_the_stream(by_gcm: bool, sizes: list[int]) -> None:
    key = os.urandom(32)
    stream = Keystream(key, by_gcm=by_gcm)
    pieces = b""
    for size in sizes:
        raw = bytearray(size)
        stream.fill(memoryview(raw))
        pieces += raw
    assert pieces == counter_mode(key, sum(sizes))


@pytest.mark.parametrize("by_gcm", [False, True])
def test_many_whole_blocks_are_the_stream(by_gcm: bool) -> None:
    """Past 2^16 counters, so that carries over two bytes take part."""
    key = os.urandom(32)
    stream = Keystream(key, by_gcm=by_gcm)
    blocks = bytearray(5 * BLOCK_BYTES)
    for start in range(0, len(blocks), BLOCK_BYTES):
        stream.fill(memoryview(blocks)[start : start + BLOCK_BYTES])
    assert blocks == counter_mode(key, len(blocks))
