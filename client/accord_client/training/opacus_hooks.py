"""Per-row gradients by Opacus' hooks: for modules with a layer that has no rule of our own.

Guarantees: each parameter's gradient is held row by row as Opacus gives it; a parameter for which
it gives none is refused, and so is a module that mixes the numbers of rows (`mixes-rows`). Opacus
supplies gradients here and nothing else, and keeps no state beyond `close`.

Not covered: mixing of looked-up rows, which have no gradient; speed: `bookkeeping` is up to a
hundred times faster. Tests use this one as the oracle.
"""

import torch
from opacus.grad_sample.grad_sample_module import GradSampleHooks
from torch import Tensor, nn

from accord_client.training.bookkeeping import refuse_mixing_rows
from accord_client.training.gradients import Dense, RowGradients
from accord_client.training.losses import losses_of
from accord_common.errors import UsageError
from accord_common.models.flat import trainable
from accord_common.models.task import Task

_LEFT_ON_LAYERS = ("activations", "max_batch_len")  # of Opacus, where a batch broke off
_HINT = "Use layers that Opacus supports, with the batch as first dimension."


class OpacusHooks:
    """An engine (see `step`); `close` leaves the module untouched.

    Raises:
        UsageError: `unsupported-layer` for trainable layers with buffers or without gradients by
            row, such as torch's attention.
    """

    def __init__(self, task: Task, module: nn.Module) -> None:
        _refuse_attention(module)
        self._task, self._module = task, module
        self._proved = False  # that rows stay apart, in a batch of two or more
        self._parameters = [value for _, value in trainable(module)]
        self.bytes_per_row = 4 * sum(parameter.numel() for parameter in self._parameters)
        self._planes = [
            layer.register_forward_pre_hook(_contiguous)
            for layer in module.modules()
            if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
        ]
        try:
            self._hooks = GradSampleHooks(module, loss_reduction="sum")
        except NotImplementedError as error:
            raise UsageError("unsupported-layer", str(error)) from error

    def close(self) -> None:
        """Remove what Opacus left on the module."""
        self._hooks.cleanup()
        for handle in self._planes:
            handle.remove()
        self._module.zero_grad(set_to_none=True)
        for layer in self._module.modules():
            for name in _LEFT_ON_LAYERS:
                vars(layer).pop(name, None)

    def gradients(self, features: Tensor, labels: Tensor) -> list[RowGradients | None]:
        """See `step.Engine`."""
        if not self._proved and len(labels) > 1:
            self._refuse_mixing_rows(features, labels)
        if features.is_floating_point():
            features.requires_grad_()  # else torch warns that hooks see no input gradient
        losses = losses_of(self._task, self._module, features, labels)
        try:
            torch.autograd.backward(losses.sum())
        except (AttributeError, RuntimeError, TypeError) as error:  # from rules that do not fit
            raise UsageError(
                "unsupported-layer",
                f"Opacus found no gradient per row: {type(error).__name__}",
                hint=_HINT,
            ) from error
        return [self._take(parameter, len(labels)) for parameter in self._parameters]

    def _refuse_mixing_rows(self, features: Tensor, labels: Tensor) -> None:
        """Raise `mixes-rows` as book-keeping does, but by the numbers that were given alone."""
        self._hooks.disable_hooks()
        try:
            given = features.clone()
            if given.is_floating_point():
                given.requires_grad_()
            losses = losses_of(self._task, self._module, given.clone(), labels)
            refuse_mixing_rows(losses, [], given)
        finally:
            self._hooks.enable_hooks()
        self._proved = True

    @staticmethod
    def _take(parameter: nn.Parameter, rows: int) -> RowGradients | None:
        """Take one parameter's per-row gradients and clear them."""
        sample = getattr(parameter, "grad_sample", None)
        gradient, parameter.grad = parameter.grad, None
        if sample is None and gradient is None:
            return None  # no part in this model's output
        if not isinstance(sample, Tensor) or sample.shape != (rows, *parameter.shape):
            raise UsageError(
                "unsupported-layer",
                f"no gradient per row for a parameter of shape {tuple(parameter.shape)}",
                hint=_HINT,
            )
        setattr(parameter, "grad_sample", None)  # noqa: B010 - Opacus' attribute, unknown to torch
        return Dense(sample.reshape(rows, -1))


def _contiguous(_: nn.Module, inputs: tuple[object, ...]) -> tuple[object, ...]:
    """Opacus 1.6 takes a convolution's patches as if planes lay one after the other."""
    return tuple(item.contiguous() if isinstance(item, Tensor) else item for item in inputs)


def _refuse_attention(module: nn.Module) -> None:
    """Say what to use instead: torch's attention multiplies by its parameters itself."""
    for name, layer in module.named_modules():
        if isinstance(layer, nn.MultiheadAttention) and any(
            value.requires_grad for value in layer.parameters()
        ):
            raise UsageError(
                "unsupported-layer",
                f"layer {name!r} is {type(layer).__name__}: its parameters have no gradient per "
                "row",
                hint="Use opacus.layers.DPMultiheadAttention(..., batch_first=True), or nn.Linear "
                "with torch.nn.functional.scaled_dot_product_attention.",
            )
