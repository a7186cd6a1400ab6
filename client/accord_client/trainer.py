"""The institution's rows and model over one run: opened at the first charged attempt, then kept.

Guarantees: no row is read before the first `update`; every `update` is one round of
`training.train`, or of `training.plain` where the manifest says that the run is without privacy,
with the public constants of manifest and agreement and nothing else.

Not covered: charging. The caller charges before each call.

One exception: a source that shows no change at a glance, a database, is read by `look`, before the
charge, so that a change costs none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from accord_client.bases import Bases
from accord_client.capacity import MOST_PART_BYTES
from accord_client.data.rows import open_rows
from accord_client.datasets import LocalDataset
from accord_client.devices import DeviceChoice, find_device
from accord_client.limits import Limits
from accord_common.errors import PolicyError
from accord_common.manifest import RunManifest, Site
from accord_common.models.discovery import load_task, task_code

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from accord_client.training.train import LocalPlan
    from accord_common.models.task import Task
    from accord_common.tables import Encoded


class Trainer:
    """Local training for one run.

    Args:
        manifest: the run.
        site: this institution's part of it.
        dataset: the table.
        bases: where the base of an adapted run lies.
        limits: where to train, on how many cores.

    `part_bytes` is how much a part's gradients may take; the caller may lower it.
    """

    def __init__(
        self,
        manifest: RunManifest,
        site: Site,
        dataset: LocalDataset,
        bases: Bases,
        limits: Limits,
    ) -> None:
        self._manifest = manifest
        self._bases = bases
        self._site = site
        self.dataset = dataset
        self._limits = limits
        self.part_bytes = MOST_PART_BYTES
        self._checked = False
        self._built: tuple[Task, nn.Module] | None = None
        self._opened: tuple[frozenset[str], Encoded] | None = None

    def check_code(self) -> None:
        """Compare the installed task with the manifest's, once, before any of it is loaded.

        Raises:
            PolicyError: `task-code-differs`.
            NotFoundError: `unknown-task`.
        """
        if self._checked:
            return
        wanted, found = self._manifest.task, task_code(self._manifest.task.name)
        if (found.distribution, found.code_hash) != (wanted.distribution, wanted.code_hash):
            raise PolicyError(
                "task-code-differs",
                f"task {wanted.name!r} here is not the code of {wanted.distribution} "
                f"{wanted.version}",
                hint="Install the same release as the coordinator.",
            )
        self._checked = True

    def look(self, opted_out: frozenset[str]) -> None:
        """Read the rows now if nothing but reading tells that they changed: before the charge.

        Raises:
            DataError: as `update`.
        """
        if not self.dataset.mark.glance:
            self._open(opted_out)

    def update(self, model: NDArray[np.float32], opted_out: frozenset[str]) -> NDArray[np.float32]:
        """Train one round from `model` (d,) and return the update (d,), noised in private runs.

        Args:
            model: the round's weights.
            opted_out: whose rows are left out; read again where it changed since the last round.

        Raises:
            DataError: the rows are not those that were checked, or break their schema.
        """
        from accord_client.training import plain, train

        (task, module), table = self._build(), self._open(opted_out)
        plan = local_plan(self._manifest, self._site, self.dataset.size)
        threads, device = self._limits.threads, find_device(self._limits.device)
        if self._manifest.privacy == "none":  # no gradient by row, so no parts of them
            return plain.train_round(
                task, module, model, table, plan, threads=threads, device=device
            )
        return train.train_round(
            task,
            module,
            model,
            table,
            plan,
            threads=threads,
            device=device,
            part_bytes=self.part_bytes,
        )

    @property
    def held_bytes(self) -> int:
        """How much memory the rows take now, bytes; private."""
        return 0 if self._opened is None else self._opened[1].nbytes

    def _build(self) -> tuple[Task, nn.Module]:
        if self._built is None:
            from accord_common.models.adaptation import build

            task = load_task(self._manifest.task.name)
            module = build(task, self._manifest, self.dataset.table, self._bases.load)
            self._built = task, module
        return self._built

    def _open(self, opted_out: frozenset[str]) -> Encoded:
        if self._opened is None or self._opened[0] != opted_out:
            self._opened = None  # the old rows need not stay in memory beside the new ones
            self._opened = opted_out, open_rows(self.dataset, opted_out).train
        return self._opened[1]


def local_plan(manifest: RunManifest, site: Site, size: int) -> LocalPlan:
    """The constants of a round at one site; `size` is its dataset's public N."""
    from accord_client.training.train import LocalPlan

    local = manifest.local
    return LocalPlan(
        steps=local.steps,
        sampling_rate=site.sampling_rate,
        population=size,
        clipping_norm=local.clipping_norm,
        noise_multiplier=site.noise_multiplier,
        learning_rate=local.learning_rate,
        clipping=local.clipping,
    )


def warm_up(device: DeviceChoice = DeviceChoice.CPU) -> None:
    """Read and train on two made-up rows, so that the first round waits for no import or cache.

    Raises:
        UsageError: `no-cuda`.
    """
    import numpy as np

    from accord_client.training.train import LocalPlan, train_round
    from accord_common import tables
    from accord_common.schema_file import from_document

    schema = from_document(
        {
            "name": "warm-up",
            "target": {"column": "y", "type": "binary"},
            "minimum_rows": 1,
            "columns": [{"name": "x", "type": "number", "minimum": 0, "maximum": 1}],
        }
    )
    table = tables.encode(tables.read(b"x,y\n0,0\n1,1\n", "csv", schema), schema)
    task = load_task("tabular-binary")
    module = task.build("logistic-regression", {}, schema)
    plan = LocalPlan(1, "0.5", 2, "1", "1", "0.1")
    train_round(task, module, np.zeros(2, np.float32), table, plan, device=find_device(device))
