"""Per-row gradients, clipped and summed (Abadi et al. 2016, algorithm 1, "clip gradient").

Guarantees: adding or removing one row changes the sum by at most C in L2 norm (to float32's
rounding), whatever the row, the weights, or how a batch is cut into parts. A row whose gradient is
not finite, or so large that what it is multiplied by is no normal float32, counts as zero. A C
below `MIN_CLIPPING_NORM` is refused: squares that underflow would hide a norm from it. A layer that
mixes rows, or a parameter for which Opacus gives no gradient per row, is refused: nothing is
released unclipped.

Edge cases: an empty batch adds nothing; a zero gradient stays zero.

Not covered: noise and the division by q N (`train`), the account (the ledger): Opacus supplies
gradients here and nothing else, and keeps no state beyond `close`.
"""

from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from opacus.grad_sample.grad_sample_module import GradSampleHooks
from torch import Tensor, nn

from accord_common.errors import UsageError
from accord_common.models.architectures import refuse_mixing
from accord_common.models.flat import trainable
from accord_common.models.task import Task
from accord_common.privacy.events import MIN_CLIPPING_NORM
from accord_common.tables import Encoded

GRADIENT_BYTES = 256 << 20  # per-row gradients held at once; a larger batch is cut into parts
_LEFT_ON_LAYERS = ("activations", "max_batch_len")  # of Opacus, where a batch broke off
_NORM_BLOCK = 4096  # coordinates squared and summed in float32; longer sums lose per cents
_SMALLEST = torch.finfo(torch.float32).tiny  # smaller numbers round by up to their own size
MAX_PART = 1024  # rows; beyond it a part's speed no longer grows


class ClippedGradients:
    """Sums clipped per-row gradients of one module; a context manager that leaves it untouched.

    Only parameters that require a gradient count: in the norm, in the sum, in the parts of a batch.

    Args:
        task: gives each row's loss.
        module: the model; its present weights are used at each call.
        clip: C, the largest L2 norm of one row's gradient.

    Raises:
        UsageError: `mixes-rows`, `clip-too-small`, or `unsupported-layer` for trainable layers with
            buffers.
    """

    def __init__(self, task: Task, module: nn.Module, clip: float) -> None:
        refuse_mixing(module)
        if not clip >= float(MIN_CLIPPING_NORM):
            raise UsageError("clip-too-small", f"C = {clip}, at least {MIN_CLIPPING_NORM}")
        self._task, self._module, self._clip = task, module, clip
        self._parameters = [parameter for _, parameter in trainable(module)]
        dimension = sum(parameter.numel() for parameter in self._parameters)
        self._part = max(1, min(MAX_PART, GRADIENT_BYTES // (4 * dimension)))  # rows
        try:
            self._hooks = GradSampleHooks(module, loss_reduction="sum")
        except NotImplementedError as error:
            raise UsageError("unsupported-layer", str(error)) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._hooks.cleanup()
        self._module.zero_grad(set_to_none=True)
        for layer in self._module.modules():
            for name in _LEFT_ON_LAYERS:
                vars(layer).pop(name, None)

    def add_sum(
        self,
        table: Encoded,
        rows: NDArray[np.int64],
        total: NDArray[np.float32],
        factor: float = 1.0,
    ) -> None:
        """Add `factor` times the clipped gradients of `rows` (b,) of `table` to `total` (d,)."""
        self._module.train()
        flat = torch.from_numpy(total)
        for start in range(0, len(rows), self._part):
            part = rows[start : start + self._part]
            features = torch.from_numpy(table.features[part])
            self._backward(features, torch.from_numpy(table.labels[part]))
            self._add_clipped(len(part), flat, factor)

    def _backward(self, features: Tensor, labels: Tensor) -> None:
        if features.is_floating_point():
            features.requires_grad_()  # else torch warns that hooks see no input gradient
        losses = self._task.losses(self._module(features), labels)
        if losses.shape != labels.shape:
            raise UsageError(
                "bad-task", f"{self._task.name} gives losses {tuple(losses.shape)}, not one a row"
            )
        torch.autograd.backward(losses.sum())

    @torch.no_grad()
    def _add_clipped(self, rows: int, total: Tensor, factor: float) -> None:
        samples = [self._take(parameter, rows) for parameter in self._parameters]  # (b, size) each
        norm = _norms(samples)  # (b,)
        exact = (self._clip / norm).clamp(max=1) * factor
        usable = torch.isfinite(norm) & (exact.abs() >= _SMALLEST)
        factors = torch.where(usable, exact, 0).float()  # (b,)
        start = 0
        for sample in samples:
            if not usable.all():
                sample[~usable] = 0  # 0 * infinity would be NaN
            total[start : start + sample.shape[1]].addmv_(sample.T, factors)
            start += sample.shape[1]

    def _take(self, parameter: nn.Parameter, rows: int) -> Tensor:
        """Take one parameter's per-row gradients, (b, size), and clear them."""
        sample = getattr(parameter, "grad_sample", None)
        gradient, parameter.grad = parameter.grad, None
        if sample is None and gradient is None:
            return parameter.new_zeros(rows, parameter.numel())  # no part in this model's output
        if not isinstance(sample, Tensor) or sample.shape != (rows, *parameter.shape):
            raise UsageError(
                "unsupported-layer",
                f"no gradient per row for a parameter of shape {tuple(parameter.shape)}",
                hint="Use layers that Opacus supports, with the batch as first dimension.",
            )
        setattr(parameter, "grad_sample", None)  # noqa: B010 - Opacus' attribute, unknown to torch
        return sample.reshape(rows, -1)


def _norms(samples: list[Tensor]) -> Tensor:
    """Return each row's norm over all of `samples`, float64 (b,): short sums first, then exact."""
    parts = []
    for sample in samples:
        whole = sample.shape[1] // _NORM_BLOCK * _NORM_BLOCK
        if whole:
            blocks = sample[:, :whole].view(len(sample), -1, _NORM_BLOCK)
            parts.append(torch.linalg.vector_norm(blocks, dim=2))
        if whole < sample.shape[1]:
            parts.append(torch.linalg.vector_norm(sample[:, whole:], dim=1, keepdim=True))
    norm: Tensor = torch.linalg.vector_norm(torch.cat(parts, dim=1).double(), dim=1)
    return norm
