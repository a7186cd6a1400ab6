"""Weight files: what is read is what was written, or nothing."""

import json
import pickle

import numpy as np
import pytest
from safetensors.numpy import save as encode

from accord_common import vectors
from accord_common.errors import AccordError
from accord_common.weights import load, save

LAYOUT = vectors.layout([("z.weight", [2, 3]), ("a.bias", [2])])
VECTOR = np.linspace(-1, 2, 8, dtype=np.float32)


def test_a_file_carries_its_layout_in_order() -> None:
    layout, vector = load(save(VECTOR, LAYOUT, {"run": "breast cancer"}))
    assert layout == LAYOUT
    assert np.array_equal(vector, VECTOR)


def test_other_tools_see_plain_named_arrays() -> None:
    data = save(VECTOR, LAYOUT, {"run": "breast cancer"})
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert header["a.bias"]["shape"] == [2]
    assert header["__metadata__"]["run"] == "breast cancer"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "not-weights"),
        (pickle.dumps({"weight": [1.0]}), "not-weights"),
        (save(VECTOR, LAYOUT)[:-1], "not-weights"),
        (save(VECTOR, LAYOUT) + b"\0", "not-weights"),
        (encode({"a": VECTOR}), "not-weights"),
        (encode({"a": VECTOR}, {"accord.layout": '[["a", [7]]]'}), "bad-arrays"),
        (encode({"a": VECTOR}, {"accord.layout": '[["b", [8]]]'}), "bad-arrays"),
        (encode({"a": VECTOR.astype(np.float64)}, {"accord.layout": '[["a",[8]]]'}), "bad-arrays"),
        (encode({"a": VECTOR}, {"accord.layout": "[[]]"}), "not-weights"),
    ],
)
def test_anything_else_is_refused(data: bytes, code: str) -> None:
    with pytest.raises(AccordError, match=rf"\[{code}\]"):
        load(data)
