"""Weights at the coordinator: made, evaluated on public rows, and exported. Imports torch.

Guarantees: a model is what its hash names; initial weights follow from architecture and seed.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save
from torch import nn

from accord_common.canonical import sha256_hex
from accord_common.errors import DataError, VerificationError
from accord_common.files import replace_file
from accord_common.manifest import RunManifest, TaskRef, model_hash
from accord_common.models.discovery import load_task, task_code
from accord_common.models.evaluate import evaluate
from accord_common.models.flat import initial_vector, layout_of
from accord_common.schema import Schema
from accord_common.tables import Encoded, encode, format_of, read
from accord_server.coordinator.manifests import ModelFacts
from accord_server.coordinator.plan_file import PlanFile


@dataclass(frozen=True, slots=True)
class Holdout:
    """Public rows, and the hash of the file they came from."""

    table: Encoded
    file_hash: str


def model_facts(plan: PlanFile, schema: Schema) -> ModelFacts:
    """Build the plan's architecture and say what follows from it.

    Raises:
        NotFoundError: `unknown-task`.
        UsageError: `wrong-target`, `wrong-architecture`, `bad-architecture`.
    """
    module = load_task(plan.task).build(plan.architecture.name, plan.architecture.arguments, schema)
    layout, code = layout_of(module), task_code(plan.task)
    reference = TaskRef(
        name=plan.task,
        distribution=code.distribution,
        version=code.version,
        code_hash=code.code_hash,
    )
    return ModelFacts(reference, layout.hash, layout.dimension)


def initial_weights(plan: PlanFile, schema: Schema, facts: ModelFacts) -> tuple[bytes, ModelFacts]:
    """Make the flat float32 vector, little-endian, that round 0 starts from, and name it."""
    module = load_task(plan.task).build(plan.architecture.name, plan.architecture.arguments, schema)
    data = initial_vector(module, plan.seed).astype("<f4").tobytes()
    return data, replace(facts, initial=model_hash(data))


def load_holdout(path: Path, schema: Schema) -> Holdout:
    """Read public rows under the run's schema.

    Raises:
        DataError: `unreadable-file`, or the first cell that breaks the schema.
        UsageError: `unknown-format`.
    """
    try:
        data = path.expanduser().read_bytes()
    except OSError as error:
        raise DataError("unreadable-file", f"{path}: {error.strerror}") from error
    return Holdout(encode(read(data, format_of(path), schema), schema), sha256_hex(data))


class Model:
    """A run's architecture, built once, to score and export its weights."""

    def __init__(self, manifest: RunManifest, schema: Schema) -> None:
        """Build it.

        Raises:
            VerificationError: `wrong-schema`, `wrong-layout` where what is installed here builds
                something else than the manifest says.
        """
        if schema.hash != manifest.schema_hash:
            raise VerificationError(
                "wrong-schema",
                f"schema {schema.name!r} is not the run's",
                hint="Give the schema that the institutions registered with.",
            )
        self._manifest = manifest
        self._task = load_task(manifest.task.name)
        architecture = manifest.architecture
        self._module: nn.Module = self._task.build(architecture.name, architecture.args, schema)
        self._layout = layout_of(self._module)
        if self._layout.hash != manifest.layout:
            raise VerificationError(
                "wrong-layout",
                f"{architecture.name!r} is laid out differently here than in the manifest",
                hint=f"Install {manifest.task.distribution} {manifest.task.version}.",
            )

    def score(self, weights: bytes, holdout: Holdout) -> dict[str, float]:
        """Return the task's metrics on public rows."""
        return evaluate(self._task, self._module, self._vector(weights), holdout.table)

    def export(self, weights: bytes, out: Path, facts: dict[str, str]) -> None:
        """Write named tensors as safetensors; `facts` and the architecture ride in its header."""
        architecture = self._manifest.architecture
        header = facts | {
            "task": self._manifest.task.name,
            "architecture": architecture.name,
            "arguments": json.dumps(architecture.args, sort_keys=True),
            "schema": self._manifest.schema_hash,
            "run": self._manifest.id,
            "model": model_hash(weights),
        }
        replace_file(out, save(self._layout.unflatten(self._vector(weights)), header))

    def _vector(self, weights: bytes) -> NDArray[np.float32]:
        if len(weights) != 4 * self._layout.dimension:
            raise VerificationError(
                "wrong-model-size", f"{len(weights)} bytes, not {4 * self._layout.dimension}"
            )
        return np.frombuffer(weights, "<f4").astype(np.float32)
