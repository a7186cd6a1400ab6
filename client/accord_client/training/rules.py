"""How a layer's parameters get their gradient from its input and its output's gradient.

Guarantees: each rule sums over all positions at which one row uses a parameter before a norm is
taken, so no norm is too small by the number of positions. `rule_for` knows a layer by its exact
class and the names of its parameters; a subclass, a parametrised or an unknown layer has no rule.

Not covered: parameters that several layers or calls share; `bookkeeping` adds their gradients up.

Shapes: b rows, T positions; a rule takes the layer, its input (b, ...) and the losses' gradient by
its output, or by each of its outputs.
"""

import math
from collections.abc import Callable, Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from accord_client.training.gradients import Dense, Lookups, RowGradients, of_products
from accord_client.training.patches import convolution
from accord_client.training.recurrent import has_rule, recurrent

Gradients = Mapping[str, RowGradients]  # parameter name -> gradients
Rule = Callable[..., Gradients]  # of a layer, its input, and the gradients by its outputs


def rule_for(layer: nn.Module) -> Rule | None:
    """Return the rule of this layer, None if there is none."""
    names = {name for name, value in layer.named_parameters(recurse=False) if value.requires_grad}
    rule = _RULES.get(type(layer))
    if rule is None:
        return None
    if isinstance(layer, nn.LSTM | nn.GRU):
        return rule if has_rule(layer) and names <= set(layer._flat_weights_names) else None
    if not names <= {"weight", "bias"}:
        return None
    if isinstance(layer, nn.Embedding) and (
        layer.max_norm is not None or layer.scale_grad_by_freq or layer.sparse
    ):
        return None
    return rule


def _linear(layer: nn.Linear, inputs: Tensor, gradient: Tensor) -> Gradients:
    a = inputs.reshape(len(inputs), 1, -1, layer.in_features)  # (b, 1, T, i)
    g = gradient.reshape(len(inputs), 1, -1, layer.out_features)  # (b, 1, T, o)
    bias = Dense(g[:, 0, 0] if g.shape[2] == 1 else g.sum((1, 2)))
    return {"weight": of_products(a, g), "bias": bias}


def _embedding(layer: nn.Embedding, inputs: Tensor, gradient: Tensor) -> Gradients:
    vectors = gradient.reshape(len(inputs), -1, layer.embedding_dim)  # (b, T, D)
    indices = inputs.reshape(len(inputs), -1).long()
    return {"weight": Lookups.of(indices, vectors, layer.num_embeddings, layer.padding_idx)}


def _layer_norm(layer: nn.LayerNorm, inputs: Tensor, gradient: Tensor) -> Gradients:
    normal = F.layer_norm(inputs, layer.normalized_shape, eps=layer.eps)
    shape = (len(inputs), -1, math.prod(layer.normalized_shape))
    gradient = gradient.reshape(shape)  # (b, T, size)
    return {
        "weight": Dense((gradient * normal.reshape(shape)).sum(1)),
        "bias": Dense(gradient.sum(1)),
    }


def _group_norm(layer: nn.GroupNorm, inputs: Tensor, gradient: Tensor) -> Gradients:
    normal = F.group_norm(inputs, layer.num_groups, eps=layer.eps)
    shape = (*inputs.shape[:2], -1)
    gradient = gradient.reshape(shape)  # (b, C, positions)
    return {
        "weight": Dense((gradient * normal.reshape(shape)).sum(2)),
        "bias": Dense(gradient.sum(2)),
    }


_RULES: dict[type[nn.Module], Rule] = {
    nn.Linear: _linear,
    nn.Conv1d: convolution,
    nn.Conv2d: convolution,
    nn.Embedding: _embedding,
    nn.LayerNorm: _layer_norm,
    nn.GroupNorm: _group_norm,
    nn.LSTM: recurrent,
    nn.GRU: recurrent,
}
