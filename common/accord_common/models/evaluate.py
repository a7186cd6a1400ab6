"""Score a model: on public rows at the coordinator; a node releases no metric of its own rows."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from accord_common.errors import DataError
from accord_common.models.flat import set_vector
from accord_common.models.task import Task
from accord_common.tables import Encoded

BATCH = 4096  # rows


def evaluate(
    task: Task, module: nn.Module, vector: NDArray[np.float32], table: Encoded
) -> dict[str, float]:
    """Return the task's metrics of the weights `vector` (d,) on `table`.

    Args:
        task: what is scored.
        module: from `task.build`; its weights are replaced by `vector`.
        vector: float32 (d,).
        table: public rows.

    Raises:
        DataError: `not-finite` where the model answers NaN or infinity.
    """
    return task.metrics(logits_of(module, vector, table), table.labels)


@torch.inference_mode()
def logits_of(
    module: nn.Module, vector: NDArray[np.float32], table: Encoded
) -> NDArray[np.float32]:
    """Return what the weights `vector` (d,) answer to each row, float32 (n, outputs).

    Raises:
        DataError: `not-finite`.
    """
    set_vector(module, vector)
    module.eval()
    parts = [
        module(torch.from_numpy(table.batch(slice(start, start + BATCH))))
        for start in range(0, table.rows, BATCH)
    ]
    logits: NDArray[np.float32] = torch.cat(parts).numpy()
    if not np.isfinite(logits).all():
        raise DataError("not-finite", "the model answers NaN or infinity to some row")
    return logits
