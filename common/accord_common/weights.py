"""Weights in a file: safetensors bytes that carry their own layout.

Guarantees: a file holds arrays and text, never code; reading one executes nothing. `load` gives
back the vector that `save` was given, bit for bit, or refuses. The file's bytes are not what names
a model in a run: that is the hash of the flat vector (`manifest.model_hash`).

Needs safetensors, not torch: the aggregator reads such files too.
"""

import json
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as decode
from safetensors.numpy import save as encode

from accord_common import vectors
from accord_common.errors import FormatError
from accord_common.vectors import Layout

MAX_FILE_BYTES = (4 * vectors.MAX_DIMENSION) + (1 << 20)  # float32 numbers and the header
_LAYOUT = "accord.layout"  # metadata key; safetensors itself keeps no order of arrays


def save(
    vector: NDArray[np.float32], layout: Layout, metadata: Mapping[str, str] | None = None
) -> bytes:
    """Write a flat vector (d,) as named arrays; `bad-vector` where it does not fit the layout."""
    arrays = layout.unflatten(vector)
    entries = json.dumps([[name, list(shape)] for name, shape in layout.entries])
    return encode(arrays, dict(metadata or {}) | {_LAYOUT: entries})


def load(data: bytes) -> tuple[Layout, NDArray[np.float32]]:
    """Read what `save` wrote; the caller compares the layout's hash with the one it expects.

    Raises:
        FormatError: `not-weights`, `bad-layout`, or `bad-arrays` where layout and arrays differ.
    """
    if len(data) > MAX_FILE_BYTES:
        raise FormatError("not-weights", f"{len(data)} bytes, the bound is {MAX_FILE_BYTES}")
    try:
        arrays = decode(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        entries = json.loads(header["__metadata__"][_LAYOUT])
        layout = vectors.layout([(str(name), [int(n) for n in shape]) for name, shape in entries])
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise FormatError(
            "not-weights",
            f"not a safetensors file written by Accord: {error!r}",
            hint="Pickled weights (.pt, .pkl) are never read: they can run code.",
        ) from error
    return layout, layout.flatten(arrays)
