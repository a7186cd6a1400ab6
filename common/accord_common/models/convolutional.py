"""Convolutional networks, by arguments."""

from collections import OrderedDict
from itertools import pairwise

from torch import nn

from accord_common.models.arguments import Arguments, activation, refusal, refuse_unknown, width
from accord_common.models.arguments import widths as widths_of
from accord_common.models.inputs import Pixels, Scaled

MAX_CONVOLUTIONS = 8  # each halves a side, and sides are at most 1024
MAX_CHANNELS = 1024
_KERNELS = ((8, 3), (4, 0))  # side and padding of the first kernel, and of each further one
_STRIDE = 2


def cnn(arguments: Arguments, pixels: Pixels, outputs: int) -> nn.Module:
    """Strided convolutions, each with an activation and a 2 x 2 maximum, then two linear layers.

    With its defaults and 28 x 28 grey pixels, the network of 26,010 parameters that DP-SGD on
    MNIST is mostly measured with (Papernot et al. 2021; Tramer & Boneh 2021, table 8).

    Arguments: `channels`, the widths of the convolutions, [16, 32] unless given; `hidden`, the
    width between the two linear layers, 32; `activation`, `tanh` or `relu`; `groups`, for a
    GroupNorm of so many groups after each convolution, none unless given.
    """
    refuse_unknown(arguments, "channels", "hidden", "activation", "groups")
    channels = widths_of(arguments, "channels", MAX_CONVOLUTIONS, [16, 32])
    if max(channels) > MAX_CHANNELS:
        raise refusal(f"channels is {channels!r}", f"Each is at most {MAX_CHANNELS}.")
    hidden, act = width(arguments, "hidden", 32), activation(arguments)
    layers: OrderedDict[str, nn.Module] = OrderedDict(scaled=Scaled(pixels))
    height, wide = pixels.height, pixels.width
    for number, (before, after) in enumerate(pairwise([pixels.channels, *channels]), 1):
        kernel, padding = _KERNELS[min(number, len(_KERNELS)) - 1]
        height, wide = _side(height, kernel, padding), _side(wide, kernel, padding)
        if min(height, wide) < 1:
            raise refusal(
                f"{pixels.height} x {pixels.width} pixels leave nothing to convolution {number}",
                f"Give `channels` of at most {number - 1} widths, or larger pictures.",
            )
        layers[f"conv{number}"] = nn.Conv2d(before, after, kernel, _STRIDE, padding)
        if "groups" in arguments:
            layers[f"norm{number}"] = _norm(width(arguments, "groups", 1), after)
        layers[f"act{number}"] = act()
        layers[f"pool{number}"] = nn.MaxPool2d(2, 1)
    layers["flat"] = nn.Flatten()
    layers["hidden"] = nn.Linear(channels[-1] * height * wide, hidden)
    layers["act"] = act()
    layers["head"] = nn.Linear(hidden, outputs)
    return nn.Sequential(layers)


def _side(pixels: int, kernel: int, padding: int) -> int:
    """Pixels of a side after a convolution and the maximum of two neighbours."""
    return (pixels + 2 * padding - kernel) // _STRIDE + 1 - 1


def _norm(groups: int, channels: int) -> nn.GroupNorm:
    if channels % groups:
        raise refusal(f"groups is {groups}, channels {channels}", "It must divide all `channels`.")
    return nn.GroupNorm(groups, channels)
