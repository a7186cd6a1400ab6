"""Networks of images and words follow from their arguments, and read what their schemas say."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from accord_common.errors import AccordError
from accord_common.models import architectures
from accord_common.models.evaluate import evaluate
from accord_common.models.flat import get_vector, initial_vector, layout_of, set_vector
from accord_common.models.image import ImageClassification
from accord_common.models.inputs import Pixels, Words
from accord_common.models.text import TextClassification
from accord_common.tables import Encoded
from tests.common.test_pictures import schema as of_images
from tests.common.test_words import schema as of_texts

MNIST = Pixels(1, 28, 28, (0.5,), (0.5,))
WORDS = Words(numbers=65, length=4)


def test_the_default_cnn_is_the_one_that_is_published() -> None:
    """Tramer & Boneh 2021, table 8; Opacus' MNIST example: 26,010 parameters."""
    module = architectures.build("cnn", {}, MNIST, 10)
    assert layout_of(module).entries == (
        ("conv1.weight", (16, 1, 8, 8)),
        ("conv1.bias", (16,)),
        ("conv2.weight", (32, 16, 4, 4)),
        ("conv2.bias", (32,)),
        ("hidden.weight", (32, 512)),
        ("hidden.bias", (32,)),
        ("head.weight", (10, 32)),
        ("head.bias", (10,)),
    )
    assert layout_of(module).dimension == 26_010
    published = nn.Sequential(
        nn.Conv2d(1, 16, 8, 2, padding=3), nn.Tanh(), nn.MaxPool2d(2, 1),
        nn.Conv2d(16, 32, 4, 2), nn.Tanh(), nn.MaxPool2d(2, 1), nn.Flatten(),
        nn.Linear(512, 32), nn.Tanh(), nn.Linear(32, 10),
    )  # fmt: skip
    set_vector(published, get_vector(module))
    images = torch.randint(0, 256, (3, 1, 28, 28)).float()
    assert torch.allclose(module(images), published((images / 255 - 0.5) / 0.5), atol=1e-5)


@pytest.mark.parametrize(
    ("pixels", "arguments"),
    [
        (Pixels(1, 8, 8, (0.5,), (0.5,)), {"channels": [8]}),
        (Pixels(3, 32, 32, (0.5,) * 3, (0.5,) * 3), {"groups": 4, "activation": "relu"}),
        (Pixels(3, 224, 160, (0.5,) * 3, (0.5,) * 3), {"channels": [8, 8, 8, 8], "hidden": 5}),
    ],
)
def test_a_cnn_fits_the_pictures(pixels: Pixels, arguments: dict[str, Any]) -> None:
    module = architectures.build("cnn", arguments, pixels, 3)
    assert module(torch.zeros(2, pixels.channels, pixels.height, pixels.width)).shape == (2, 3)
    norms = sum(isinstance(layer, nn.GroupNorm) for layer in module.modules())
    assert norms == (2 if "groups" in arguments else 0)


def test_each_channel_is_scaled_by_its_own_constants() -> None:
    pixels = Pixels(3, 1, 1, (0.2, 0.4, 0.6), (0.1, 0.2, 0.5))
    module = architectures.build("logistic-regression", {}, pixels, 1)
    set_vector(module, np.array([1, 10, 100, 0], np.float32))
    image = torch.tensor([51.0, 255.0, 0.0]).view(1, 3, 1, 1)
    assert module(image).item() == pytest.approx((0.2 - 0.2) / 0.1 + 10 * 3 - 100 * 1.2, abs=1e-3)
    hidden = architectures.build("mlp", {"hidden": [7]}, MNIST, 10)
    assert hidden(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


def randomised(name: str) -> nn.Module:
    """A network of words whose every weight counts, those of the number 0 too."""
    module = architectures.build(name, {}, WORDS, 3)
    random = np.random.default_rng(5)
    set_vector(module, random.normal(size=layout_of(module).dimension).astype(np.float32))
    return module


@pytest.mark.parametrize("name", ["embedding-mean", "gru"])
def test_what_fills_a_text_up_has_no_part_in_the_logits(name: str) -> None:
    module = randomised(name)
    short, filled = torch.tensor([[5, 9]]), torch.tensor([[5, 9, 0, 0]])
    assert torch.allclose(module(short), module(filled), atol=1e-6)
    assert not torch.allclose(module(short), module(torch.tensor([[5, 9, 9, 0]])), atol=1e-3)
    empty: Tensor = module(torch.zeros(1, 4, dtype=torch.int64))
    assert torch.allclose(empty, dict(module.named_parameters())["head.bias"])


def test_the_mean_forgets_the_order_and_the_state_does_not() -> None:
    one, other = torch.tensor([[5, 9, 7, 0]]), torch.tensor([[7, 9, 5, 0]])
    mean, state = randomised("embedding-mean"), randomised("gru")
    assert torch.allclose(mean(one), mean(other), atol=1e-6)
    assert not torch.allclose(state(one), state(other), atol=1e-3)


def test_initial_weights_follow_from_the_seed_alone() -> None:
    """A GRU's biases have names of their own, and torch starts them at random."""
    for name, inputs in (("gru", WORDS), ("cnn", MNIST), ("embedding-mean", WORDS)):
        one, other = (
            initial_vector(architectures.build(name, {}, inputs, 3), seed=4) for _ in "12"
        )
        assert np.array_equal(one, other) and np.abs(one).max() < 2
        assert np.ptp(one) > 0


@pytest.mark.parametrize(
    ("name", "arguments", "inputs", "code"),
    [
        ("cnn", {}, 30, "wrong-architecture.*'cnn' does not take a table's rows.*mlp"),
        ("cnn", {}, WORDS, "wrong-architecture.*texts.*embedding-mean, gru"),
        ("mlp", {"hidden": [3]}, WORDS, "wrong-architecture"),
        ("gru", {}, MNIST, "wrong-architecture.*images.*cnn"),
        ("cnn", {"channels": []}, MNIST, "bad-architecture.*channels is"),
        ("cnn", {"channels": [1] * 9}, MNIST, "bad-architecture.*channels is"),
        ("cnn", {"channels": [1025]}, MNIST, "bad-architecture.*at most 1024"),
        ("cnn", {"channels": [4, 4, 4]}, MNIST, "bad-architecture.*28 x 28 pixels.*convolution 3"),
        ("cnn", {"hidden": 0}, MNIST, "bad-architecture.*hidden is 0"),
        ("cnn", {"hidden": True}, MNIST, "bad-architecture.*hidden is True"),
        ("cnn", {"hidden": 65_537}, MNIST, "bad-architecture.*hidden"),
        ("cnn", {"groups": 3}, MNIST, "bad-architecture.*groups is 3"),
        ("cnn", {"groups": 0}, MNIST, "bad-architecture.*groups is 0"),
        ("cnn", {"kernel": 3}, MNIST, "bad-architecture.*'kernel'"),
        ("gru", {"embedding": "8"}, WORDS, "bad-architecture.*embedding"),
        ("gru", {"layers": 2}, WORDS, "bad-architecture.*'layers'"),
        ("embedding-mean", {"hidden": 8}, WORDS, "bad-architecture.*'hidden'"),
    ],
)
def test_other_arguments_and_inputs_are_refused(
    name: str, arguments: dict[str, Any], inputs: Any, code: str
) -> None:
    with pytest.raises(AccordError, match=code):
        architectures.build(name, arguments, inputs, 3)


def test_tasks_take_their_own_kind_and_either_target() -> None:
    images, texts = ImageClassification(), TextClassification()
    with pytest.raises(AccordError, match=r"wrong-kind.*images.*text"):
        images.build("cnn", {}, of_texts())
    with pytest.raises(AccordError, match=r"wrong-kind.*text.*images"):
        texts.build("gru", {}, of_images())
    small = of_images(height=16, width=16)
    assert images.build("cnn", {}, small)(torch.zeros(2, 1, 16, 16)).shape == (2, 2)
    three = of_texts(target={"type": "classes", "classes": ["a", "b", "c"]})
    assert texts.build("gru", {}, three)(torch.ones(2, 4, dtype=torch.int64)).shape == (2, 3)


def test_of_two_logits_the_difference_ranks_the_rows() -> None:
    """By its own logit alone, row 1 would look more like class 1 than row 0 does."""
    logits = np.array([[0, 1], [9, 3], [0, 2], [5, 0]], np.float32)
    assert ImageClassification().metrics(logits, np.array([1, 0, 1, 0])) == {
        "auc": 1.0,
        "accuracy": 1.0,
    }


def test_public_pictures_are_scored() -> None:
    task, contract = ImageClassification(), of_images(height=1, width=1)
    module = task.build("logistic-regression", {}, contract)
    table = Encoded(np.array([0, 10, 200, 255], np.uint8).reshape(4, 1, 1, 1), np.arange(4) // 2)
    weights = np.array([-1, 1, 0, 0], np.float32)
    assert evaluate(task, module, weights, table) == {"auc": 1.0, "accuracy": 1.0}
