"""Poisson sampling: each row takes part in a step, independently, with probability q.

Guarantees: this is the sampler that the ledger's events name: every row's inclusion is its own draw
from the operating system's generator, never a shuffle, a fixed batch size or a seeded stream. The
probability is floor(q * 2^64) / 2^64, never above q. An empty sample is a sample and counts.
"""

import os
from collections.abc import Callable
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from accord_common.errors import UsageError

BLOCK = 1 << 16  # rows whose 64-bit words are drawn at once
_WORD = 8  # bytes


class PoissonSampler:
    """Draws the rows of one step after another.

    Args:
        rate: q as a decimal string, 0 < q <= 1, public and from the manifest.
        rows: how many rows the table has.
        random: returns that many random bytes; replaced in tests only.

    Raises:
        UsageError: `bad-sampling-rate`.
    """

    def __init__(
        self, rate: str, rows: int, *, random: Callable[[int], bytes] = os.urandom
    ) -> None:
        threshold = int(Decimal(rate) * 2**64)
        if not 0 < threshold <= 2**64:
            raise UsageError("bad-sampling-rate", f"q = {rate} is not in (0, 1]")
        self._everything = threshold == 2**64
        self._last = np.uint64(threshold - 1)  # a word up to it means: sampled
        self._rows = rows
        self._random = random

    def draw(self) -> NDArray[np.int64]:
        """Return the sampled row numbers, ascending, (b,) with b from 0 to all rows."""
        if self._everything:
            return np.arange(self._rows)
        parts = []
        for start in range(0, self._rows, BLOCK):
            count = min(BLOCK, self._rows - start)
            words = np.frombuffer(self._random(count * _WORD), "<u8")
            parts.append(start + np.flatnonzero(words <= self._last))
        return np.concatenate(parts) if parts else np.empty(0, np.int64)


def by_lot(
    rows: NDArray[np.int64], groups: int, *, random: Callable[[int], bytes] = os.urandom
) -> list[NDArray[np.int64]]:
    """Put each of `rows` (b,) into one of so many groups by a draw of its own.

    A row more or less leaves every other row where it is: sampled tables that differ in one row
    can be thought of as cut alike but for that row's group.

    Args:
        rows: ascending; each group is too.
        groups: how many; the choice among them is even to `groups` / 2^64.
        random: returns that many random bytes; replaced in tests only.
    """
    if groups == 1:
        return [rows]
    drawn = np.frombuffer(random(rows.size * _WORD), "<u8") % np.uint64(groups)
    order = np.argsort(drawn, kind="stable")
    return np.split(rows[order], np.searchsorted(drawn[order], np.arange(1, groups)))
