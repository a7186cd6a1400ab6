"""Named arrays <-> one flat float32 vector <-> integers modulo 2^32.

Guarantees: a layout and its hash fix the order of every coordinate. With `scale_for(bound, n)` the
sum of n quantised vectors never wraps, so the sum modulo 2^32 IS the integer sum; each coordinate
is off by at most half a step, 1 / (2 * scale), per contributor. `update_bound` and `scale_for` use
exact or decimal arithmetic: every machine gets the same digits.

Not covered: masks (`secagg`) and privacy. Rounding is to nearest, which suits updates whose noise
is much larger than one step.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context, Decimal, localcontext
from fractions import Fraction
from functools import cached_property
from math import floor, prod

import numpy as np
from numpy.typing import NDArray

from accord_common.canonical import Json, canonical_bytes, sha256_hex
from accord_common.errors import DataError, FormatError, UsageError
from accord_common.fields import to_decimal

BLOCK = 1 << 16  # words; a block of each array stays in the second-level cache
MAX_DIMENSION = 1 << 30  # 4 GiB of float32
MAX_SUM = 2**31 - 1  # largest magnitude of a signed 32-bit sum
FAILURE_LOG2 = 40  # an update exceeds its bound with probability at most 2^-40 a round
MAX_SCALE_LOG2 = 52  # a record's integers stay below 2^53


@dataclass(frozen=True)
class Layout:
    """The order in which named float32 arrays lie in a flat vector.

    Args:
        entries: (name, shape) of each array, in order; names are unique, sizes at least 1.

    Raises:
        FormatError: `bad-layout`.
    """

    entries: tuple[tuple[str, tuple[int, ...]], ...]

    def __post_init__(self) -> None:
        names = [name for name, _ in self.entries]
        if not names or len(set(names)) != len(names):
            raise FormatError("bad-layout", "a layout needs at least one array, and unique names")
        if any(size < 1 for _, shape in self.entries for size in shape):
            raise FormatError("bad-layout", "an array with a size below 1")
        if self.dimension > MAX_DIMENSION:
            raise FormatError("bad-layout", f"{self.dimension} numbers, at most {MAX_DIMENSION}")

    @cached_property
    def dimension(self) -> int:
        """How many numbers the flat vector holds."""
        return sum(prod(shape) for _, shape in self.entries)

    @cached_property
    def hash(self) -> str:
        """SHA-256 (hex) of the canonical JSON `[[name, [size, ...]], ...]`."""
        entries: Json = [[name, list(shape)] for name, shape in self.entries]
        return sha256_hex(canonical_bytes(entries))

    def flatten(self, arrays: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        """Copy the arrays into one vector, (dimension,); `bad-arrays` where one does not fit."""
        if arrays.keys() != dict(self.entries).keys():
            odd = min(arrays.keys() ^ dict(self.entries).keys())
            raise FormatError("bad-arrays", f"array {odd!r} is missing or not in the layout")
        vector = np.empty(self.dimension, np.float32)
        for name, part in self.unflatten(vector).items():
            array = arrays[name]
            if array.shape != part.shape or array.dtype != np.float32:
                raise FormatError(
                    "bad-arrays",
                    f"array {name!r} is {array.dtype}{array.shape}, not float32{part.shape}",
                )
            part[...] = array
        return vector

    def unflatten(self, vector: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Return each array as a view into `vector`, (dimension,)."""
        check_vector(vector, self.dimension)
        arrays, start = {}, 0
        for name, shape in self.entries:
            stop = start + prod(shape)
            arrays[name] = vector[start:stop].reshape(shape)
            start = stop
        return arrays


def check_vector(vector: NDArray[np.float32], dimension: int) -> None:
    """Refuse a vector that is not float32 (dimension,): `bad-vector`."""
    if vector.dtype != np.float32 or vector.shape != (dimension,):
        raise FormatError(
            "bad-vector", f"vector is {vector.dtype}{vector.shape}, not float32({dimension},)"
        )


def scale_for(bound: str, contributors: int) -> int:
    """Steps per unit: the largest S = 2^k <= 2^52 with contributors * bound * S <= 2^31 - 1.

    Args:
        bound: decimal string, largest magnitude of one coordinate of one contributor.
        contributors: how many vectors are summed at most.

    Raises:
        UsageError: `bad-bound` where no S >= 1 exists.
    """
    total = contributors * Fraction(bound)
    if contributors < 1 or not 0 < total <= MAX_SUM:
        raise UsageError(
            "bad-bound",
            f"bound {bound} for {contributors} contributors",
            hint=f"Their product must lie above 0 and not above {MAX_SUM}.",
        )
    return 1 << min((floor(MAX_SUM / total)).bit_length() - 1, MAX_SCALE_LOG2)


def quantise(vector: NDArray[np.float32], scale: int, bound: str) -> tuple[NDArray[np.uint32], int]:
    """Round `vector` (d,) to integers modulo 2^32, two's complement.

    Args:
        vector: finite float32 numbers.
        scale: from `scale_for(bound, contributors)`.
        bound: decimal string; a larger magnitude is clamped to it.

    Returns:
        The words (d,), and how many coordinates were clamped. The count depends on private
        data: it stays at the node.

    Raises:
        DataError: `not-finite` for NaN or infinity.
    """
    check_vector(vector, vector.size)
    limit = np.float32(_float32_below(floor(Fraction(bound) * scale)) / scale)
    step = np.float32(scale)
    words = np.empty(vector.size, np.uint32)
    scaled, flags = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.bool_)
    clamped = 0
    for start in range(0, vector.size, BLOCK):
        part = vector[start : start + BLOCK]
        block, flag = scaled[: part.size], flags[: part.size]
        if not np.isfinite(part, out=flag).all():
            raise DataError("not-finite", "the update holds NaN or infinity; nothing was sent")
        np.clip(part, -limit, limit, out=block)
        np.not_equal(part, block, out=flag)
        clamped += int(np.count_nonzero(flag))
        np.multiply(block, step, out=block)  # exact: the scale is a power of two
        np.rint(block, out=block)
        np.copyto(words[start : start + BLOCK].view(np.int32), block, casting="unsafe")
    return words, clamped


def dequantise(words: NDArray[np.uint32], scale: int) -> NDArray[np.float32]:
    """Turn a sum modulo 2^32 (d,) into float32 (d,): `quantise` undone, up to rounding."""
    vector = np.empty(words.size, np.float32)
    step = np.float32(1 / scale)
    for start in range(0, words.size, BLOCK):
        part = vector[start : start + BLOCK]
        np.copyto(part, words[start : start + BLOCK].view(np.int32), casting="unsafe")
        np.multiply(part, step, out=part)
    return vector


def update_bound(
    *,
    steps: int,
    learning_rate: str,
    clip: str,
    noise_multiplier: str,
    sampling_rate: str,
    population: int,
    dimension: int,
    failure_log2: int = FAILURE_LOG2,
) -> str:
    """Bound every coordinate of one round's update by local DP-SGD.

    The update is -lr / (q N) * sum over K steps of (clipped sum + noise). Guarantee: with at most
    N rows, P(any coordinate exceeds the bound) <= 2^-failure_log2 in real arithmetic, half of it
    for each of

    * the number M of sampled rows over all steps, Binomial(K N, q), by Bernstein's inequality:
      M <= K N q + L/3 + sqrt((L/3)^2 + 2 L K N q (1 - q)), and the clipped sums are at most M C;
    * the noise summed over the steps, N(0, K (sigma C)^2) for each of d coordinates, by
      P(|Z| > z) <= exp(-z^2 / 2) and a union: z = sqrt(2 (L + ln d)),

    with L = (failure_log2 + 1) ln 2.

    Returns:
        A decimal string, rounded up to six digits: the same on every machine.
    """
    with localcontext(Context(prec=50)):
        rate, draws = Decimal(sampling_rate), Decimal(steps) * population
        tail = (failure_log2 + 1) * Decimal(2).ln()
        excess = tail / 3 + ((tail / 3) ** 2 + 2 * tail * draws * rate * (1 - rate)).sqrt()
        rows = min(draws, draws * rate + excess)
        deviations = (2 * (tail + Decimal(dimension).ln())).sqrt()
        noise = deviations * Decimal(noise_multiplier) * Decimal(steps).sqrt()
        step = Decimal(learning_rate) * Decimal(clip) / (rate * population)
        bound = step * (rows + noise)
        return to_decimal(Context(prec=6, rounding=ROUND_CEILING).plus(bound))


def layout(entries: Sequence[tuple[str, Sequence[int]]]) -> Layout:
    """Make a `Layout` from any sequences, such as decoded JSON."""
    return Layout(tuple((name, tuple(shape)) for name, shape in entries))


def _float32_below(value: int) -> float:
    """Return the largest float32 that is at most `value`."""
    rounded = np.float32(value)
    if int(rounded) > value:
        rounded = np.nextafter(rounded, np.float32(0))
    return float(rounded)
