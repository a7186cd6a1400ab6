"""Architectures by name: a manifest names one, every node builds the same module from it.

Guarantees: what is built follows from name, arguments, inputs and outputs alone. A layer that mixes
rows (BatchNorm) is refused: with it, no gradient belongs to one row, so no clip protects that row.

Not covered: initial weights; they are public, made at the coordinator and sent (`flat`).
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from accord_common.errors import UsageError
from accord_common.models.arguments import Arguments, activation, refuse_unknown, widths
from accord_common.models.convolutional import cnn
from accord_common.models.inputs import Inputs, Pixels, Scaled, Words
from accord_common.models.sequence import embedding_mean, gru

Flat = int | Pixels  # what is read as one list of numbers


def logistic_regression(arguments: Arguments, inputs: Flat, outputs: int) -> nn.Module:
    """One linear layer; no arguments."""
    refuse_unknown(arguments)
    first, numbers = _flattened(inputs)
    return nn.Sequential(*first, nn.Linear(numbers, outputs))


def mlp(arguments: Arguments, inputs: Flat, outputs: int) -> nn.Module:
    """Linear layers with an activation between them.

    Arguments: `hidden`, the widths of the hidden layers, at least one; `activation`, `tanh` unless
    it is `relu`.
    """
    refuse_unknown(arguments, "hidden", "activation")
    hidden, act = widths(arguments, "hidden"), activation(arguments)
    layers, numbers = _flattened(inputs)
    for left, right in pairwise([numbers, *hidden]):
        layers += [nn.Linear(left, right), act()]
    return nn.Sequential(*layers, nn.Linear(hidden[-1], outputs))


_NAMES = {int: "a table's rows", Pixels: "images", Words: "texts"}
# What each takes, and how it is made.
ARCHITECTURES: dict[str, tuple[type | tuple[type, ...], Callable[[Arguments, Any, int], nn.Module]]]
ARCHITECTURES = {
    "cnn": (Pixels, cnn),
    "embedding-mean": (Words, embedding_mean),
    "gru": (Words, gru),
    "logistic-regression": ((int, Pixels), logistic_regression),
    "mlp": ((int, Pixels), mlp),
}


def build(name: str, arguments: Arguments, inputs: Inputs, outputs: int) -> nn.Module:
    """Make the module; its weights are whatever torch made them, to be set by `flat`.

    Args:
        name: a key of `ARCHITECTURES`.
        arguments: integers, strings and lists of them, as in the manifest.
        inputs: what the model is given of a row; of a table's, how many features.
        outputs: number of logits.

    Raises:
        UsageError: `unknown-architecture`, `wrong-architecture`, `bad-architecture` or
            `mixes-rows`.
    """
    try:
        takes, make = ARCHITECTURES[name]
    except KeyError as error:
        raise UsageError(
            "unknown-architecture", f"{name!r} is not known", hint=f"Known: {', '.join(known())}."
        ) from error
    if not isinstance(inputs, takes):
        given = _NAMES[type(inputs)]
        fit = [other for other, (types, _) in ARCHITECTURES.items() if isinstance(inputs, types)]
        raise UsageError(
            "wrong-architecture", f"{name!r} does not take {given}", hint=f"Take: {', '.join(fit)}."
        )
    module = make(arguments, inputs, outputs)
    refuse_mixing(module)
    return module


def known() -> list[str]:
    """Names of all architectures."""
    return sorted(ARCHITECTURES)


def refuse_mixing(module: nn.Module) -> None:
    """Refuse layers through which one row's gradient depends on other rows: `mixes-rows`."""
    for name, layer in module.named_modules():
        if isinstance(layer, _BatchNorm):
            raise UsageError(
                "mixes-rows",
                f"layer {name!r} is {type(layer).__name__}: its output mixes the rows of a batch, "
                "so no clip bounds what one row does",
                hint="Use torch.nn.GroupNorm or LayerNorm in its place.",
            )


def _flattened(inputs: Flat) -> tuple[list[nn.Module], int]:
    """Layers that make one list of numbers of a row, and how many numbers."""
    if isinstance(inputs, int):
        return [], inputs
    return [Scaled(inputs), nn.Flatten()], inputs.channels * inputs.height * inputs.width
