"""One model on this institution's own validation rows.

Guarantees: nothing is sent but the names of what is fetched, nothing is written, and nothing is
charged, since nothing is released. A model of a run is scored only if its numbers are those that
the run's verified result names, under an agreement that this node signed.

Not covered: a file that is named with an architecture: it may be anybody's, and may have been
trained on these very rows; the answer says that nothing was verified. Validation rows that an
earlier run trained on, before they were kept apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from accord_client.data.rows import open_rows
from accord_client.datasets import Datasets, LocalDataset
from accord_client.ended_runs import fetch_vector, verified_end
from accord_common.api.client import RegistryClient
from accord_common.errors import (
    AccordError,
    ConflictError,
    DataError,
    FormatError,
    UsageError,
    VerificationError,
)
from accord_common.fields import Hash, Id
from accord_common.weights import MAX_FILE_BYTES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from accord_client.stores import Stores
    from accord_client.training.comparison import Figure
    from accord_common.manifest import RunManifest
    from accord_common.models.task import Task
    from accord_common.schema import Schema

    Arrays = dict[str, NDArray[np.float32]]

_RUN = "run"  # what `accord model download` writes into a file's header


@dataclass(frozen=True, slots=True)
class Candidate:
    """What is to be scored; `run` and `model` are None where nothing was verified."""

    task: Task
    module: nn.Module
    vector: NDArray[np.float32]
    run: Id | None
    model: Hash | None


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What was found; counts of rows and figures are private.

    `verified` says whether the model is a run's, by its signed result.
    """

    dataset: str
    validation_rows: int
    run: Id | None
    model: Hash | None
    verified: bool
    metrics: dict[str, Figure]


def evaluate(
    datasets: Datasets, dataset: LocalDataset, candidate: Candidate, *, draws: int | None = None
) -> Evaluated:
    """Score a model on a dataset's validation rows, with intervals as `accord-node compare` has.

    Args:
        datasets: the node's registrations.
        dataset: one of them.
        candidate: the model.
        draws: of the bootstrap, where fewer than usual will do.

    Raises:
        DataError: `no-validation-rows`, `not-finite`, or rows that are not those that were checked.
    """
    from accord_client.training.comparison import DRAWS, score
    from accord_common.models.evaluate import logits_of

    rows = open_rows(dataset, datasets.opt_outs(dataset).read()).validation
    if rows is None:
        raise DataError(
            "no-validation-rows",
            f"no rows of {dataset.name!r} are kept from training, so none can score a model",
            hint=f"accord-node dataset update {dataset.name!r} --validation 0.2, before the runs.",
        )
    logits = logits_of(candidate.module, candidate.vector, rows)
    scored = score(candidate.task, {"model": [logits]}, rows.labels, draws=draws or DRAWS)
    return Evaluated(
        dataset=dataset.name,
        validation_rows=rows.rows,
        run=candidate.run,
        model=candidate.model,
        verified=candidate.run is not None,
        metrics=scored.metrics("model"),
    )


def of_run(stores: Stores, registry: RegistryClient, schema: Schema, model: str) -> Candidate:
    """The model of a run, or a file that is one, verified down to the agreement signed here.

    Args:
        stores: the node's open folder.
        registry: brings records and, where no file does, the model; not trusted.
        schema: of the dataset.
        model: a file that `accord model download` wrote, or a run.

    Raises:
        UsageError: `no-such-file`, `unknown-run-of-file`, `wrong-schema`.
        PolicyError: `agreement-not-signed`.
        VerificationError: `wrong-model`, or the first thing that does not hold.
    """
    from accord_common.manifest import model_hash
    from accord_common.models.discovery import load_task
    from accord_common.models.flat import layout_of

    file = Path(model).expanduser()
    if file.suffix and not file.is_file():  # no run's id has a dot
        raise UsageError("no-such-file", f"there is no file {file}")
    given = read_arrays(file) if file.is_file() else None
    name = model if given is None else _run_of(file)
    run, result = verified_end(stores, registry, name)
    manifest = run.manifest
    if result.model is None:
        raise ConflictError("no-model", f"run {manifest.id} ended before a round was completed")
    if manifest.schema_hash != schema.hash:
        raise UsageError(
            "wrong-schema",
            f"run {manifest.id} learned from tables of another schema than this dataset's",
            hint="Name a dataset with the run's schema: accord-node dataset list",
        )
    task = load_task(manifest.task.name)
    architecture = manifest.architecture
    module = task.build(architecture.name, architecture.args, schema)
    layout = layout_of(module)
    if given is not None and manifest.adaptation is None:
        vector = layout.flatten(given)
        if model_hash(vector.astype("<f4", copy=False).tobytes()) != result.model:
            raise _another(file, manifest.id)
        return Candidate(task, module, vector, manifest.id, result.model)
    vector = layout.flatten(_whole(registry, run.manifest, result.model, task, schema))
    if given is not None and layout.flatten(given).tobytes() != vector.tobytes():
        raise _another(file, manifest.id)
    return Candidate(task, module, vector, manifest.id, result.model)


def of_file(
    file: Path, schema: Schema, task: str, architecture: str, arguments: dict[str, object]
) -> Candidate:
    """A file of anybody's, with the architecture that its user names; nothing is verified.

    Raises:
        UsageError: what the task's `build` raises.
        FormatError: `not-weights`, or arrays that the architecture does not have.
    """
    from accord_common.models.discovery import load_task
    from accord_common.models.flat import layout_of

    loaded = load_task(task)
    module = loaded.build(architecture, arguments, schema)
    vector = layout_of(module).flatten(read_arrays(file))
    return Candidate(loaded, module, vector, None, None)


def read_arrays(file: Path) -> Arrays:
    """Read a safetensors file; nothing in it is executed: FormatError `not-weights`."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    if file.stat().st_size > MAX_FILE_BYTES:
        raise FormatError("not-weights", f"{file} is over {MAX_FILE_BYTES} bytes")
    try:
        return load(file.read_bytes())
    except (SafetensorError, ValueError) as error:
        raise FormatError(
            "not-weights",
            f"{file} is no safetensors file: {error}",
            hint="Pickled weights (.pt, .pkl) are never read here: they can run code.",
        ) from error


def _run_of(file: Path) -> str:
    from safetensors import safe_open

    with safe_open(file, "numpy") as opened:
        facts = opened.metadata() or {}
    if _RUN not in facts:
        raise UsageError(
            "unknown-run-of-file",
            f"{file} does not say which run it is of",
            hint="Name --task and --architecture to score it unverified.",
        )
    found: str = facts[_RUN]
    return found


def _another(file: Path, run: str) -> AccordError:
    return VerificationError(
        "wrong-model",
        f"{file} does not hold the model of run {run}, which it names",
        hint="Download it again, or name --task and --architecture to score it unverified.",
    )


def _whole(
    registry: RegistryClient, manifest: RunManifest, model: str, task: Task, schema: Schema
) -> Arrays:
    """All arrays of a run's model under the architecture's own names, fetched by hash."""
    from accord_common.models.adaptation import build, merged
    from accord_common.models.flat import set_vector

    module = build(task, manifest, schema, lambda base: fetch_vector(registry, base.base))
    set_vector(module, fetch_vector(registry, model))
    return merged(module)
