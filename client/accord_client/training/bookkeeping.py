"""Per-row gradients by book-keeping (Bu et al. 2022): one pass back, to the layers' outputs only.

Hooks keep each trainable layer's input and where its output stands in the graph; one
`autograd.grad` of the losses' sum gives the outputs' gradients; `rules` turns each pair into the
layer's gradients, row by row, mostly without writing them out. No batch gradient of any parameter
is ever computed.

Guarantees: a parameter used several times, by one layer or by several, gets the sum of its uses
before any norm is taken. A trainable parameter that reaches the losses by any other way than a
call of its layer is refused, and so is an input that was overwritten after its layer read it. The
module is as it was after `close`; frozen parameters have no part and cost nothing.

Edge cases: a parameter without part in the losses has no gradient, which counts as zero.

A module that mixes rows is refused at its first batch of two or more: there the first and the last
row's loss must have no gradient by what another row gave, in the data or in a layer's output.

Not covered: layers without a rule (`opacus_hooks`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge, saved_tensors_hooks

from accord_client.training.gradients import RowGradients
from accord_client.training.losses import losses_of
from accord_client.training.pooling import pool_channels_last
from accord_client.training.rules import Rule, rule_for
from accord_common.errors import UsageError
from accord_common.models.flat import trainable
from accord_common.models.task import Task

_GUESSED_BYTES = 32 << 20  # of a row that was never seen: eight rows at first


@dataclass(frozen=True, slots=True)
class _Call:
    """One call of a layer: its input, the input's version then, and its outputs' places."""

    layer: nn.Module
    rule: Rule
    inputs: Tensor
    version: int
    origin: GradientEdge | None  # where the input comes from, unless it is data
    outputs: tuple[GradientEdge, ...]


def trainable_layers(module: nn.Module) -> list[nn.Module]:
    """Layers that own a trainable parameter themselves."""
    return [
        layer
        for layer in module.modules()
        if any(value.requires_grad for value in layer.parameters(recurse=False))
    ]


def layer_without_rule(module: nn.Module) -> nn.Module | None:
    """Return a layer for which book-keeping has no rule, None if it has one for each."""
    return next((layer for layer in trainable_layers(module) if rule_for(layer) is None), None)


class BookKeeping:
    """An engine (see `step`) for modules of which `layer_without_rule` finds none.

    Attributes:
        bytes_per_row: what a row takes while its gradients are held: a guess before the first
            batch, then what that batch took.
    """

    def __init__(self, task: Task, module: nn.Module) -> None:
        self._task, self._module = task, module
        self._parameters = [value for _, value in trainable(module)]
        self._proved = False  # that rows stay apart, in a batch of two or more
        self.bytes_per_row = _GUESSED_BYTES
        self._calls: list[_Call] | None = None  # a list while a forward pass is recorded
        self._handles = pool_channels_last(module)
        for layer in trainable_layers(module):
            if (rule := rule_for(layer)) is None:
                raise _unsupported(layer, "it has no rule")
            keep = partial(self._keep, rule)
            self._handles.append(layer.register_forward_hook(keep, with_kwargs=True))

    def close(self) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()

    def gradients(self, features: Tensor, labels: Tensor) -> list[RowGradients | None]:
        """See `step.Engine`."""
        if self._proved:
            found, _ = self._book(*self._forward(features, labels))
        else:
            saved: dict[int, int] = {}
            with _watched(saved):
                if features.is_floating_point():
                    features.requires_grad_()
                # A copy, since a module may overwrite what it is given, and a leaf may not be.
                losses, calls = self._forward(features.clone(), labels)
                refuse_mixing_rows(losses, calls, features)
                found, outputs = self._book(losses, calls)
            for parameter in self._module.parameters():  # saved too, but not once a row
                saved.pop(parameter.untyped_storage().data_ptr(), None)
            held = sum(value.held() for value in found.values())
            # Outputs and their gradients live at once; what autograd saves may be neither.
            taken = sum(saved.values()) + 2 * outputs + held
            self.bytes_per_row, self._proved = taken // len(labels) + 1, len(labels) > 1
        return [found.get(id(parameter)) for parameter in self._parameters]

    def _book(self, losses: Tensor, calls: list[_Call]) -> tuple[dict[int, RowGradients], int]:
        """Gradients by the parameter's id, and the bytes of all outputs' gradients."""
        _refuse_other_ways(losses, calls, self._parameters)
        by_outputs = _by_outputs(losses, calls)
        found: dict[int, RowGradients] = {}
        for call, gradients in zip(calls, by_outputs, strict=True):
            if all(gradient is None for gradient in gradients):
                continue
            if call.inputs._version != call.version:
                raise _unsupported(call.layer, "its input was overwritten after it was read")
            for name, new in call.rule(call.layer, call.inputs, *gradients).items():
                parameter = getattr(call.layer, name, None)  # None for a bias that there is not
                if parameter is not None and parameter.requires_grad:
                    old = found.get(id(parameter))
                    found[id(parameter)] = new if old is None else old + new
        return found, sum(t.nbytes for gradients in by_outputs for t in gradients if t is not None)

    def _forward(self, features: Tensor, labels: Tensor) -> tuple[Tensor, list[_Call]]:
        """Losses (b,), and the calls that led to them."""
        calls: list[_Call] = []
        self._calls = calls
        try:
            losses = losses_of(self._task, self._module, features, labels)
        finally:
            self._calls = None
        for call in calls:
            if len(call.inputs) != len(labels):
                raise _unsupported(call.layer, "no gradient per row: its batch is another one")
        return losses, calls

    def _keep(
        self,
        rule: Rule,
        layer: nn.Module,
        inputs: tuple[object, ...],
        named: dict[str, object],
        output: object,
    ) -> None:
        """Record one call of a trainable layer."""
        outputs = [tensor for tensor in _tensors(output) if tensor.requires_grad]
        if self._calls is None or not outputs:
            return
        tensor = inputs[0] if len(inputs) == 1 else None
        if named or not isinstance(tensor, Tensor):
            raise _unsupported(layer, "it is called with other than one tensor")
        origin = get_gradient_edge(tensor) if tensor.requires_grad else None
        places = tuple(get_gradient_edge(tensor) for tensor in outputs)
        self._calls.append(_Call(layer, rule, tensor.detach(), tensor._version, origin, places))


def _tensors(output: object) -> list[Tensor]:
    """All tensors of a layer's output, from the first to the last."""
    if isinstance(output, tuple):
        return [tensor for part in output for tensor in _tensors(part)]
    return [output] if isinstance(output, Tensor) else []


def _by_outputs(losses: Tensor, calls: list[_Call]) -> list[tuple[Tensor | None, ...]]:
    """The losses' sum's gradients by each call's outputs; None where one has no part in it."""
    edges = [edge for call in calls for edge in call.outputs]
    if not edges or not losses.requires_grad:
        return [(None,) * len(call.outputs) for call in calls]
    taken = iter(torch.autograd.grad(losses.sum(), edges, allow_unused=True))
    return [tuple(islice(taken, len(call.outputs))) for call in calls]


def refuse_mixing_rows(losses: Tensor, calls: list[_Call], features: Tensor) -> None:
    """The first and the last row's loss must not depend on what another row gave."""
    places = [call.outputs[0] for call in calls]
    if features.requires_grad:
        places.append(get_gradient_edge(features))
    if not losses.requires_grad or not places:
        return
    for row, others in ((0, slice(1, None)), (-1, slice(None, -1))):
        taken: tuple[Tensor | None, ...] = torch.autograd.grad(
            losses[row], places, retain_graph=True, allow_unused=True
        )
        for gradient in taken:
            # Where another row is not finite, 0 times its derivative is NaN, and no dependence. An
            # infinite one is: no multiple of 0 is infinite.
            if gradient is not None and gradient[others].nan_to_num(0).any():
                raise UsageError(
                    "mixes-rows",
                    "a row's loss depends on another row of its batch, so no clip bounds a row",
                    hint="Keep rows apart: no statistics, attention or sums over the batch.",
                )


def _refuse_other_ways(losses: Tensor, calls: list[_Call], parameters: list[nn.Parameter]) -> None:
    """Walk the graph from the losses, around the recorded calls: no parameter may be met."""
    known = {id(parameter) for parameter in parameters}
    seen: set[Node] = {edge.node for call in calls for edge in call.outputs}
    edges = [call.origin for call in calls if call.origin is not None]
    waiting = [edge.node for edge in edges] + ([losses.grad_fn] if losses.grad_fn else [])
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        if id(getattr(node, "variable", None)) in known:
            raise UsageError(
                "unsupported-layer",
                "a trainable parameter is used outside its layer, where no gradient is kept",
                hint="Use parameters through the layers that own them.",
            )
        waiting += [following for following, _ in node.next_functions if following is not None]


@contextmanager
def _watched(saved: dict[int, int]) -> Iterator[None]:
    """Collect storage -> bytes of all that autograd saves within."""

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        yield


def _unsupported(layer: nn.Module, reason: str) -> UsageError:
    return UsageError(
        "unsupported-layer",
        f"{type(layer).__name__}: {reason}",
        hint="Give each layer one tensor, with the batch as first dimension.",
    )
