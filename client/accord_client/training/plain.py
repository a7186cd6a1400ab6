"""One round of local training without privacy: SGD on Poisson samples, for comparison alone.

Guarantees: samples, divisor q N and all other constants are those of `train`, so runs with and
without privacy differ in the clip of each row and in the noise, and in nothing else. Each step's
gradient, (sum over rows) / (q N), is scaled down to norm C at most (Pascanu, Mikolov, Bengio 2013,
algorithm 1), so no coordinate of the update exceeds K lr C but by float32's rounding, whatever the
rows are: that is what quantisation needs.

NOT guaranteed: anything about a row. What is returned may show whose rows were used and what they
say; `consent` lets it leave only where the agreement permits that.

Edge cases: an empty sample is a step of zero. A gradient that is not finite makes the update so,
and `rings.quantise` sends nothing of it. A plan with noise is refused: it is `train`'s.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from accord_client.data.sampling import PoissonSampler
from accord_client.training.losses import losses_of
from accord_client.training.pooling import pool_channels_last
from accord_client.training.step import MAX_PART
from accord_client.training.train import CPU, LocalPlan
from accord_common.errors import UsageError
from accord_common.models.architectures import refuse_mixing
from accord_common.models.flat import set_vector, trainable
from accord_common.models.task import Task
from accord_common.privacy.events import NO_NOISE
from accord_common.tables import Encoded
from accord_common.vectors import check_vector


def train_round(
    task: Task,
    module: nn.Module,
    vector: NDArray[np.float32],
    table: Encoded,
    plan: LocalPlan,
    *,
    threads: int = 1,
    device: torch.device = CPU,
) -> NDArray[np.float32]:
    """Train for one round and return the update.

    Args:
        task: gives each row's loss.
        module: from `task.build` or `adaptation.build`; its trainable weights are overwritten.
        vector: the round's model, float32 (d,); not changed.
        table: the institution's rows.
        plan: public constants; the noise multiplier is "0", C bounds a step's whole gradient.
        threads: how many torch may use, in this whole process.
        device: where to train; `module` is moved there and stays.

    Returns:
        New weights minus `vector`, float32 (d,).

    Raises:
        UsageError: `unexpected-noise`, `mixes-rows`, or `bad-task`.
    """
    if plan.noise_multiplier != NO_NOISE:
        raise UsageError(
            "unexpected-noise", f"noise multiplier {plan.noise_multiplier} where there is none"
        )
    refuse_mixing(module)
    check_vector(vector, vector.size)
    torch.set_num_threads(threads)
    module.to(device)
    divisor, most = float(plan.sampling_rate) * plan.population, float(plan.clipping_norm)
    sampler, rate = PoissonSampler(plan.sampling_rate, table.rows), float(plan.learning_rate)
    update = np.zeros_like(vector)
    module.train()
    hooks = pool_channels_last(module)
    try:
        for _ in range(plan.steps):
            set_vector(module, vector, update)
            total = _sum(task, module, table, sampler.draw(), device)  # (d,)
            norm = float(torch.linalg.vector_norm(total, dtype=torch.float64)) / divisor
            shorter = min(1.0, most / norm) if norm else 1.0
            torch.from_numpy(update).sub_(total.cpu(), alpha=rate * shorter / divisor)
    finally:
        for hook in hooks:
            hook.remove()
    return update


def _sum(
    task: Task,
    module: nn.Module,
    table: Encoded,
    rows: NDArray[np.int64],
    device: torch.device,
) -> Tensor:
    """The sum of the rows' gradients, float32 (d,)."""
    module.zero_grad(set_to_none=True)
    for start in range(0, len(rows), MAX_PART):
        part = rows[start : start + MAX_PART]
        features = torch.from_numpy(table.batch(part)).to(device)
        labels = torch.from_numpy(table.labels[part]).to(device)
        loss = losses_of(task, module, features, labels).sum()
        torch.autograd.backward(loss)  # adds to what is there
    parameters = [parameter for _, parameter in trainable(module)]
    gradients = [
        torch.zeros(item.numel(), device=device) if item.grad is None else item.grad.reshape(-1)
        for item in parameters
    ]
    module.zero_grad(set_to_none=True)
    return torch.cat(gradients)
