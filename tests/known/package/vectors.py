"""The vector that a site sends: whoever has its table and the round's model knows it."""

import hashlib

import numpy as np
from numpy.typing import NDArray

from accord_common.tables import Encoded

MOST = 2.0**-8  # below the bound of every plan of these tests, and no multiple of a step


def known_vector(model: NDArray[np.float32], table: Encoded) -> NDArray[np.float32]:
    """Return a vector (d,) that follows from its arguments; magnitudes are at most `MOST`.

    Other rows and other models give other vectors. One vector (d,) is allocated, no more.

    Args:
        model: what the round starts from, float32 (d,).
        table: the site's rows.
    """
    digest = hashlib.sha256(hashlib.sha256(np.ascontiguousarray(model).data).digest())
    digest.update(np.ascontiguousarray(table.features).data)
    digest.update(np.ascontiguousarray(table.labels).data)
    random = np.random.default_rng(int.from_bytes(digest.digest()))
    vector = random.random(model.size, np.float32)  # [0, 1)
    vector -= np.float32(0.5)
    vector *= np.float32(2 * MOST)
    return vector
