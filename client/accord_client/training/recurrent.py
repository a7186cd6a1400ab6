"""LSTM and GRU: two linear maps a layer and direction, used at every step of a sequence.

torch runs a whole sequence in one operation, so what its linear maps gave is not kept. The rule
runs the layer once more, step by step, with the weights as constants, and asks autograd for the
gradients of the maps' outputs; the rest is as for a linear layer on T positions.

Guarantees: gradients of all steps are summed before a norm is taken. Several layers and both
directions are covered; the loss may depend on the sequence of outputs, the last states, or both.

Not covered, hence without a rule: dropout between layers (drawn anew, it would differ),
projections, a batch that is not first. An initial state or a packed sequence is refused when the
layer is called.

Shapes: b rows, T steps, i inputs, h hidden units; k = 4 gates of an LSTM, 3 of a GRU.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from accord_client.training.gradients import Dense, RowGradients, of_products
from accord_common.errors import UsageError

Recurrent = nn.LSTM | nn.GRU


@dataclass(frozen=True, slots=True)
class _Unrolled:
    """One layer in one direction: what its two maps read and gave."""

    suffix: str  # of its parameters' names
    inputs: Tensor  # (b, T, i)
    states: Tensor  # before each step, (b, T, h)
    from_inputs: Tensor  # (b, T, k h)
    from_states: list[Tensor]  # T times (b, k h)


def has_rule(layer: Recurrent) -> bool:
    """Whether `recurrent` covers the layer's options."""
    return (
        layer.batch_first and not layer.proj_size and (layer.num_layers == 1 or not layer.dropout)
    )


def recurrent(
    layer: Recurrent, inputs: Tensor, *gradients: Tensor | None
) -> dict[str, RowGradients]:
    """The rule of `LSTM` and `GRU`; see `rules`.

    Args:
        layer: one for which `has_rule` holds.
        inputs: (b, T, i).
        gradients: by the outputs (b, T, ...) and by the last states, one or two tensors.
    """
    if inputs.ndim != 3:
        raise UsageError("unsupported-layer", f"{type(layer).__name__}: a sequence without a batch")
    with torch.enable_grad():
        maps, outputs = _run(layer, inputs)
    ends = [(o, g) for o, g in zip(outputs, gradients, strict=True) if g is not None]
    taken = torch.autograd.grad(
        [output for output, _ in ends],
        [tensor for one in maps for tensor in (one.from_inputs, *one.from_states)],
        [gradient for _, gradient in ends],
        allow_unused=True,
        materialize_grads=True,
    )
    found: dict[str, RowGradients] = {}
    steps = inputs.shape[1]
    for position, one in enumerate(maps):
        by_inputs, *by_states = taken[position * (steps + 1) : (position + 1) * (steps + 1)]
        for name, read, gradient in (
            ("ih", one.inputs, by_inputs),
            ("hh", one.states, torch.stack(by_states, dim=1)),
        ):
            found[f"weight_{name}_{one.suffix}"] = of_products(
                read.unsqueeze(1), gradient.unsqueeze(1)
            )
            found[f"bias_{name}_{one.suffix}"] = Dense(gradient.sum(1))
    return found


def _run(layer: Recurrent, inputs: Tensor) -> tuple[list[_Unrolled], tuple[Tensor, ...]]:
    """Run all layers and directions; the outputs are as the layer's own, in one flat tuple."""
    maps, last, cells = [], [], []
    for number in range(layer.num_layers):
        directions = []
        for way in ("", "_reverse") if layer.bidirectional else ("",):
            read = inputs.flip(1) if way else inputs
            one, states, cell = _unroll(layer, f"l{number}{way}", read)
            maps.append(one)
            last.append(states[-1])
            cells.append(cell)
            sequence = torch.stack(states, dim=1)
            directions.append(sequence.flip(1) if way else sequence)
        inputs = torch.cat(directions, dim=2)
    if isinstance(layer, nn.LSTM):
        return maps, (inputs, torch.stack(last), torch.stack(cells))
    return maps, (inputs, torch.stack(last))


def _unroll(
    layer: Recurrent, suffix: str, inputs: Tensor
) -> tuple[_Unrolled, list[Tensor], Tensor]:
    """One layer in one direction; also its states after each step, and an LSTM's last cells."""
    step = _lstm if isinstance(layer, nn.LSTM) else _gru
    kept = {name: value.detach() for name, value in layer.named_parameters()}
    weight, bias = kept[f"weight_hh_{suffix}"], kept.get(f"bias_hh_{suffix}")
    from_inputs = F.linear(inputs, kept[f"weight_ih_{suffix}"], kept.get(f"bias_ih_{suffix}"))
    from_inputs = _tracked(from_inputs)
    state = cell = inputs.new_zeros(len(inputs), layer.hidden_size)
    before, from_states, states = [], [], []
    for gates in from_inputs.unbind(1):
        before.append(state.detach())
        from_states.append(_tracked(F.linear(state, weight, bias)))
        state, cell = step(gates, from_states[-1], state, cell)
        states.append(state)
    one = _Unrolled(suffix, inputs.detach(), torch.stack(before, 1), from_inputs, from_states)
    return one, states, cell


def _lstm(gates: Tensor, more: Tensor, _: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """One step, with the gates in torch's order; new state and cells, (b, h)."""
    enter, forget, new, leave = (gates + more).chunk(4, dim=1)
    cell = forget.sigmoid() * cell + enter.sigmoid() * new.tanh()
    return leave.sigmoid() * cell.tanh(), cell


def _gru(gates: Tensor, more: Tensor, state: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """One step, with the gates in torch's order; there are no cells."""
    reset, update, new = gates.chunk(3, dim=1)
    more_reset, more_update, more_new = more.chunk(3, dim=1)
    candidate = (new + (reset + more_reset).sigmoid() * more_new).tanh()
    kept = (update + more_update).sigmoid()
    return (1 - kept) * candidate + kept * state, cell


def _tracked(tensor: Tensor) -> Tensor:
    """The same tensor, with gradients from here on where nothing before it has them."""
    return tensor if tensor.requires_grad else tensor.requires_grad_()
