"""Going on from a run that failed or was stopped: a new run that starts where it ended.

A final state is never left, and a consent covers one manifest. So what goes on is another run, with
its own consents, whose initial model is what the last completed round of the ended one left.

Guarantees: that model is the one that the aggregator's receipts, followed to the manifest, name;
the new plan has the ended run's constants, its remaining rounds, and no more attempts than were
left of it, but one for each round; it is appraised like any plan, over what the ended run has cost.

Not covered: an adaptive server optimiser's moments, which no record names: they begin anew. An
aggregator that has not delivered its last receipts: their rounds are trained again.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from accord_common.agreement import Agreement
from accord_common.api.client import RegistryClient
from accord_common.api.schemas import FINAL_STATES, RunView
from accord_common.chain import VerifiedRun
from accord_common.errors import ConflictError, NotFoundError, VerificationError
from accord_common.fields import Count, Hash, Id
from accord_common.manifest import RunManifest, TaskRef
from accord_common.models.discovery import task_code
from accord_common.receipts import AggregatorReceipt
from accord_server.coordinator import desk
from accord_server.coordinator.manifests import ModelFacts, Roster, label
from accord_server.coordinator.plan_file import PlanFile
from accord_server.coordinator.planning import appraise, spent_before
from accord_server.coordinator.starting import Prepared
from accord_server.coordinator.views import View
from accord_server.coordinator.weights import Model

_TITLE = 70  # characters kept of the ended run's, of the 100 that a title may have
_FROM = ", from round "


class Continuation(View):
    """What was done and charged, and what going on asks for.

    Attributes:
        run: the ended run.
        rounds: it was to have.
        completed: of them.
        attempts: it has used up, each charged to whoever took part.
        asked_rounds: of the new run.
        asked_attempts: at most, of the new run.
        model: what it starts from.
        moments_lost: the server's optimiser begins anew.
    """

    run: Id
    rounds: Count
    completed: Count
    attempts: Count
    asked_rounds: Count
    asked_attempts: Count
    model: Hash
    moments_lost: bool


@dataclass(frozen=True, slots=True)
class Resumption:
    """A plan made from an ended run."""

    continuation: Continuation
    prepared: Prepared


def prepare(client: RegistryClient, view: RunView, moment: datetime) -> Resumption:
    """Verify an ended run, and plan what remains of it.

    Raises:
        ConflictError: `run-not-over`, `nothing-remains`, `not-active`, `checkpoint-missing`.
        VerificationError: the first thing that does not hold; `wrong-layout` where what is
            installed here builds another model.
    """
    from opacus.accountants import PRVAccountant

    require_resumable(view)
    run = desk.verified_run(client, view)
    receipts = desk.verified_receipts(client, run)
    told = continuation(run, receipts)
    found, agreement = desk.active_agreement(client, run.agreement_hash)
    _require_model(client, told.model, run.manifest.dimension)
    plan = plan_for(run.manifest, agreement, told)
    datasets = tuple(agreement.dataset(site.dataset) for site in run.manifest.roster)
    noise = {site.dataset: site.noise_multiplier for site in run.manifest.roster}
    roster = Roster(datasets, noise, run.manifest.schema_hash)
    schema = desk.schema_of(client, roster.schema_hash)
    Model(run.manifest, schema, client.get_blob)  # what is installed here must build it
    model = _facts(run.manifest, told.model)
    appraised = appraise(
        plan,
        agreement,
        found.hash,
        roster,
        model,
        spent=spent_before(desk.node_receipts(client)),
        prv=PRVAccountant(),
        moment=moment,
    )
    prepared = Prepared(plan, agreement, found.hash, schema, roster, model, appraised)
    return Resumption(told, prepared)


def require_resumable(view: RunView) -> None:
    """Refuse a run that is not over, or of which nothing remains, saying what to do instead."""
    if view.state not in FINAL_STATES:
        standing = view.standing
        raise ConflictError(
            "run-not-over",
            f"run {view.id} is {view.state}" + (f": {standing.message}" if standing else ""),
            hint="It goes on by itself"
            + (
                " once its aggregator is there: accord aggregator start"
                if standing and standing.code.startswith(("aggregator", "stalled"))
                else f": accord run watch {view.id}"
            ),
        )
    if view.state in {"completed", "refused"}:
        raise ConflictError(
            "nothing-remains",
            f"run {view.id} is {view.state}",
            hint=f"Take its model: accord model download {view.id}"
            if view.state == "completed"
            else "No round was begun: change the plan, then accord run start",
        )


def continuation(run: VerifiedRun, receipts: tuple[AggregatorReceipt, ...]) -> Continuation:
    """Say what receipts leave to do; ConflictError `nothing-remains`."""
    manifest = run.manifest
    models = [receipt.model_after for receipt in receipts if receipt.model_after is not None]
    remaining = manifest.rounds - len(models)
    if remaining == 0:
        raise ConflictError(
            "nothing-remains",
            f"all {manifest.rounds} rounds of run {manifest.id} are complete",
            hint="Only its result is missing: accord aggregator start",
        )
    return Continuation(
        run=manifest.id,
        rounds=manifest.rounds,
        completed=len(models),
        attempts=len(receipts),
        asked_rounds=remaining,
        asked_attempts=max(remaining, manifest.max_attempts_total - len(receipts)),
        model=models[-1] if models else manifest.initial_model,
        moments_lost=bool(models) and manifest.server.name != "fedavg",
    )


def _require_model(client: RegistryClient, model: str, dimension: int) -> None:
    """Read the model through: it is there, whole, and has its hash."""
    try:
        size = sum(len(piece) for piece in client.blob(model))
    except NotFoundError as error:
        raise ConflictError(
            "checkpoint-missing",
            f"the registry has no model {model[:16]}, which the last completed round left",
            hint="The aggregator delivers what it has once it is back: accord aggregator start",
        ) from error
    if size != 4 * dimension:
        raise VerificationError("wrong-model-size", f"{size} bytes, not {4 * dimension}")


def _facts(manifest: RunManifest, model: str) -> ModelFacts:
    code = task_code(manifest.task.name)  # a node takes only what it has installed now
    task = TaskRef(
        name=manifest.task.name,
        distribution=code.distribution,
        version=code.version,
        code_hash=code.code_hash,
    )
    facts = ModelFacts(task, manifest.layout, manifest.dimension, adaptation=manifest.adaptation)
    return replace(facts, initial=model)


def plan_for(manifest: RunManifest, agreement: Agreement, told: Continuation) -> PlanFile:
    """The plan that means the same as the ended run, for the rounds that remain."""
    local, private = manifest.local, manifest.privacy == "dp"
    weights = {site.weight for site in manifest.roster}
    return PlanFile.model_validate(
        {
            "agreement": manifest.agreement,
            "title": manifest.title.split(_FROM)[0][:_TITLE] + f"{_FROM}{told.completed + 1}",
            "task": manifest.task.name,
            "privacy": {"mode": manifest.privacy},
            "architecture": {"name": manifest.architecture.name, **manifest.architecture.args},
            "datasets": tuple(
                label(agreement, agreement.dataset(site.dataset)) for site in manifest.roster
            ),
            "rounds": told.asked_rounds,
            "spare_attempts": told.asked_attempts - told.asked_rounds,
            # One for all in a plan; each site's own is the roster's.
            "noise_multiplier": manifest.roster[0].noise_multiplier if private else None,
            "sampling_rate": manifest.roster[0].sampling_rate,
            "steps": local.steps,
            "learning_rate": local.learning_rate,
            "clipping_norm": local.clipping_norm,
            "clipping": local.clipping,
            "weights": "equal" if weights == {1} else "size",
            "server": manifest.server.to_json(),
            "deadlines": manifest.deadlines.to_json(),
            "ring_bits": manifest.secagg.ring_bits,
        }
    )
