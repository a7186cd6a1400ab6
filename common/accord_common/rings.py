"""float32 vectors <-> integers modulo 2^16, 2^32 or 2^64.

Guarantees: with `scale_for(bound, n, ring)` the sum of n quantised vectors never wraps, so the sum
modulo 2^k IS the integer sum. Each coordinate is off by at most half a step, 1 / (2 * scale), per
contributor where rounding is to nearest, and by less than a step, zero on average, where it is
stochastic. The scale follows from exact arithmetic: every machine gets the same one.

Edge cases: a magnitude above the bound is clamped and counted; NaN and infinity are refused. Words
of 16 bits are refused where the noise is below 4 steps (`require_noise`), since coarse rounding
would then show through. A float32 has 24 bits, so words of 64 bits add room for the sum, not
precision to a single number.

Not covered: masks (`secagg`) and privacy. Quantising after the noise is post-processing; the time
it takes shows whether something was clamped.
"""

import os
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Context, Decimal
from fractions import Fraction
from math import floor
from typing import Any, Generic, TypeVar

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from numpy.typing import NDArray

from accord_common.errors import DataError, UsageError

BLOCK = 1 << 16  # words; a block of each array stays in the second-level cache
MAX_SCALE_LOG2 = 52  # a record's integers stay below 2^53
NOISE_STEPS = 4  # standard deviations; see `rounds_to_nearest`
_DOWN = Context(prec=4, rounding=ROUND_FLOOR)  # 3.9996 steps never read as 4

W = TypeVar("W", np.uint16, np.uint32, np.uint64)


@dataclass(frozen=True, slots=True)
class Ring(Generic[W]):
    """Integers modulo 2^bits in two's complement: how they travel, and how they are read."""

    bits: int
    words: type[W]
    signed: type[np.signedinteger]

    @property
    def max_sum(self) -> int:
        """Largest magnitude that a sum may have."""
        return (1 << (self.bits - 1)) - 1


Z16 = Ring(16, np.uint16, np.int16)
Z32 = Ring(32, np.uint32, np.int32)
Z64 = Ring(64, np.uint64, np.int64)

Words = NDArray[np.unsignedinteger[Any]]  # a vector in one of the rings
_RINGS: dict[int, Ring[Any]] = {ring.bits: ring for ring in (Z16, Z32, Z64)}


def ring_of(bits: int) -> Ring[Any]:
    """Return the ring of a manifest's `ring_bits`: 16, 32 or 64."""
    return _RINGS[bits]


def scale_for(bound: str, contributors: int, ring: Ring[W]) -> int:
    """Steps per unit: the largest S = 2^k <= 2^52 with contributors * bound * S <= ring.max_sum.

    Args:
        bound: decimal string, largest magnitude of one coordinate of one contributor.
        contributors: how many vectors are summed at most.
        ring: what the sum is formed in.

    Raises:
        UsageError: `bad-bound` where no S >= 1 exists.
    """
    total = contributors * Fraction(bound)
    if contributors < 1 or not 0 < total <= ring.max_sum:
        raise UsageError(
            "bad-bound",
            f"bound {bound} for {contributors} contributors",
            hint=f"Their product must lie above 0 and not above {ring.max_sum}; a larger ring_bits"
            " or a smaller learning rate makes room.",
        )
    return 1 << min((floor(ring.max_sum / total)).bit_length() - 1, MAX_SCALE_LOG2)


def require_noise(noise: str, scale: int, ring: Ring[W]) -> None:
    """Refuse words of 16 bits where one node's noise is below 4 quantisation steps.

    Args:
        noise: decimal string, standard deviation of the noise on each coordinate of one node.
        scale: steps per unit.
        ring: 32 and 64 bits are never refused.

    Raises:
        UsageError: `coarse-ring`, with how many steps the noise is.
    """
    if ring.bits < Z32.bits and not rounds_to_nearest(noise, scale):
        raise UsageError(
            "coarse-ring",
            f"a site's noise of {noise} is {_DOWN.create_decimal(Decimal(noise) * scale)} steps of"
            f" 1/{scale}, words of {ring.bits} bits need {NOISE_STEPS}",
            hint="Plan `ring_bits: 32`, more noise, or fewer rows a round (sampling_rate, steps).",
        )


def rounds_to_nearest(noise: str, scale: int) -> bool:
    """Whether the noise of one node is so large that rounding to nearest has no bias to speak of.

    With Gaussian noise of s steps the mean of the rounding error is at most
    2 / pi * exp(-2 pi^2 s^2) steps (first term of its Fourier series): below 10^-137 for s = 4.
    Below that, rounding must be stochastic.
    """
    return Fraction(noise) * scale >= NOISE_STEPS


def quantise(
    vector: NDArray[np.float32],
    scale: int,
    bound: str,
    ring: Ring[W],
    *,
    stochastic: bool = False,
    out: NDArray[W] | None = None,
) -> tuple[NDArray[W], int]:
    """Round `vector` (d,) to integers modulo 2^bits, two's complement.

    Args:
        vector: finite float32 numbers.
        scale: from `scale_for(bound, contributors, ring)`.
        bound: decimal string; a larger magnitude is clamped to it.
        ring: what the words are.
        stochastic: round away from zero with the probability of the fraction (to 2^-24) instead of
            to nearest, from a key that is drawn for this call and forgotten.
        out: where the words go, (d,); with 32 bits or fewer it may be the first d of
            `vector.view(ring.words)`, which saves a vector and half the time. None makes a new one.

    Returns:
        The words (d,), and how many coordinates were clamped. The count depends on private
        data: it stays at the node.

    Raises:
        DataError: `not-finite` for NaN or infinity.
    """
    limit = np.float32(_float32_below(floor(Fraction(bound) * scale)) / scale)
    step = np.float32(scale)
    words = np.empty(vector.size, ring.words) if out is None else out
    scaled = np.empty(BLOCK, np.float32)
    coins = _Coins() if stochastic else None
    clamped = 0
    for start in range(0, vector.size, BLOCK):
        part = vector[start : start + BLOCK]
        block = scaled[: part.size]
        low, high = part.min(), part.max()  # NaN where any is
        if not (np.isfinite(low) and np.isfinite(high)):
            raise DataError("not-finite", "the update holds NaN or infinity; nothing was sent")
        if low < -limit or high > limit:
            clipped = np.clip(part, -limit, limit)
            clamped += int(np.count_nonzero(part != clipped))
            part = clipped
        np.multiply(part, step, out=block)  # exact: the scale is a power of two
        if coins is None:
            np.rint(block, out=block)
        else:
            coins.round(block)
        np.copyto(words[start : start + BLOCK].view(ring.signed), block, casting="unsafe")
    return words, clamped


def dequantise(words: NDArray[W], scale: int, ring: Ring[W]) -> NDArray[np.float32]:
    """Turn a sum modulo 2^bits (d,) into float32 (d,): `quantise` undone, up to rounding."""
    vector = np.empty(words.size, np.float32)
    step = np.float32(1 / scale)
    for start in range(0, words.size, BLOCK):
        part = vector[start : start + BLOCK]
        np.copyto(part, words[start : start + BLOCK].view(ring.signed), casting="unsafe")
        np.multiply(part, step, out=part)
    return vector


class _Coins:
    """Stochastic rounding with AES-256-CTR under a key from the operating system."""

    def __init__(self) -> None:
        self._stream: CipherContext = Cipher(
            algorithms.AES(os.urandom(32)), modes.CTR(bytes(16))
        ).encryptor()
        self._zeros = memoryview(bytes(4 * BLOCK))
        self._raw = bytearray(4 * BLOCK)
        self._whole, self._fraction = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)

    def round(self, block: NDArray[np.float32]) -> None:
        """Round `block` (at most BLOCK,) in place; whole numbers stay as they are."""
        self._stream.update_into(self._zeros[: block.nbytes], self._raw)
        bits = np.frombuffer(self._raw, np.uint32, block.size)
        whole, fraction = self._whole[: block.size], self._fraction[: block.size]
        np.trunc(block, out=whole)
        np.subtract(block, whole, out=fraction)  # exact
        np.abs(fraction, out=fraction)
        uniform = (bits >> np.uint32(8)).astype(np.float32) * np.float32(2**-24)  # [0, 1), exact
        np.copysign(uniform < fraction, block, out=block)
        np.add(block, whole, out=block)


def _float32_below(value: int) -> float:
    """Return the largest float32 that is at most `value`."""
    rounded = np.float32(value)
    if int(rounded) > value:
        rounded = np.nextafter(rounded, np.float32(0))
    return float(rounded)
