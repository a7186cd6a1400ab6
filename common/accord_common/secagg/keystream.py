"""The AES-256-CTR keystream of one key, zero IV, by the faster of two ways through OpenSSL.

Guarantee: the bytes are those of AES-256 in counter mode from block 0 (NIST SP 800-38A, 6.5),
whichever way is taken; frozen vectors hold both to it. A key makes one stream.

Why two: AES-GCM under a 12-byte zero nonce encrypts in counter mode from block 2 (NIST SP 800-38D,
7.1), and OpenSSL drives the vector units of recent processors for GCM only: 16 GB/s against 8 on
AVX-512, where older processors do better without. The tag is never asked for and authenticates
nothing. The two counters part after 2^32 blocks, 64 GiB, which GCM refuses and no vector reaches.
"""

from functools import cache
from time import perf_counter

from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes

BLOCK_BYTES = (
    1 << 18
)  # the most that `fill` takes; stays in a core's L2 cache with as much beside it
_GCM_STARTS = 32  # bytes: block 0 is its hash key, block 1 hides its tag
_PROBE_BYTES = 1 << 20
_ZEROS = memoryview(bytes(BLOCK_BYTES))


class Keystream:
    """One stream, from its beginning.

    Args:
        key: 32 bytes, used for nothing else.
        by_gcm: which way; None takes the faster one on this machine.
    """

    def __init__(self, key: bytes, *, by_gcm: bool | None = None) -> None:
        counter = _counter_mode(key)
        if gcm_is_faster() if by_gcm is None else by_gcm:
            self._head = counter.update(bytes(_GCM_STARTS))
            self._body: CipherContext = _galois_counter_mode(key)
        else:
            self._head = b""
            self._body = counter

    def fill(self, view: memoryview) -> None:
        """Write the next len(view) <= `BLOCK_BYTES` bytes of the stream into `view`."""
        if head := self._head[: len(view)]:
            view[: len(head)] = head
            self._head = self._head[len(head) :]
            view = view[len(head) :]
        self._body.update_into(_ZEROS[: len(view)], view)


@cache
def gcm_is_faster() -> bool:
    """Time both ways once a process, about 1 ms; the answer changes the speed, never the bytes."""
    ways = _counter_mode(bytes(32)), _galois_counter_mode(bytes(32))
    by_counter, by_gcm = (min(_seconds(way) for _ in range(3)) for way in ways)
    return by_gcm < by_counter


def _counter_mode(key: bytes) -> CipherContext:
    return Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor()


def _galois_counter_mode(key: bytes) -> CipherContext:
    return Cipher(algorithms.AES256(key), modes.GCM(bytes(12))).encryptor()


def _seconds(way: CipherContext) -> float:
    """Time `_PROBE_BYTES` of a stream."""
    view = memoryview(bytearray(BLOCK_BYTES))
    start = perf_counter()
    for _ in range(_PROBE_BYTES // BLOCK_BYTES):
        way.update_into(_ZEROS, view)
    return perf_counter() - start
