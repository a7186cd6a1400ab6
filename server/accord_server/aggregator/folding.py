"""Add an upload to a sum piece by piece, whole or not at all."""

from collections.abc import Callable, Iterator

import numpy as np

from accord_common.errors import ProtocolError
from accord_common.rings import Words


def add_whole(total: Words, open_pieces: Callable[[], Iterator[Words]]) -> None:
    """Add consecutive pieces to `total` (d,) in place, modulo 2^k.

    Args:
        total: the accumulator.
        open_pieces: opens the upload from its start; called again to take back what was added.

    Raises:
        ProtocolError: a piece does not open; `total` is then as it was.
    """
    done = 0  # words
    try:
        for piece in open_pieces():
            block = total[done : done + piece.shape[0]]
            np.add(block, piece, out=block)
            done += piece.shape[0]
    except ProtocolError:
        pieces, taken = open_pieces(), 0
        while taken < done:
            piece = next(pieces)
            block = total[taken : taken + piece.shape[0]]
            np.subtract(block, piece, out=block)
            taken += piece.shape[0]
        raise
