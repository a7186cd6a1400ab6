"""Per-row gradients, clipped and summed (Abadi et al. 2016, algorithm 1, "clip gradient").

Guarantees: adding or removing one row changes the sum by at most C in L2 norm, whatever the row,
the weights, or how a batch is cut into parts, but for rounding: norms are right to 1e-5, and b rows
of a group are summed in float32, which moves that by at most b^2 2^-24 C (0.004 C for 256 rows).
Groups are added up in float64; `train` puts rows into groups by lot, so that one row more touches
its own group alone. A row whose gradient is not finite, or so large that C over its norm is no
normal float32, or of which a layer reads numbers beyond 1e30, counts as zero. A C below
`MIN_CLIPPING_NORM` is refused: squares that underflow would hide a norm from it. A layer that mixes
rows, or a parameter for which there is no gradient per row, is refused: nothing is released
unclipped. Frozen parameters have no part in the sum.

Clipping is `flat`, g min(1, C / |g|), or `automatic`, g C / (|g| + gamma) with gamma = 0.01 (Bu et
al. 2023, "Automatic Clipping", AUTO-S): each row then weighs about C, whatever its loss, and C and
the learning rate are one number to tune. Both keep a row below C.

Edge cases: an empty batch adds nothing; a zero gradient stays zero.

Not covered: libraries that round a row by how many are beside it. MKL, oneDNN and cuBLAS choose
kernels by a batch's size, so one row more may move the last bit of others' gradients in its group;
weights can be chosen to amplify that, and no clip sees it. That part of "real arithmetic" is
assumed. Nor noise and the division by q N (`train`), or the account (the ledger). Gradients come
from `bookkeeping` where each layer has a rule, else from `opacus_hooks`: the same sum in more time.
"""

from collections.abc import Iterable, Iterator
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
from accord_common.manifest import Clipping
from accord_common.models.architectures import refuse_mixing
from accord_common.models.flat import device_of, trainable
from accord_common.models.task import Task
from accord_common.privacy.events import MIN_CLIPPING_NORM
from accord_common.tables import Encoded

GRADIENT_BYTES = 256 << 20  # held at once for a part's gradients; a larger batch is cut into parts
_SMALLEST = torch.finfo(torch.float32).tiny  # smaller numbers round by up to their own size
AUTOMATIC_GAMMA = 0.01  # Bu et al. 2023, algorithm 1, line 4
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
        module: the model, on the device to work on; its present weights are used at each call.
        clip: C, the largest L2 norm of one row's gradient.
        clipping: `flat` or `automatic`.
        part_bytes: held at once for a part's gradients; a larger batch is cut into parts.

    Raises:
        UsageError: `mixes-rows`, `clip-too-small`, or `unsupported-layer` for trainable layers with
            buffers.
    """

    def __init__(
        self,
        task: Task,
        module: nn.Module,
        clip: float,
        clipping: Clipping = "flat",
        part_bytes: int = GRADIENT_BYTES,
    ) -> None:
        refuse_mixing(module)
        if not clip >= float(MIN_CLIPPING_NORM):
            raise UsageError("clip-too-small", f"C = {clip}, at least {MIN_CLIPPING_NORM}")
        self._module, self._clip, self._clipping = module, clip, clipping
        self._part_bytes = part_bytes
        sizes = [value.numel() for _, value in trainable(module)]
        self._device = device_of(module)
        self._total = torch.zeros(sum(sizes), dtype=torch.float64, device=self._device)
        self._places = torch.split(self._total, sizes)  # one a parameter
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

    def sum(self, table: Encoded, groups: Iterable[NDArray[np.int64]]) -> NDArray[np.float64]:
        """Sum the clipped gradients of all `groups` of rows, each (b,), of `table`.

        Returns:
            (d,), d counting the trainable parameters in the module's order; the next call
            overwrites it.
        """
        self._module.train()
        first = True
        for part in self._parts(groups):
            features = torch.from_numpy(table.batch(part)).to(self._device)
            labels = torch.from_numpy(table.labels[part]).to(self._device)
            self._take(self._engine.gradients(features, labels), first)
            first = False
        if first:
            self._total.zero_()
        return self._total.cpu().numpy()

    def _parts(self, groups: Iterable[NDArray[np.int64]]) -> Iterator[NDArray[np.int64]]:
        """Groups cut into parts that memory allows for; none is empty."""
        for rows in groups:
            start = 0
            while start < len(rows):
                most = max(1, min(MAX_PART, self._part_bytes // self._engine.bytes_per_row))
                yield rows[start : start + most]
                start += most

    @torch.no_grad()
    def _take(self, gradients: list[RowGradients | None], first: bool) -> None:
        """Store the first part's sum, so that nothing has to be cleared, and add later ones."""
        squares = [gradient.squares() for gradient in gradients if gradient is not None]
        if not squares:
            if first:
                self._total.zero_()
            return
        norms = torch.stack(squares).sum(0).sqrt()  # (b,)
        if self._clipping == "automatic":
            exact = self._clip / (norms + AUTOMATIC_GAMMA)
        else:
            exact = (self._clip / norms).clamp(max=1)
        # Not so for NaN, and for an infinite norm exact is 0.
        factors = exact.where(exact >= _SMALLEST, 0).float()
        for gradient, place in zip(gradients, self._places, strict=True):
            if gradient is not None:
                part = gradient.weighted_sum(factors)
                place.copy_(part) if first else place.add_(part)
            elif first:
                place.zero_()
