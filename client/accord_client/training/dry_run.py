"""Try a round locally: what it will cost in time and memory, before anybody consents to anything.

Guarantees: no network, no ledger entry, no file; the update is discarded, so nothing leaves and
nothing is spent. What is returned is for the steward's eyes: rows and times depend on private data.
"""

import math
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from accord_client.training.train import CPU, LocalPlan, train_round
from accord_common.manifest import Lora
from accord_common.models.adaptation import adapt, initial_part
from accord_common.models.flat import initial_vector, layout_of, set_vector
from accord_common.models.task import Task
from accord_common.schema import Schema
from accord_common.tables import Encoded

TIMED_STEPS = 10  # enough for a stable mean; a round of more steps is extrapolated


@dataclass(frozen=True, slots=True)
class DryRun:
    """What one round would cost here.

    Attributes:
        rows: private rows in the table.
        features: numbers that the model sees of a row.
        dimension: parameters that are trained and travel.
        batch: rows in a step, on average.
        seconds_per_round: of local training; masking and transport come on top.
        peak_memory_bytes: of this process so far, model and table included.
    """

    rows: int
    features: int
    dimension: int
    batch: float
    seconds_per_round: float
    peak_memory_bytes: int


def dry_run(
    task: Task,
    architecture: str,
    arguments: dict[str, object],
    schema: Schema,
    table: Encoded,
    plan: LocalPlan,
    *,
    frozen: Sequence[str] = (),
    lora: Lora | None = None,
    threads: int = 1,
    device: torch.device = CPU,
) -> DryRun:
    """Train a few steps on `table` and extrapolate to `plan.steps`.

    Frozen layers and the base of adapters have the numbers of a fresh model: time and memory are
    the same.

    Raises:
        UsageError: what `task.build`, `adapt` and `train_round` raise.
    """
    module = task.build(architecture, arguments, schema)
    set_vector(module, initial_vector(module, seed=0))
    adapt(module, frozen, lora)
    vector = initial_part(module, seed=0)
    once = replace(plan, steps=1)
    train_round(task, module, vector, table, once, threads=threads, device=device)  # warms up
    timed = replace(plan, steps=min(plan.steps, TIMED_STEPS))
    start = time.perf_counter()
    train_round(task, module, vector, table, timed, threads=threads, device=device)
    seconds = (time.perf_counter() - start) * plan.steps / timed.steps
    return DryRun(
        rows=table.rows,
        features=math.prod(table.features.shape[1:]),
        dimension=layout_of(module).dimension,
        batch=float(plan.sampling_rate) * table.rows,
        seconds_per_round=seconds,
        peak_memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    )
