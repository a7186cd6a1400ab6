"""Gaussian noise from a cryptographic generator.

Guarantees: without the key, a source's numbers cannot be told from independent N(0, std^2) draws:
AES-256-CTR under a fresh key from the operating system, turned into normals by Box-Muller in
float64. No source repeats its stream, no two sources share one, and there is no seed to keep.

Edge cases: a normal is at most sqrt(2 * 53 * ln 2) = 8.57 deviations, because the uniform has 53
bits; the tail beyond it has probability 1e-17. Not covered: that floating-point numbers are not
real ones (Mironov 2012); the claim of privacy assumes real arithmetic and says so.
"""

import math
import os
from typing import Any

import numpy as np
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

PAIRS = 1 << 14  # normals are made in pairs; a block of 2^15 stays in the second-level cache
_WORD = 8  # bytes
_SPARE = 15  # bytes that `update_into` wants beyond its output
_UNIT = 2.0**-53  # a float64 holds 53 bits exactly


class NoiseSource:
    """An endless stream of normals that nobody can replay."""

    def __init__(self) -> None:
        self._stream = Cipher(algorithms.AES256(os.urandom(32)), modes.CTR(bytes(16))).encryptor()
        self._zeros = bytes(2 * PAIRS * _WORD)
        self._raw = bytearray(2 * PAIRS * _WORD + _SPARE)
        self._first, self._second = np.empty(PAIRS), np.empty(PAIRS)
        self._cosines = np.empty(PAIRS)

    def add(self, vector: NDArray[np.floating[Any]], std: float) -> None:
        """Add an independent N(0, std^2) draw to each coordinate of `vector` (d,), in place."""
        for start in range(0, vector.size, 2 * PAIRS):
            block = vector[start : start + 2 * PAIRS]
            pairs = (block.size + 1) // 2
            first, second = self._normals(pairs)
            for part, normals in ((block[:pairs], first), (block[pairs:], second)):
                normals *= std
                np.add(part, normals[: part.size], out=part, casting="same_kind")

    def _normals(self, pairs: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Box and Muller (1958): sqrt(-2 ln u) * (cos, sin)(2 pi v), u in (0, 1], v in [0, 1)."""
        size = 2 * pairs * _WORD
        self._stream.update_into(memoryview(self._zeros)[:size], self._raw)
        words = np.frombuffer(self._raw, np.uint64, 2 * pairs)
        words >>= np.uint64(11)
        first, second = self._first[:pairs], self._second[:pairs]
        np.copyto(first, words[:pairs])
        np.copyto(second, words[pairs:])
        # The functions are torch's, on the same memory: numpy's take three times as long.
        radius, angle = torch.from_numpy(first), torch.from_numpy(second)
        cosine = torch.from_numpy(self._cosines[:pairs])
        radius.add_(1).mul_(_UNIT).log_().mul_(-2).sqrt_()
        torch.cos(angle.mul_(2 * math.pi * _UNIT), out=cosine)
        angle.sin_().mul_(radius)
        radius.mul_(cosine)
        return first, second
