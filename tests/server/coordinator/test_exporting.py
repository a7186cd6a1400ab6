"""Models for other software: what is written is the model, and no code."""

import importlib.util
from pathlib import Path
from unittest import mock

import numpy as np
import onnx
import pytest
import torch

from accord_common.errors import UsageError
from accord_common.models.architectures import build
from accord_common.models.inputs import Inputs, Pixels, Words
from accord_server.coordinator.exporting import (
    answers,
    example,
    export_onnx,
    export_torch,
    require_onnx,
)

IMAGES = Pixels(1, 12, 12, (0.5,), (0.5,))


@pytest.mark.parametrize(
    ("name", "arguments", "inputs"),
    [
        ("cnn", {"channels": [2], "hidden": 4, "groups": 1}, IMAGES),
        ("gru", {"embedding": 3, "hidden": 4}, Words(9, 5)),
    ],
)
def test_onnx_answers_what_the_model_answers(
    tmp_path: Path, name: str, arguments: dict[str, object], inputs: Inputs
) -> None:
    module, out = build(name, arguments, inputs, 2).eval(), tmp_path / "model.onnx"
    export_onnx(module, inputs, out, {"run": "one"})
    proto = onnx.load(out)
    assert [(item.key, item.value) for item in proto.metadata_props] == [("run", "one")]
    rows = example(inputs, 5)  # another number of rows than was traced
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
