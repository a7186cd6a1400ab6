"""Ended runs as this institution may use them: verified, with their models.

Guarantees: manifest, receipts and result were followed to the node's own copy of the agreement; the
models have the hashes that they name, and the layout that architecture and adaptation give here.
Nothing is sent but the names of what is fetched.

Not covered: which code trained elsewhere; the model's layout is all that its use here needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from accord_common.api.client import RegistryClient
from accord_common.api.finding import find_run
from accord_common.api.schemas import FINAL_STATES
from accord_common.chain import VerifiedRun, fetch_result, fetch_run
from accord_common.errors import ConflictError, PolicyError
from accord_common.receipts import RESULT, RunResult

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from accord_client.stores import Stores
    from accord_common.manifest import Adaptation
    from accord_common.models.task import Task
    from accord_common.schema import Schema


@dataclass(frozen=True, slots=True)
class EndedRun:
    """A run that left a model.

    Attributes:
        run: its records.
        result: how it ended.
        start: its first model, float32 (d,).
        model: its last, float32 (d,).
        base: what it adapts, float32 (b,); None where all is trained.
    """

    run: VerifiedRun
    result: RunResult
    start: NDArray[np.float32]
    model: NDArray[np.float32]
    base: NDArray[np.float32] | None = None


def fetch_ended(stores: Stores, registry: RegistryClient, text: str) -> EndedRun:
    """Find and verify an ended run, and fetch its first and its last model, and its base.

    Args:
        stores: the node's open folder.
        registry: brings records and models; not trusted.
        text: the run's id, or its first or last characters.

    Raises:
        NotFoundError: `unknown-run`, `not-in-roster`, or `unknown-blob`: no recipient of the model.
        ConflictError: `run-not-over`, `no-model`, `ambiguous-run`.
        PolicyError: `agreement-not-signed`.
        VerificationError: the first thing that does not hold.
    """
    from accord_client.bases import fetch_base

    run, result = verified_end(stores, registry, text)
    run.manifest.site(stores.party)
    if result.model is None:
        raise ConflictError("no-model", f"run {run.manifest.id} ended before a round was completed")
    base = None
    if run.manifest.adaptation is not None:
        with stores.bases.held():
            fetch_base(stores, registry, run.manifest)
            base = stores.bases.load(run.manifest.adaptation)  # the next fetch may remove the file
    names = (run.manifest.initial_model, result.model)
    start, model = (fetch_vector(registry, name) for name in names)
    return EndedRun(run, result, start, model, base)


def verified_end(
    stores: Stores, registry: RegistryClient, text: str
) -> tuple[VerifiedRun, RunResult]:
    """Find an ended run under an agreement that this node signed, and verify how it ended.

    Raises:
        NotFoundError: `unknown-run`.
        ConflictError: `run-not-over`, `no-model`, `ambiguous-run`.
        PolicyError: `agreement-not-signed`.
        VerificationError: the first thing that does not hold.
    """
    from accord_common.agreement import verify_agreement

    view = find_run(registry, text)
    if view.state not in FINAL_STATES:
        raise ConflictError(
            "run-not-over", f"run {view.id} is {view.state}", hint="Come back once it has ended."
        )
    envelope = stores.agreements.signed().get(view.agreement)
    if envelope is None:
        raise PolicyError(
            "agreement-not-signed",
            f"run {view.id} is under agreement {view.agreement[:16]}, which this node did not sign",
        )
    run = fetch_run(
        registry.record,
        view.manifest_hash,
        agreement=verify_agreement(envelope),
        agreement_hash=envelope.hash,
    )
    return run, _result(registry, run)


def build_here(ended: EndedRun, schema: Schema) -> tuple[Task, nn.Module]:
    """Make the run's module; its trained weights are anything.

    Raises:
        PolicyError: `layout-does-not-follow`.
    """
    from accord_common.models.adaptation import build
    from accord_common.models.discovery import load_task
    from accord_common.models.flat import layout_of

    manifest = ended.run.manifest
    task = load_task(manifest.task.name)

    def base(_: Adaptation) -> NDArray[np.float32]:
        assert ended.base is not None  # `fetch_ended` brought it
        return ended.base

    module = build(task, manifest, schema, base)
    if layout_of(module).hash != manifest.layout:
        raise PolicyError(
            "layout-does-not-follow",
            f"{manifest.architecture.name!r} has another layout here than in run {manifest.id}",
            hint=f"Install {manifest.task.distribution} {manifest.task.version}.",
        )
    return task, module


def _result(registry: RegistryClient, run: VerifiedRun) -> RunResult:
    records = registry.records(kind=RESULT, run=run.manifest.id)
    if not records:
        raise ConflictError("no-model", f"run {run.manifest.id} was never run to a result")
    return fetch_result(registry.record, records[-1].envelope.hash, run).result


def fetch_vector(registry: RegistryClient, name: str) -> NDArray[np.float32]:
    """Fetch a model's numbers, float32 (d,), by their hash."""
    import numpy as np

    return np.frombuffer(registry.get_blob(name), "<f4").astype(np.float32, copy=False)
