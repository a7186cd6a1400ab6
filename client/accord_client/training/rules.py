"""How a layer's parameters get their gradient from its input and its output's gradient.

Guarantees: each rule sums over all positions at which one row uses a parameter before a norm is
taken, so no norm is too small by the number of positions. `rule_for` knows a layer by its exact
class and the names of its parameters; a subclass, a parametrised or an unknown layer has no rule.

Not covered: parameters that several layers or calls share; `bookkeeping` adds their gradients up.

Shapes: b rows, T positions; a rule takes the layer, its input (b, ...) and the loss's gradient by
its output.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from accord_client.training.gradients import Dense, Lookups, Products, RowGradients

Gradients = Mapping[str, RowGradients]  # parameter name -> gradients
Rule = Callable[[Any, Tensor, Tensor], Gradients]  # layer, input, gradient by its output

_UNFOLDED_BYTES = 4 << 20  # patches copied at once, about what a second-level cache holds


def rule_for(layer: nn.Module) -> Rule | None:
    """Return the rule of this layer, None if there is none."""
    names = {name for name, value in layer.named_parameters(recurse=False) if value.requires_grad}
    rule = _RULES.get(type(layer))
    if rule is None or not names <= {"weight", "bias"}:
        return None
    if isinstance(layer, nn.Embedding) and (
        layer.max_norm is not None or layer.scale_grad_by_freq or layer.sparse
    ):
        return None
    return rule


def weight_of_products(inputs: Tensor, outputs: Tensor) -> RowGradients:
    """sum_t g_t a_t^T in its cheaper form; inputs (b, n, T, i), outputs (b, n, T, o)."""
    if Products.pay(inputs.shape[2], inputs.shape[3], outputs.shape[3]):
        return Products(inputs, outputs)
    return Dense((outputs.mT @ inputs).flatten(1))


def _linear(layer: nn.Linear, inputs: Tensor, gradient: Tensor) -> Gradients:
    a = inputs.reshape(len(inputs), 1, -1, layer.in_features)  # (b, 1, T, i)
    g = gradient.reshape(len(inputs), 1, -1, layer.out_features)  # (b, 1, T, o)
    return {"weight": weight_of_products(a, g), "bias": Dense(g.sum((1, 2)))}


def _convolution(
    layer: nn.Conv1d | nn.Conv2d, inputs: Tensor, gradient: Tensor
) -> Gradients:
    """Chen et al. (2006): a convolution is a linear map of its patches, position by position."""
    g = gradient.unflatten(1, (layer.groups, -1)).flatten(3)  # (b, n, o, T)
    width = layer.in_channels // layer.groups * math.prod(layer.kernel_size)
    positions, outputs = g.shape[3], g.shape[2]
    bias = Dense(g.sum(3).flatten(1))
    if Products.pay(positions, width, outputs):
        patches = _patches(layer, inputs).mT.contiguous()
        return {"weight": Products(patches, g.mT.contiguous()), "bias": bias}
    samples = g.new_empty(len(g), layer.groups, outputs, width)
    rows = max(1, _UNFOLDED_BYTES // (4 * layer.groups * width * positions))
    for start in range(0, len(g), rows):
        part = slice(start, start + rows)
        torch.matmul(g[part], _patches(layer, inputs[part]).mT, out=samples[part])
    return {"weight": Dense(samples.flatten(1)), "bias": bias}


def _patches(layer: nn.Conv1d | nn.Conv2d, inputs: Tensor) -> Tensor:
    """Each output position's part of the input, (b, n, i, T)."""
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    padded = F.pad(inputs, layer._reversed_padding_repeated_twice, mode=mode)
    lift = (1,) * (2 - len(layer.kernel_size))  # a line is an image of height 1
    columns = F.unfold(
        padded if not lift else padded.unsqueeze(2),
        lift + layer.kernel_size,
        dilation=lift + layer.dilation,
        stride=lift + layer.stride,
    )
    return columns.unflatten(1, (layer.groups, -1))


def _embedding(
    layer: nn.Embedding, inputs: Tensor, gradient: Tensor
) -> Gradients:
    vectors = gradient.reshape(len(inputs), -1, layer.embedding_dim)  # (b, T, D)
    indices = inputs.reshape(len(inputs), -1).long()
    return {"weight": Lookups.of(indices, vectors, layer.num_embeddings, layer.padding_idx)}


def _layer_norm(
    layer: nn.LayerNorm, inputs: Tensor, gradient: Tensor
) -> Gradients:
    normal = F.layer_norm(inputs, layer.normalized_shape, eps=layer.eps)
    shape = (len(inputs), -1, math.prod(layer.normalized_shape))
    gradient = gradient.reshape(shape)  # (b, T, size)
    return {
        "weight": Dense((gradient * normal.reshape(shape)).sum(1)),
        "bias": Dense(gradient.sum(1)),
    }


def _group_norm(
    layer: nn.GroupNorm, inputs: Tensor, gradient: Tensor
) -> Gradients:
    normal = F.group_norm(inputs, layer.num_groups, eps=layer.eps)
    shape = (*inputs.shape[:2], -1)
    gradient = gradient.reshape(shape)  # (b, C, positions)
    return {
        "weight": Dense((gradient * normal.reshape(shape)).sum(2)),
        "bias": Dense(gradient.sum(2)),
    }


_RULES: dict[type[nn.Module], Rule] = {
    nn.Linear: _linear,
    nn.Conv1d: _convolution,
    nn.Conv2d: _convolution,
    nn.Embedding: _embedding,
    nn.LayerNorm: _layer_norm,
    nn.GroupNorm: _group_norm,
}
