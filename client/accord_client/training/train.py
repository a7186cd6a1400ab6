"""One round of local training: DP-SGD on Poisson samples (Abadi et al. 2016, algorithm 1).

Guarantees: the update is -lr / (q N) * sum over K steps of (clipped gradient sum + noise), noise
N(0, (sigma C)^2). Each step is a Poisson-subsampled Gaussian mechanism with exactly the constants
of the plan, so the ledger's event {q, sigma, K} covers all that leaves: no loss, count or batch
size is returned. q, N and all other constants are public; the number of rows shapes nothing but the
random samples. Nothing is kept from one round to the next: no optimiser state, generator or hook.
A step's sum is float64 until it is noised; each row falls into a group of some `GROUP` by lot, and
how many groups there are follows from q N, so that another row's rounding is its group's alone
(see `step`).

Edge cases: an empty sample is a step of noise alone. A plan without noise is refused.

Not covered: whether the plan may run (`consent`), and what it costs (`ledger`); both are asked
before.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from accord_client.data.sampling import PoissonSampler, by_lot
from accord_client.training.noise import NoiseSource
from accord_client.training.step import GRADIENT_BYTES, ClippedGradients
from accord_common.errors import UsageError
from accord_common.manifest import Clipping
from accord_common.models.flat import set_vector
from accord_common.models.task import Task
from accord_common.tables import Encoded
from accord_common.vectors import check_vector

CPU = torch.device("cpu")
GROUP = 256  # rows, on average: enough for a part's speed, few enough for float32's sums
BLOCK = 1 << 15  # coordinates; their rounded copy stays in a second-level cache


@dataclass(frozen=True, slots=True)
class LocalPlan:
    """The public constants of a round, from the manifest and the agreement; decimals as there.

    Attributes:
        steps: K, Poisson samples a round.
        sampling_rate: q.
        population: N, the dataset's public size; q N divides the sum.
        clipping_norm: C.
        noise_multiplier: sigma; the noise has standard deviation sigma * C.
        learning_rate: lr.
        clipping: which rows are shortened to C; see `step`.
    """

    steps: int
    sampling_rate: str
    population: int
    clipping_norm: str
    noise_multiplier: str
    learning_rate: str
    clipping: Clipping = "flat"


def train_round(
    task: Task,
    module: nn.Module,
    vector: NDArray[np.float32],
    table: Encoded,
    plan: LocalPlan,
    *,
    threads: int = 1,
    device: torch.device = CPU,
    part_bytes: int = GRADIENT_BYTES,
) -> NDArray[np.float32]:
    """Train for one round and return the update.

    Args:
        task: gives each row's loss.
        module: from `task.build` or `adaptation.build`; its trainable weights are overwritten.
        vector: the round's model, float32 (d,); not changed.
        table: the institution's rows.
        plan: public constants; charged to the ledger before this call.
        threads: how many torch may use, in this whole process.
        device: where to train; `module` is moved there and stays.
        part_bytes: how much a part's gradients may take.

    Returns:
        New weights minus `vector`, float32 (d,): noised, the only thing that may leave.

    Raises:
        UsageError: `no-noise`, or a model that `ClippedGradients` refuses.
    """
    clip, sigma = float(plan.clipping_norm), float(plan.noise_multiplier)
    if not (clip > 0 and sigma > 0):
        raise UsageError("no-noise", f"clip {clip} and noise multiplier {sigma} must exceed 0")
    check_vector(vector, vector.size)
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("highest")  # whatever a task asked for, sums are float32's
    torch.backends.cudnn.allow_tf32 = False
    module.to(device)
    scale = float(plan.learning_rate) / (float(plan.sampling_rate) * plan.population)
    sampler, noise = PoissonSampler(plan.sampling_rate, table.rows), NoiseSource()
    groups = max(1, round(float(plan.sampling_rate) * plan.population / GROUP))
    update = np.zeros_like(vector)
    with ClippedGradients(task, module, clip, plan.clipping, part_bytes) as gradients:
        for _ in range(plan.steps):
            set_vector(module, vector, update)
            total = gradients.sum(table, by_lot(sampler.draw(), groups))
            noise.add(total, sigma * clip)
            descend(update, total, scale)
    return update


def descend(update: NDArray[np.float32], noised: NDArray[np.float64], rate: float) -> None:
    """Subtract `rate` times `noised` (d,) from `update` (d,), in place, rounding to float32."""
    rounded = torch.empty(min(BLOCK, update.size))
    for start in range(0, update.size, BLOCK):
        place = torch.from_numpy(update[start : start + BLOCK])
        block = rounded[: len(place)].copy_(torch.from_numpy(noised[start : start + BLOCK]))
        place.sub_(block, alpha=rate)
