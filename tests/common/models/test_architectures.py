"""Architectures are built from names, weights are flat vectors."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from accord_common.errors import AccordError
from accord_common.models import architectures
from accord_common.models.flat import get_vector, initial_vector, layout_of, set_vector


def test_names_and_shapes_follow_from_the_arguments() -> None:
    module = architectures.build("mlp", {"hidden": [4, 3], "activation": "relu"}, 5, 2)
    assert layout_of(module).entries == (
        ("0.weight", (4, 5)),
        ("0.bias", (4,)),
        ("2.weight", (3, 4)),
        ("2.bias", (3,)),
        ("4.weight", (2, 3)),
        ("4.bias", (2,)),
    )
    assert layout_of(architectures.build("logistic-regression", {}, 30, 1)).dimension == 31


@pytest.mark.parametrize(
    ("name", "arguments", "code"),
    [
        ("resnet", {}, "unknown-architecture"),
        ("logistic-regression", {"hidden": [3]}, "bad-architecture"),
        ("mlp", {}, "bad-architecture"),
        ("mlp", {"hidden": []}, "bad-architecture"),
        ("mlp", {"hidden": [0]}, "bad-architecture"),
        ("mlp", {"hidden": [True]}, "bad-architecture"),
        ("mlp", {"hidden": [4.0]}, "bad-architecture"),
        ("mlp", {"hidden": [4], "activation": "sine"}, "bad-architecture"),
        ("mlp", {"hidden": [4], "activation": ["relu"]}, "bad-architecture"),
        ("mlp", {"hidden": [4], "dropout": 1}, "bad-architecture"),
    ],
)
def test_other_names_and_arguments_are_refused(
    name: str, arguments: dict[str, Any], code: str
) -> None:
    with pytest.raises(AccordError, match=rf"\[{code}\]"):
        architectures.build(name, arguments, 5, 1)


def test_batch_norm_is_refused_with_the_remedy() -> None:
    with pytest.raises(AccordError, match=r"mixes-rows.*'1'.*GroupNorm"):
        architectures.refuse_mixing(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))
    architectures.refuse_mixing(nn.Sequential(nn.Linear(2, 2), nn.GroupNorm(1, 2)))


def test_weights_go_in_and_out_as_one_vector() -> None:
    module = architectures.build("mlp", {"hidden": [4]}, 3, 2)
    vector = np.arange(26, dtype=np.float32)
    set_vector(module, vector)
    assert np.array_equal(get_vector(module), vector)
    first = next(module.parameters())
    assert first.tolist() == vector[:12].reshape(4, 3).tolist()
    with torch.no_grad():
        first.add_(1)
    assert vector[0] == 0  # the module holds a copy
    with pytest.raises(AccordError, match="bad-vector"):
        set_vector(module, vector[1:])
    with pytest.raises(AccordError, match="bad-layout"):
        layout_of(module.double())


def test_initial_weights_are_public_and_break_symmetry_only_where_needed() -> None:
    linear = architectures.build("logistic-regression", {}, 30, 1)
    assert not initial_vector(linear, 3).any()
    module = architectures.build("mlp", {"hidden": [400]}, 30, 2)
    vector = initial_vector(module, 3)
    assert np.array_equal(vector, initial_vector(module, 3))
    arrays = layout_of(module).unflatten(vector)
    assert not arrays["0.bias"].any()
    assert np.isclose(arrays["0.weight"].std(), 30**-0.5, rtol=0.03)  # Kaiming, gain 1
    assert not np.array_equal(vector, initial_vector(module, 4))
