"""What one client's masks cost: rows `secagg-client-n10` and `secagg-client-n32`, one thread.

Measured: a float32 update of 1e7 parameters becomes a masked vector, that is quantising, n - 1
pairwise masks and the self mask; a mask-parameter is one parameter under one mask, d * n of them.
Key agreement is left out on both sides, since it does not grow with the update.

Held against, in the same run and in turns:
- flwr's own SecAgg+ with its default ranges, by the functions that its client calls at that stage;
- the ceiling: the same bytes of AES through `cryptography`, plus the same number of in-place
  additions, each alone and on blocks that stay in cache; once with AES-256-CTR, once with AES-256
  in whichever mode is faster here (`secagg.keystream`), which is the ceiling that binds;
- AES-256-CTR as `openssl speed` measures it, where openssl is installed.

Seconds are CPU seconds of this process, all its threads together: the work waits for nothing, so on
an idle machine that is the time on the clock, and on a busy one the figures remain comparable.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from statistics import median
from time import process_time

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from flwr.common.secure_aggregation.ndarrays_arithmetic import (
    factor_combine,
    parameters_addition,
    parameters_mod,
    parameters_multiply,
    parameters_subtraction,
)
from flwr.common.secure_aggregation.quantization import quantize
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen
from numpy.typing import NDArray

from accord_common import vectors
from accord_common.secagg.keystream import BLOCK_BYTES
from accord_common.secagg.masks import Pair, add_masks, self_key
from tests.benchmarks.row import Row

DIMENSION = 10_000_000
BOUND = "1"  # ten standard deviations of the update below: nothing is clamped, as in a real round
TURNS = 3  # flwr once, we and the ceiling three times in each
FLWR_CLIP, FLWR_TARGET, FLWR_MODULUS = 8.0, 1 << 22, 1 << 32  # SecAggPlusWorkflow's defaults


def run() -> Iterator[Row]:
    openssl = openssl_bytes_per_s()
    update = np.random.default_rng(7).normal(0, 0.1, DIMENSION).astype(np.float32)
    for n in (10, 32):
        yield measure(update, n, openssl)


def measure(update: NDArray[np.float32], n: int, openssl: float | None) -> Row:
    """Time ours, theirs and the ceiling in turns; medians."""
    scale = vectors.scale_for(BOUND, n)
    pairs = [Pair(os.urandom(32), adds=peer % 2 == 0) for peer in range(n - 1)]
    pairs.append(Pair(self_key(os.urandom(32), bytes(48), "a"), adds=True))
    seeds = [os.urandom(32) for _ in range(n)]
    check(update, scale, pairs)
    ours, theirs, counter, fastest = [], [], [], []
    for _ in range(TURNS):
        for _ in range(3):
            ours.append(seconds(partial(masked, update.copy(), scale, pairs)))
            modes_of_aes = (
                aes_seconds(n, modes.CTR(bytes(16))),
                aes_seconds(n, modes.GCM(bytes(12))),
            )
            adding = add_seconds(n)
            counter.append(modes_of_aes[0] + adding)
            fastest.append(min(modes_of_aes) + adding)
        theirs.append(seconds(lambda: flwr_masked(update, seeds)))
    words = DIMENSION * n
    rate = words / median(ours)
    return Row(
        f"secagg-client-n{n}",
        rate,
        "mask-parameters/s",
        f"flwr {version('flwr')} SecAgg+",
        words / median(theirs),
        {
            "seconds": median(ours),
            "seconds_best": min(ours),
            "flwr_seconds": median(theirs),
            "ceiling": words / median(fastest),
            "ceiling_share": median(fastest) / median(ours),
            "ctr_ceiling": words / median(counter),
            "ctr_ceiling_share": median(counter) / median(ours),
            "openssl_aes_256_ctr_bytes_per_s": openssl,
            "openssl_share": 4 * rate / openssl if openssl else None,
        },
    )


def masked(update: NDArray[np.float32], scale: int, pairs: list[Pair]) -> NDArray[np.uint32]:
    """Our client's work on one update, in place as `session.py` does it."""
    words, _ = vectors.quantise(update, scale, BOUND, out=update.view(np.uint32))
    add_masks(words, pairs)
    return words


def flwr_masked(update: NDArray[np.float32], seeds: list[bytes]) -> list[NDArray[np.int64]]:
    """The same work by flwr, call by call as in its `secaggplus_mod._collect_masked_vectors`."""
    parameters = parameters_multiply([update], 1.0)
    quantized = factor_combine(FLWR_TARGET, quantize(parameters, FLWR_CLIP, FLWR_TARGET))
    shapes = [array.shape for array in quantized]
    quantized = parameters_addition(quantized, pseudo_rand_gen(seeds[0], FLWR_MODULUS, shapes))
    for peer, seed in enumerate(seeds[1:]):
        mask = pseudo_rand_gen(seed, FLWR_MODULUS, shapes)
        combine = parameters_addition if peer % 2 == 0 else parameters_subtraction
        quantized = combine(quantized, mask)
    return parameters_mod(quantized, FLWR_MODULUS)


def check(update: NDArray[np.float32], scale: int, pairs: list[Pair]) -> None:
    """What is measured is right: taking the masks off again leaves the quantised update."""
    words = masked(update.copy(), scale, pairs)
    plain, clamped = vectors.quantise(update, scale, BOUND)
    assert clamped == 0 and not np.array_equal(words, plain)
    add_masks(words, [Pair(pair.key, adds=not pair.adds) for pair in pairs])
    assert np.array_equal(words, plain)


def aes_seconds(n: int, mode: modes.CTR | modes.GCM) -> float:
    """AES-256 alone: n streams of 4 d bytes."""
    ciphers = [Cipher(algorithms.AES256(os.urandom(32)), mode) for _ in range(n)]
    streams = [cipher.encryptor() for cipher in ciphers]
    zeros, raw = memoryview(bytes(BLOCK_BYTES)), memoryview(bytearray(BLOCK_BYTES))

    def walk() -> None:
        for start in range(0, 4 * DIMENSION, BLOCK_BYTES):
            size = min(BLOCK_BYTES, 4 * DIMENSION - start)
            for stream in streams:
                stream.update_into(zeros[:size], raw)

    return seconds(walk)


def add_seconds(n: int) -> float:
    """Addition alone: n * d words, in place."""
    block, mask = np.zeros(BLOCK_BYTES // 4, np.uint32), np.ones(BLOCK_BYTES // 4, np.uint32)

    def walk() -> None:
        for start in range(0, DIMENSION, block.size):
            size = min(block.size, DIMENSION - start)
            for _ in range(n):
                np.add(block[:size], mask[:size], out=block[:size])

    return seconds(walk)


def openssl_bytes_per_s() -> float | None:
    """What `openssl speed` reaches in one second on 64 KiB blocks; None where it is missing."""
    if (openssl := shutil.which("openssl")) is None:
        return None
    command = [openssl, "speed", "-seconds", "1", "-bytes", "65536", "-mr", "-evp", "aes-256-ctr"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    figures = [line for line in done.stdout.splitlines() if line.startswith("+F:")]
    return float(figures[-1].rpartition(":")[2])  # +F:22:AES-256-CTR:<bytes a second>


def seconds(work: Callable[[], object]) -> float:
    """CPU time of one call."""
    start = process_time()
    work()
    return process_time() - start
