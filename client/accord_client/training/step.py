"""Per-row gradients, clipped and summed (Abadi et al. 2016, algorithm 1, "clip gradient").

Guarantees: adding or removing one row changes the sum by at most C in L2 norm, whatever the row,
the weights, or how a batch is cut into parts, but for rounding: a call with b rows sums them in
float32, which moves its sum by at most b^2 2^-24 C (0.004 C for 256 rows). Calls are added up in
float64; `train` makes one for each group of rows, and puts rows into groups by lot, so that one row
more touches its own group alone. A row whose gradient is not finite, or so large that C over its
norm is no normal float32, or of which a layer reads numbers beyond 1e30, counts as zero. A C below
`MIN_CLIPPING_NORM` is refused: squares that underflow would hide a norm from it. A layer that mixes
rows, or a parameter for which there is no gradient per row, is refused: nothing is released
unclipped. Frozen parameters have no part in the sum.

Edge cases: an empty batch adds nothing; a zero gradient stays zero.

Not covered: noise and the division by q N (`train`), the account (the ledger). Gradients come from
`bookkeeping` where each layer has a rule, else from `opacus_hooks`: the same sum in more time.
"""

from typing import Protocol, Self

import numpy as np
import structlog
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from accord_client.training.bookkeeping import BookKeeping, layer_without_rule
from accord_client.training.gradients import RowGradients
from accord_client.training.opacus_hooks import OpacusHooks
from accord_common.errors import UsageError
from accord_common.models.architectures import refuse_mixing
from accord_common.models.flat import trainable
from accord_common.models.task import Task
from accord_common.privacy.events import MIN_CLIPPING_NORM
from accord_common.tables import Encoded

GRADIENT_BYTES = 256 << 20  # held at once for a part's gradients; a larger batch is cut into parts
_SMALLEST = torch.finfo(torch.float32).tiny  # smaller numbers round by up to their own size
MAX_PART = 1024  # rows; beyond it a part's speed no longer grows

log = structlog.get_logger(__name__)


class Engine(Protocol):
    """Where per-row gradients come from; made for one module, on which it keeps hooks."""

    bytes_per_row: int

    def gradients(self, features: Tensor, labels: Tensor) -> list[RowGradients | None]:
        """Gradients of each row's loss by each trainable parameter, in the module's order.

        Args:
            features: float32 or int64 (b, ...), b at least 1.
            labels: int64 (b,).

        Returns:
            One entry a parameter; None where it has no part in the losses.

        Raises:
            UsageError: `bad-task`, or `unsupported-layer` where a gradient cannot be told by row.
        """

    def close(self) -> None:
        """Leave the module as it was."""


class ClippedGradients:
    """Sums clipped per-row gradients of one module; a context manager that leaves it untouched.

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
        self._module, self._clip = module, clip
        self._sizes = [value.numel() for _, value in trainable(module)]
        self._engine: Engine
        if (layer := layer_without_rule(module)) is None:
            self._engine = BookKeeping(task, module)
        else:
            log.debug("opacus-hooks", layer=type(layer).__name__)
            self._engine = OpacusHooks(task, module)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._engine.close()

    def add_sum(self, table: Encoded, rows: NDArray[np.int64], total: NDArray[np.float64]) -> None:
        """Add the clipped gradients of `rows` (b,) of `table` to `total` (d,), in place.

        d counts the trainable parameters, in the module's order.
        """
        self._module.train()
        flat, start = torch.from_numpy(total), 0
        while start < len(rows):
            most = max(1, min(MAX_PART, GRADIENT_BYTES // self._engine.bytes_per_row))
            part = rows[start : start + most]
            features = torch.from_numpy(table.batch(part))
            labels = torch.from_numpy(table.labels[part])
            self._add_clipped(self._engine.gradients(features, labels), flat)
            start += len(part)

    @torch.no_grad()
    def _add_clipped(self, gradients: list[RowGradients | None], total: Tensor) -> None:
        squares = [gradient.squares() for gradient in gradients if gradient is not None]
        if not squares:
            return
        exact = (self._clip / torch.stack(squares).sum(0).sqrt()).clamp(max=1)  # (b,)
        # Not so for NaN, and for an infinite norm exact is 0.
        factors = exact.where(exact >= _SMALLEST, 0).float()
        start = 0
        for gradient, size in zip(gradients, self._sizes, strict=True):
            if gradient is not None:
                gradient.add_to(total[start : start + size], factors)
            start += size
