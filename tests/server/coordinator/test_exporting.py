"""Models for other software: what is written is the model, and no code."""

import importlib.util
from pathlib import Path
from unittest import mock

import numpy as np
import onnx
import pytest
import torch

from accord_common.errors import UsageError, VerificationError
from accord_common.models.architectures import build
from accord_common.models.inputs import Inputs, Pixels, Words
from accord_server.coordinator.exporting import (
    answers,
    example,
    export_onnx,
    export_torch,
    require_onnx,
)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("gru", {"embedding": 3, "hidden": 4}), ("embedding-mean", {"embedding": 3})],
)
def test_onnx_answers_what_the_model_answers(
    name: str, arguments: dict[str, int], tmp_path: Path
) -> None:
    inputs, out = Words(9, 5), tmp_path / "model.onnx"  # gru's batch was once fixed by the trace
    module = build(name, arguments, inputs, 2).eval()
    export_onnx(module, inputs, out, {"run": "one"})
    proto = onnx.load(out)
    assert [(item.key, item.value) for item in proto.metadata_props] == [("run", "one")]
    rows = example(inputs, 5)  # another number of rows than was traced
    rows[0], rows[1, 1:] = 0, 0  # a text without a word, and one of a single word
    np.testing.assert_allclose(answers(proto, rows), module(rows).detach().numpy(), 1e-4, 1e-5)


def test_a_state_dict_is_read_without_running_code(tmp_path: Path) -> None:
    module, out = build("mlp", {"hidden": [4]}, 3, 2), tmp_path / "model.pt"
    export_torch(module, out)
    state = torch.load(out, weights_only=True)
    assert all(torch.equal(state[name], value) for name, value in module.state_dict().items())
    other = build("mlp", {"hidden": [4]}, 3, 2)
    other.load_state_dict(state)
    assert out.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("name", ["onnx", "onnxscript"])
def test_without_the_extra_the_remedy_is_named(name: str) -> None:
    find = importlib.util.find_spec
    missing = "accord_server.coordinator.exporting.find_spec"
    with (
        mock.patch(missing, lambda wanted: None if wanted == name else find(wanted)),
        pytest.raises(UsageError, match=rf"\[export-extra-missing\] ONNX needs {name}.*--format"),
    ):
        require_onnx()


def test_what_answers_otherwise_is_not_written(tmp_path: Path) -> None:
    out = tmp_path / "model.onnx"
    with (
        mock.patch("accord_server.coordinator.exporting.answers", lambda *_: np.zeros((3, 2))),
        pytest.raises(VerificationError, match=r"\[export-differs\]"),
    ):
        export_onnx(build("mlp", {"hidden": [4]}, 3, 2), 3, out, {})
    assert not out.exists()


@pytest.mark.parametrize(
    ("inputs", "shape"),
    [(3, (2, 3)), (Words(9, 5), (2, 5)), (Pixels(1, 6, 4, (0.5,), (0.5,)), (2, 1, 6, 4))],
)
def test_examples_have_the_shape_of_what_models_are_given(
    inputs: Inputs, shape: tuple[int, ...]
) -> None:
    assert example(inputs, 2).shape == shape
