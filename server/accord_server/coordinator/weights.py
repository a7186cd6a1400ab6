"""Weights at the coordinator: made, evaluated on public rows, and exported. Imports torch.

Guarantees: a model is what its hash names; initial weights follow from architecture, seed and, for
an adapted run, its public base.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load as decode
from safetensors.numpy import save
from torch import nn

from accord_common import picture_files
from accord_common.canonical import sha256_hex
from accord_common.errors import AccordError, DataError, UsageError, VerificationError
from accord_common.files import replace_file
from accord_common.image_schema import ImageSchema
from accord_common.manifest import Adaptation, Lora, RunManifest, TaskRef, model_hash
from accord_common.models.adaptation import adapt, build, initial_part, merged
from accord_common.models.discovery import load_task, task_code
from accord_common.models.evaluate import evaluate
from accord_common.models.flat import initial_vector, layout_of, set_vector
from accord_common.schema import Schema
from accord_common.tables import Encoded, encode, format_of, read
from accord_common.vectors import Layout
from accord_server.coordinator.manifests import NOT_YET, ModelFacts
from accord_server.coordinator.plan_file import PlanFile

_SHOWN = 4  # arrays in a hint


@dataclass(frozen=True, slots=True)
class Holdout:
    """Public rows, and the hash of the file or pictures that they came from."""

    table: Encoded
    file_hash: str


def model_facts(plan: PlanFile, schema: Schema) -> ModelFacts:
    """Build the plan's architecture and say what follows from it, without memory for weights.

    Raises:
        NotFoundError: `unknown-task`.
        UsageError: `wrong-target`, `wrong-architecture`, `bad-architecture`, what `adapt` raises,
            or `bad-base`.
    """
    with torch.device("meta"):
        module = load_task(plan.task).build(
            plan.architecture.name, plan.architecture.arguments, schema
        )
        whole = layout_of(module)
        adaptation = _adaptation(plan, whole)
        if adaptation is not None:
            adapt(module, adaptation.frozen, adaptation.lora)
    layout, code = layout_of(module), task_code(plan.task)
    if plan.adapt is not None and plan.adapt.base is not None:
        read_base(Path(plan.adapt.base), whole)
    reference = TaskRef(
        name=plan.task,
        distribution=code.distribution,
        version=code.version,
        code_hash=code.code_hash,
    )
    return ModelFacts(reference, layout.hash, layout.dimension, adaptation=adaptation)


def initial_weights(
    plan: PlanFile, schema: Schema, facts: ModelFacts
) -> tuple[list[bytes], ModelFacts]:
    """Make what a run starts from, and name it.

    Returns:
        Flat float32 vectors, little-endian, to be uploaded: what round 0 starts from, and before it
        the public base of an adapted run; and the facts with their hashes.
    """
    module = load_task(plan.task).build(plan.architecture.name, plan.architecture.arguments, schema)
    adaptation, given = facts.adaptation, plan.adapt and plan.adapt.base
    if given:
        whole = read_base(Path(given), layout_of(module))
    else:
        whole = initial_vector(module, plan.seed)
    if adaptation is None:
        data = _little(whole)
        return [data], replace(facts, initial=model_hash(data))
    base = _little(whole)
    set_vector(module, whole)
    adapt(module, adaptation.frozen, adaptation.lora)
    data = _little(initial_part(module, plan.seed))
    named = adaptation.model_copy(update={"base": model_hash(base)})
    return [base, data], replace(facts, initial=model_hash(data), adaptation=named)


def read_base(path: Path, layout: Layout) -> NDArray[np.float32]:
    """Read public weights: a safetensors file with every array of the architecture, float32.

    Raises:
        UsageError: `bad-base`, saying what does not fit.
    """
    try:
        vector = layout.flatten(decode(path.expanduser().read_bytes()))
    except (OSError, SafetensorError, AccordError) as error:
        names = ", ".join(name for name, _ in layout.entries[:_SHOWN])
        raise UsageError(
            "bad-base", f"{path}: {error}", hint=f"It must hold float32 arrays {names}, ..."
        ) from error
    if not np.isfinite(vector).all():
        raise UsageError("bad-base", f"{path} holds NaN or infinity")
    return vector


def _adaptation(plan: PlanFile, whole: Layout) -> Adaptation | None:
    if plan.adapt is None:
        return None
    lora = plan.adapt.lora
    try:
        return Adaptation(
            base=NOT_YET,
            layout=whole.hash,
            dimension=whole.dimension,
            frozen=sorted(set(plan.adapt.freeze)),
            lora=None if lora is None else Lora(rank=lora.rank, layers=sorted(set(lora.layers))),
        )
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UsageError(
            "bad-plan", f"adapt: {where} {first['input']!r}: {first['msg']}"
        ) from error


def _little(vector: NDArray[np.float32]) -> bytes:
    return vector.astype("<f4", copy=False).tobytes()


def load_holdout(path: Path, schema: Schema) -> Holdout:
    """Read public rows under the run's schema.

    Raises:
        DataError: `unreadable-file`, or the first cell or picture that breaks the schema.
        UsageError: `unknown-format`.
    """
    path = path.expanduser()
    if isinstance(schema, ImageSchema):
        found = picture_files.read(path, schema)
        return Holdout(found.table, found.sha256)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError("unreadable-file", f"{path}: {error.strerror}") from error
    return Holdout(encode(read(data, format_of(path), schema), schema), sha256_hex(data))


class Model:
    """A run's model, built once, to score and export its weights."""

    def __init__(
        self, manifest: RunManifest, schema: Schema, get_blob: Callable[[str], bytes]
    ) -> None:
        """Build it.

        Args:
            manifest: the run.
            schema: of the tables.
            get_blob: brings the public base of an adapted run by its hash.

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
        self._manifest, self._schema = manifest, schema
        self._task = load_task(manifest.task.name)
        architecture = manifest.architecture
        self._module: nn.Module = build(
            self._task,
            manifest,
            schema,
            lambda adaptation: np.frombuffer(get_blob(adaptation.base), "<f4"),
        )
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
        """Write the whole model's named tensors as safetensors, adapters merged into their layers.

        `facts`, architecture and adaptation ride in the header; its `model` is the hash of what was
        trained.
        """
        set_vector(self._module, self._vector(weights))
        replace_file(out, save(merged(self._module), self.header(weights, facts)))

    def header(self, weights: bytes, facts: dict[str, str]) -> dict[str, str]:
        """What a file of the model says about itself, with `facts`."""
        architecture, adaptation = self._manifest.architecture, self._manifest.adaptation
        header = facts | {
            "task": self._manifest.task.name,
            "architecture": architecture.name,
            "arguments": json.dumps(architecture.args, sort_keys=True),
            "schema": self._manifest.schema_hash,
            "run": self._manifest.id,
            "model": model_hash(weights),
        }
        if adaptation is not None:
            header["adaptation"] = adaptation.to_bytes().decode()
        return header

    def whole(self, weights: bytes) -> nn.Module:
        """The architecture's own module with the model's numbers, adapters merged into layers."""
        set_vector(self._module, self._vector(weights))
        architecture = self._manifest.architecture
        module = self._task.build(architecture.name, architecture.args, self._schema)
        arrays = merged(self._module)
        set_vector(module, layout_of(module).flatten(arrays))
        return module.eval()

    def _vector(self, weights: bytes) -> NDArray[np.float32]:
        if len(weights) != 4 * self._layout.dimension:
            raise VerificationError(
                "wrong-model-size", f"{len(weights)} bytes, not {4 * self._layout.dimension}"
            )
        return np.frombuffer(weights, "<f4").astype(np.float32)
