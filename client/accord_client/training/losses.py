"""One loss a row, as both engines need it."""

from torch import Tensor, nn

from accord_common.errors import UsageError
from accord_common.models.task import Task


def losses_of(task: Task, module: nn.Module, features: Tensor, labels: Tensor) -> Tensor:
    """Each row's loss, (b,); `bad-task` where the task gives another shape."""
    losses = task.losses(module(features), labels)
    if losses.shape != labels.shape:
        raise UsageError(
            "bad-task", f"{task.name} gives losses {tuple(losses.shape)}, not one a row"
        )
    return losses
