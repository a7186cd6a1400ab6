"""A convolution's gradients by row: a linear map of patches (Chen et al. 2006), with few copies.

Guarantees: any stride, dilation, groups, padding and padding mode of `Conv1d` and `Conv2d`. Copies
take `_COPIED_BYTES` at a time, whatever the batch.

Copying patches takes longer than multiplying them. So inputs are laid out channels last, and an
image's patches share the rows of pixels in which they overlap: Q matrix products, each with R rows
of the kernel, read the same copy at Q places.

Shapes: b rows, n groups, T output positions, i inputs of a patch, o outputs of a group.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from accord_client.training.gradients import Dense, Kernels, Products, RowGradients

_COPIED_BYTES = 1 << 20  # they stay in a second-level cache

Convolution = nn.Conv1d | nn.Conv2d


def convolution(layer: Convolution, inputs: Tensor, gradient: Tensor) -> dict[str, RowGradients]:
    """The rule of `Conv1d` and `Conv2d`; see `rules`."""
    g = gradient.reshape(len(inputs), layer.groups, -1, gradient[0, 0].numel())  # (b, n, o, T)
    bias = Dense(g.sum(3).flatten(1))
    positions, width = g.shape[3], layer.weight[0].numel()
    if Products.pay(positions, width, g.shape[2]):
        patches = _patches(layer, inputs, gradient.shape[2:], layer.kernel_size[0], 0)
        patches = patches.movedim(-1, 2 + len(layer.kernel_size))
        a = patches.reshape(*g.shape[:2], positions, width)
        return {"weight": Products(a, g.mT), "bias": bias}
    return {"weight": _instantiated(layer, inputs, gradient), "bias": bias}


def _instantiated(layer: Convolution, inputs: Tensor, gradient: Tensor) -> Kernels:
    rows, pieces, shift = _split(layer)  # R, Q, how many rows of positions from piece to piece
    patches = _patches(layer, inputs, gradient.shape[2:], rows, shift * (pieces - 1))
    line = math.prod(gradient.shape[3:])  # positions
    channels, width = patches.shape[-1], math.prod(patches.shape[2 + len(layer.kernel_size) :])
    g = gradient.reshape(len(inputs), layer.groups, -1, gradient[0, 0].numel())  # (b, n, o, T)
    samples = g.new_empty(pieces, *g.shape[:3], width)
    batch = max(1, _COPIED_BYTES // (4 * patches[0].numel()))
    kept = g.new_empty(min(batch, len(g)) * patches[0].numel())  # the same memory, still in cache
    for start in range(0, len(g), batch):
        part = slice(start, start + batch)
        copied = kept[: patches[part].numel()]
        _copy(patches[part], copied)
        flat, left = copied.view(-1, patches.shape[2] * line, width), g[part].flatten(0, 1)
        for piece in range(pieces):
            first = piece * shift * line
            right = flat[:, first : first + g.shape[3]]
            torch.bmm(left, right, out=samples[piece, part].flatten(0, 1))
    rest = layer.kernel_size[1:]
    return Kernels(samples.view(pieces, len(g), layer.out_channels, rows, *rest, channels))


def _split(layer: Convolution) -> tuple[int, int, int]:
    """Rows of the kernel that one product takes, how many products, and the shift between them."""
    kernel, stride, dilation = layer.kernel_size[0], layer.stride[0], layer.dilation[0]
    if len(layer.kernel_size) == 1:
        return kernel, 1, 0  # a line has no rows to share
    if stride == 1:
        return 1, kernel, dilation
    if dilation == 1 and kernel % stride == 0:
        return stride, kernel // stride, 1
    return kernel, 1, 0


def _patches(
    layer: Convolution, inputs: Tensor, positions: torch.Size, rows: int, more: int
) -> Tensor:
    """The input under `rows` rows of the kernel at each position and `more` rows of positions.

    Returns:
        A view, (b, n, *positions, rows, *rest of the kernel, channels).
    """
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    padded = inputs
    if any(layer._reversed_padding_repeated_twice):
        padded = F.pad(inputs, layer._reversed_padding_repeated_twice, mode=mode)
    padded = padded.movedim(1, -1).contiguous()  # channels last: what is copied lies together
    row, *steps, _ = padded.stride()
    channels = layer.in_channels // layer.groups
    return padded.as_strided(
        (
            len(padded),
            layer.groups,
            positions[0] + more,
            *positions[1:],
            rows,
            *layer.kernel_size[1:],
            channels,
        ),
        (
            row,
            channels,
            *(step * stride for step, stride in zip(steps, layer.stride, strict=True)),
            *(step * dilation for step, dilation in zip(steps, layer.dilation, strict=True)),
            1,
        ),
    )


def _copy(patches: Tensor, place: Tensor) -> None:
    """Copy `patches` into `place`, contiguous float32 of the same size.

    On the CPU numpy does, which moves numbers that lie together at once; torch takes one by one.
    """
    if not patches.is_cpu:
        place.view(patches.shape).copy_(patches)
        return
    run, outer = 1, patches.ndim  # numbers that lie together, and the dimensions around them
    while outer and patches.stride(outer - 1) == run:
        outer -= 1
        run *= patches.shape[outer]
    together, shape = f"V{4 * run}", patches.shape[:outer]
    whole = patches.as_strided((patches.untyped_storage().nbytes() // 4,), (1,), 0).numpy()
    steps = [4 * step for step in patches.stride()[:outer]]  # bytes
    given = np.ndarray(shape, together, whole, 4 * patches.storage_offset(), steps)
    np.copyto(place.numpy().view(together).reshape(shape), given)
