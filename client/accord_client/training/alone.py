"""What this institution's own rows give without anybody else: the model to hold a run against.

Guarantees: the run's architecture, start, samples, steps and rounds, on the training rows alone;
each round's update is added as it is, as `fedavg` with rate 1 does for a single site. Nothing of it
is released, so nothing is charged: with a run's noise it shows what privacy costs here alone.

Not covered: a choice of constants that would suit one institution better; they are the run's.
"""

import numpy as np
from numpy.typing import NDArray
from torch import nn

from accord_client.training import plain, train
from accord_client.training.train import LocalPlan
from accord_common.models.task import Task
from accord_common.privacy.events import NO_NOISE
from accord_common.tables import Encoded


def train_alone(
    task: Task,
    module: nn.Module,
    start: NDArray[np.float32],
    table: Encoded,
    plan: LocalPlan,
    rounds: int,
) -> NDArray[np.float32]:
    """Train all rounds on `table` and return the model, float32 (d,).

    Samples are fresh from the operating system's generator: two calls differ as two runs would.

    Args:
        task: gives each row's loss.
        module: the model; its trainable weights are overwritten.
        start: float32 (d,); not changed.
        table: training rows.
        plan: a run's constants; a noise multiplier of "0" is without privacy.
        rounds: how many.
    """
    private = plan.noise_multiplier != NO_NOISE
    train_round = train.train_round if private else plain.train_round
    vector = start.copy()
    for _ in range(rounds):
        vector += train_round(task, module, vector, table, plan)
    return vector
