"""What a model is given of a row: numbers, an image or words.

A table's row is float32 (p,), and `Inputs` is then p. An image is float32 (C, H, W), each value 0
to 255 as stored; `Scaled` is the first layer of every model of images, so public constants of the
schema, and nothing that a node computes, scale them. Words are int64 (L,), see `words`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from accord_common.schema import Schema, TableSchema
from accord_common.text_schema import TextSchema

BRIGHTEST = 255


@dataclass(frozen=True, slots=True)
class Pixels:
    """Images (channels, height, width); `centre` and `scale` have one number a channel."""

    channels: int
    height: int
    width: int
    centre: tuple[float, ...]
    scale: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Words:
    """Sequences of `length` numbers, 0 (no word) to `numbers` - 1."""

    numbers: int
    length: int


Inputs = int | Pixels | Words


def inputs_of(schema: Schema) -> Inputs:
    """Return what a model of this schema's rows is given."""
    if isinstance(schema, TableSchema):
        return len(schema.features)
    if isinstance(schema, TextSchema):
        return Words(numbers=schema.numbers, length=schema.length)
    return Pixels(
        channels=schema.channels,
        height=schema.height,
        width=schema.width,
        centre=tuple(map(float, schema.centre)),
        scale=tuple(map(float, schema.scale)),
    )


class Scaled(nn.Module):
    """(x / 255 - centre) / scale for each channel; constants, not parameters."""

    centre: Tensor
    scale: Tensor

    def __init__(self, pixels: Pixels) -> None:
        super().__init__()
        for name, values in (("centre", pixels.centre), ("scale", pixels.scale)):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, C, H, W) for the same."""
        result: Tensor = (images / BRIGHTEST - self.centre) / self.scale
        return result
