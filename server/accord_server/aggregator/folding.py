"""Add an upload to a sum piece by piece: whole, or not at all, or the sum is given up."""

from collections.abc import Callable, Iterator

import numpy as np

from accord_common.errors import ProtocolError
from accord_common.rings import Words


class SpoiledSum(Exception):
    """An upload is in the sum in part; the sum must never be used."""


def add_whole(total: Words, open_pieces: Callable[[], Iterator[Words]]) -> None:
    """Add consecutive pieces to `total` (d,) in place, modulo 2^k.

    Args:
        total: the accumulator.
        open_pieces: opens the upload from its start; called again to take back what was added.

    Raises:
        ProtocolError: a piece does not open; `total` is then as it was.
        SpoiledSum: anything else went wrong, or taking back did; `total` is worth nothing.
    """
    done = 0  # words
    try:
        for piece in open_pieces():
            block = total[done : done + piece.shape[0]]
            np.add(block, piece, out=block)
            done += piece.shape[0]
    except ProtocolError:
        _take_back(total[:done], open_pieces)
        raise
    except Exception as error:
        raise SpoiledSum(f"an upload was added in part: {error}") from error


def _take_back(added: Words, open_pieces: Callable[[], Iterator[Words]]) -> None:
    taken = 0
    try:
        pieces = open_pieces()
        while taken < added.shape[0]:
            piece = next(pieces)
            block = added[taken : taken + piece.shape[0]]
            np.subtract(block, piece, out=block)
            taken += piece.shape[0]
    except Exception as error:
        raise SpoiledSum(f"an upload cannot be taken back: {error}") from error
