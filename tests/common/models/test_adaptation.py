"""What is frozen stays out of the vector; adapters start as nothing and merge into their layers."""

import numpy as np
import pytest
import torch
from torch import nn

from accord_common.errors import AccordError
from accord_common.manifest import Adaptation, Lora
from accord_common.models import architectures
from accord_common.models.adaptation import adapt, initial_part, merged
from accord_common.models.flat import get_vector, initial_vector, layout_of, set_vector

HASH = "ab" * 32


def mlp() -> nn.Module:
    """Layers 0 (6 to 7), 2 (7 to 5) and 4 (5 to 3): 49 + 40 + 18 numbers."""
    module = architectures.build("mlp", {"hidden": [7, 5]}, 6, 3)
    set_vector(module, initial_vector(module, 1))
    return module


@pytest.mark.parametrize(
    ("frozen", "lora", "names", "dimension"),
    [
        (["0", "2"], None, ["4.weight", "4.bias"], 18),
        (["0.weight", "2", "4"], None, ["0.bias"], 7),
        (
            ["2", "4"],
            Lora(rank=2, layers=["0", "2"]),
            ["0.down.weight", "0.up.weight", "2.down.weight", "2.up.weight"],
            2 * (6 + 7) + 2 * (7 + 5),
        ),
        (
            ["2"],
            Lora(rank=1, layers=["0"]),
            ["0.down.weight", "0.up.weight", "4.weight", "4.bias"],
            13 + 18,
        ),
    ],
)
def test_the_vector_holds_what_is_trained_and_nothing_else(
    frozen: list[str], lora: Lora | None, names: list[str], dimension: int
) -> None:
    module = mlp()
    adapt(module, frozen, lora)
    layout = layout_of(module)
    assert [name for name, _ in layout.entries] == names
    assert layout.dimension == dimension == get_vector(module).size
    with torch.device("meta"):  # as a node looks at it before it consents
        other = architectures.build("mlp", {"hidden": [7, 5]}, 6, 3)
        adapt(other, frozen, lora)
    assert layout_of(other) == layout


def test_adapters_start_as_nothing_from_a_public_seed() -> None:
    features, base = torch.linspace(-2, 2, 24).view(4, 6), mlp()
    before = base(features)
    adapt(base, [], Lora(rank=2, layers=["0", "4"]))
    start = initial_part(base, 9)
    assert torch.equal(base(features), before)
    assert np.array_equal(initial_part(base, 9), start)
    assert not np.array_equal(initial_part(base, 10), start)
    arrays = layout_of(base).unflatten(start)
    assert arrays["0.down.weight"].all() and not arrays["0.up.weight"].any()


def test_a_layer_that_is_trained_starts_from_the_base() -> None:
    whole = get_vector(mlp())
    module = mlp()
    adapt(module, ["0", "2"], None)
    assert np.array_equal(initial_part(module, 5), whole[-18:])


def test_the_merged_model_is_the_plain_architecture_and_answers_alike() -> None:
    module, features = mlp(), torch.linspace(-2, 2, 54).view(9, 6)
    adapt(module, ["2"], Lora(rank=2, layers=["0", "4"]))
    part = initial_part(module, 1)
    set_vector(module, part + np.float32(0.2))
    arrays = merged(module)
    plain = mlp()
    layout = layout_of(plain)
    set_vector(plain, layout.flatten(arrays))
    assert torch.allclose(plain(features), module(features), atol=1e-5)
    assert np.array_equal(arrays["2.weight"], mlp().state_dict()["2.weight"].numpy())


@pytest.mark.parametrize(
    ("frozen", "lora", "code"),
    [
        (["5"], None, "unknown-layer"),
        (["0.weigh"], None, "unknown-layer"),
        ([], Lora(rank=1, layers=["6"]), "unknown-layer"),
        ([], Lora(rank=1, layers=["1"]), "not-linear"),
        ([], Lora(rank=4, layers=["4"]), "rank-out-of-range"),
        (["0", "2", "4"], None, "nothing-to-train"),
    ],
)
def test_what_cannot_be_adapted_is_refused_by_name(
    frozen: list[str], lora: Lora | None, code: str
) -> None:
    with pytest.raises(AccordError) as caught:
        adapt(mlp(), frozen, lora)
    assert caught.value.code == code and caught.value.hint


@pytest.mark.parametrize(
    "change",
    [
        {"frozen": []},
        {"frozen": ["2", "0"]},
        {"frozen": ["0", "0"]},
        {"frozen": ["0 "]},
        {"frozen": ["0..1"]},
        {"lora": {"rank": 0, "layers": ["0"]}},
        {"lora": {"rank": 1, "layers": []}},
        {"lora": {"rank": 1, "layers": ["2", "0"]}},
        {"dimension": 200_000_001},
    ],
)
def test_an_adaptation_has_one_way_to_be_written(change: dict[str, object]) -> None:
    body = {"base": HASH, "layout": HASH, "dimension": 9, "frozen": ["0"], "lora": None}
    assert Adaptation.model_validate(body).frozen == ["0"]
    with pytest.raises(ValueError):
        Adaptation.model_validate(body | change)
