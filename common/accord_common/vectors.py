"""Named arrays <-> one flat float32 vector <-> integers modulo 2^32.

Guarantees: a layout and its hash fix the order of every coordinate. `update_bound`, `update_noise`
and `scale_for` use exact or decimal arithmetic: every machine gets the same digits. What holds of
sums and rounding is said in `rings`.

Not covered: masks (`secagg`) and privacy. Rounding is to nearest, which suits updates whose noise
is much larger than one step.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal, localcontext
from functools import cached_property
from math import prod

import numpy as np
from numpy.typing import NDArray

from accord_common import rings
from accord_common.canonical import Json, canonical_bytes, sha256_hex
from accord_common.errors import FormatError, UsageError
from accord_common.fields import to_decimal

BLOCK = rings.BLOCK
MAX_DIMENSION = 1 << 30  # 4 GiB of float32
FAILURE_LOG2 = 40  # an update exceeds its bound with probability at most 2^-40 a round


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
    """Return `rings.scale_for` in 32 bits."""
    return rings.scale_for(bound, contributors, rings.Z32)


def quantise(
    vector: NDArray[np.float32], scale: int, bound: str, *, out: NDArray[np.uint32] | None = None
) -> tuple[NDArray[np.uint32], int]:
    """Do `rings.quantise` in 32 bits; `bad-vector` unless it is float32 (d,)."""
    check_vector(vector, vector.size)
    return rings.quantise(vector, scale, bound, rings.Z32, out=out)


def dequantise(words: NDArray[np.uint32], scale: int) -> NDArray[np.float32]:
    """Do `rings.dequantise` in 32 bits."""
    return rings.dequantise(words, scale, rings.Z32)


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

    Raises:
        UsageError: `bad-bound` where no decimal of a record holds it.
    """
    with localcontext(Context(prec=50)):
        rate, draws = Decimal(sampling_rate), Decimal(steps) * population
        tail = (failure_log2 + 1) * Decimal(2).ln()
        excess = tail / 3 + ((tail / 3) ** 2 + 2 * tail * draws * rate * (1 - rate)).sqrt()
        rows = min(draws, draws * rate + excess)
        deviations = (2 * (tail + Decimal(dimension).ln())).sqrt()
        noise = deviations * Decimal(noise_multiplier) * Decimal(steps).sqrt()
        step = Decimal(learning_rate) * Decimal(clip) / (rate * population)
        return _six_digits(step * (rows + noise))


def plain_bound(*, steps: int, learning_rate: str, clip: str) -> str:
    """Bound every coordinate of one round's update without privacy: K lr C.

    Each of K steps moves the model by lr times a gradient of norm at most C. In float32 the sum may
    be larger by its rounding; `rings.quantise` clamps that.

    Returns:
        A decimal string, rounded up to six digits: the same on every machine.

    Raises:
        UsageError: `bad-bound` where no decimal of a record holds it.
    """
    with localcontext(Context(prec=50)):
        return _six_digits(Decimal(steps) * Decimal(learning_rate) * Decimal(clip))


def update_noise(
    *,
    steps: int,
    learning_rate: str,
    clip: str,
    noise_multiplier: str,
    sampling_rate: str,
    population: int,
) -> str:
    """Standard deviation of the noise on each coordinate of one round's update by local DP-SGD.

    That is lr / (q N) * sigma C sqrt(K), of the update that `update_bound` describes, before its
    weight.

    Returns:
        A decimal string, rounded down to six digits: the same on every machine.
    """
    with localcontext(Context(prec=50)):
        step = Decimal(learning_rate) * Decimal(clip) / (Decimal(sampling_rate) * population)
        noise = step * Decimal(noise_multiplier) * Decimal(steps).sqrt()
        return to_decimal(Context(prec=6, rounding=ROUND_FLOOR).plus(noise))


def _six_digits(bound: Decimal) -> str:
    """Round a bound up to six digits."""
    try:
        return to_decimal(Context(prec=6, rounding=ROUND_CEILING).plus(bound))
    except ValueError as error:
        raise UsageError(
            "bad-bound", f"a bound of {bound:.3e} is too small or too large to be written"
        ) from error


def layout(entries: Sequence[tuple[str, Sequence[int]]]) -> Layout:
    """Make a `Layout` from any sequences, such as decoded JSON."""
    return Layout(tuple((name, tuple(shape)) for name, shape in entries))
