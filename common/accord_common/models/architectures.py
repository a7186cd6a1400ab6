"""Architectures by name: a manifest names one, every node builds the same module from it.

Guarantees: what is built follows from name, arguments, inputs and outputs alone. A layer that mixes
rows (BatchNorm) is refused: with it, no gradient belongs to one row, so no clip protects that row.

Not covered: initial weights; they are public, made at the coordinator and sent (`flat`).
"""

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from accord_common.errors import UsageError

MAX_LAYERS = 32
MAX_WIDTH = 65_536
_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh}

Arguments = Mapping[str, Any]


def logistic_regression(arguments: Arguments, inputs: int, outputs: int) -> nn.Module:
    """One linear layer; no arguments."""
    _refuse_unknown(arguments, set())
    return nn.Sequential(nn.Linear(inputs, outputs))


def mlp(arguments: Arguments, inputs: int, outputs: int) -> nn.Module:
    """Linear layers with an activation between them.

    Arguments: `hidden`, the widths of the hidden layers, at least one; `activation`, `relu` or
    `tanh` (the default: bounded activations lose less to clipping, Papernot et al. 2021).
    """
    _refuse_unknown(arguments, {"hidden", "activation"})
    hidden, activation = arguments.get("hidden"), arguments.get("activation", "tanh")
    if (
        not isinstance(hidden, list)
        or not 1 <= len(hidden) <= MAX_LAYERS
        or not all(type(width) is int and 1 <= width <= MAX_WIDTH for width in hidden)
    ):
        raise _refusal(f"hidden is {hidden!r}", f"Give 1 to {MAX_LAYERS} widths up to {MAX_WIDTH}.")
    if not isinstance(activation, str) or activation not in _ACTIVATIONS:
        raise _refusal(f"activation is {activation!r}", f"Known: {', '.join(_ACTIVATIONS)}.")
    layers: list[nn.Module] = []
    for left, right in pairwise([inputs, *hidden]):
        layers += [nn.Linear(left, right), _ACTIVATIONS[activation]()]
    return nn.Sequential(*layers, nn.Linear(hidden[-1], outputs))


ARCHITECTURES: dict[str, Callable[[Arguments, int, int], nn.Module]] = {
    "logistic-regression": logistic_regression,
    "mlp": mlp,
}


def build(name: str, arguments: Arguments, inputs: int, outputs: int) -> nn.Module:
    """Make the module; its weights are whatever torch made them, to be set by `flat`.

    Args:
        name: a key of `ARCHITECTURES`.
        arguments: integers, strings and lists of them, as in the manifest.
        inputs: number of features.
        outputs: number of logits.

    Raises:
        UsageError: `unknown-architecture`, `bad-architecture` or `mixes-rows`.
    """
    try:
        make = ARCHITECTURES[name]
    except KeyError as error:
        raise UsageError(
            "unknown-architecture", f"{name!r} is not known", hint=f"Known: {', '.join(known())}."
        ) from error
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


def _refuse_unknown(arguments: Arguments, allowed: set[str]) -> None:
    if unknown := arguments.keys() - allowed:
        raise _refusal(f"unknown argument {min(unknown)!r}", f"Known: {sorted(allowed)}.")


def _refusal(message: str, hint: str) -> UsageError:
    return UsageError("bad-architecture", message, hint=hint)
