"""Arguments of architectures, as strangers write them into manifests: checked and bounded."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from accord_common.errors import UsageError

MAX_LAYERS = 32
MAX_WIDTH = 65_536
ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh}

Arguments = Mapping[str, Any]


def refuse_unknown(arguments: Arguments, *allowed: str) -> None:
    """Refuse arguments of other names."""
    if unknown := arguments.keys() - set(allowed):
        raise refusal(f"unknown argument {min(unknown)!r}", f"Known: {sorted(allowed)}.")


def widths(
    arguments: Arguments, name: str, most: int = MAX_LAYERS, default: list[int] | None = None
) -> list[int]:
    """A list of 1 to `most` widths."""
    value = arguments.get(name, default)
    if (
        not isinstance(value, list)
        or not 1 <= len(value) <= most
        or not all(type(width) is int and 1 <= width <= MAX_WIDTH for width in value)
    ):
        raise refusal(f"{name} is {value!r}", f"Give 1 to {most} widths up to {MAX_WIDTH}.")
    return value


def width(arguments: Arguments, name: str, default: int) -> int:
    """A number from 1 to `MAX_WIDTH`."""
    value = arguments.get(name, default)
    if type(value) is not int or not 1 <= value <= MAX_WIDTH:
        raise refusal(f"{name} is {value!r}", f"Give a number from 1 to {MAX_WIDTH}.")
    return value


def activation(arguments: Arguments) -> type[nn.Module]:
    """`relu` or `tanh`.

    `tanh` is the default: bounded activations lose less to clipping (Papernot et al. 2021).
    """
    value = arguments.get("activation", "tanh")
    if not isinstance(value, str) or value not in ACTIVATIONS:
        raise refusal(f"activation is {value!r}", f"Known: {', '.join(ACTIVATIONS)}.")
    return ACTIVATIONS[value]


def refusal(message: str, hint: str) -> UsageError:
    """`bad-architecture`."""
    return UsageError("bad-architecture", message, hint=hint)
