"""From a plan to the manifest that it means.

Guarantees: pure; every number of the manifest is the plan's, the agreement's, or derived in the way
that each node derives it again. The dry run and the real one make it by the same function; a dry
run only has nothing to put where delegations, offer and initial weights go.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from importlib.metadata import version
from itertools import pairwise

from pydantic import ValidationError

from accord_common.agreement import Agreement, Dataset
from accord_common.enrolment import Offer
from accord_common.errors import ConflictError, NotFoundError, UsageError
from accord_common.fields import Dec, format_time
from accord_common.manifest import (
    PROTOCOL,
    Adaptation,
    AggregatorKeys,
    Architecture,
    Deadlines,
    LocalTraining,
    RunManifest,
    SecAgg,
    ServerOptimizer,
    Site,
    TaskRef,
    default_threshold,
)
from accord_common.rings import ring_of, scale_for
from accord_common.terms import site_bound
from accord_server.coordinator.plan_file import PlanFile

NOT_YET = "0" * 64  # stands in a dry run's manifest for what only a real start has


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What follows from task, architecture, schema and adaptation, and the weights' hashes."""

    task: TaskRef
    layout: str
    dimension: int
    initial: str = NOT_YET
    adaptation: Adaptation | None = None


@dataclass(frozen=True, slots=True)
class Roster:
    """The datasets of a run with their noise, sorted by owner."""

    datasets: tuple[Dataset, ...]
    noise: Mapping[str, Dec]  # by dataset id
    schema_hash: str


def choose_datasets(plan: PlanFile, agreement: Agreement) -> tuple[Dataset, ...]:
    """Resolve the plan's `owner/name` entries, or take all; sorted by owner.

    Raises:
        NotFoundError: `unknown-dataset`.
        ConflictError: `two-datasets` of one owner, `different-schemas`.
    """
    labels = {label(agreement, dataset): dataset for dataset in agreement.datasets}
    wanted = list(labels) if plan.datasets is None else list(plan.datasets)
    for name in wanted:
        if name not in labels:
            raise NotFoundError(
                "unknown-dataset",
                f"{name!r} is no dataset of agreement {agreement.title!r}",
                hint=f"It has {', '.join(sorted(labels))}.",
            )
    chosen = sorted({name: labels[name] for name in wanted}.values(), key=lambda item: item.owner)
    for left, right in pairwise(chosen):
        if left.owner == right.owner:
            raise ConflictError(
                "two-datasets",
                f"{agreement.party(left.owner).name} holds {left.name!r} and {right.name!r}",
                hint="A run takes one dataset of each: name them under `datasets`.",
            )
    if len({dataset.schema_hash for dataset in chosen}) > 1:
        raise ConflictError(
            "different-schemas",
            "the datasets do not share one schema",
            hint="Name those that do under `datasets`.",
        )
    return tuple(chosen)


def label(agreement: Agreement, dataset: Dataset) -> str:
    """Name a dataset for people: `owner/name`."""
    return f"{agreement.party(dataset.owner).name}/{dataset.name}"


def make_manifest(
    plan: PlanFile,
    agreement: Agreement,
    agreement_hash: str,
    roster: Roster,
    model: ModelFacts,
    *,
    run_id: str,
    moment: datetime,
    delegations: Mapping[str, str] | None = None,
    offer: tuple[str, Offer] | None = None,
) -> RunManifest:
    """Make the manifest.

    Args:
        plan: what a person wrote.
        agreement: the terms; its secure-aggregation numbers are taken over.
        agreement_hash: its hash.
        roster: datasets and noise.
        model: layout, dimension, initial weights, task code.
        run_id: a fresh id.
        moment: now.
        delegations: hash by party; None in a dry run.
        offer: hash and body of the aggregator's offer; None in a dry run.

    Raises:
        UsageError: `bad-plan` naming the field, `bad-bound` where an update cannot be quantised.
    """
    n = len(roster.datasets)
    terms = agreement.aggregation
    try:
        sites = [
            Site(
                party=item.owner,
                dataset=item.id,
                delegation=NOT_YET if delegations is None else delegations[item.owner],
                weight=item.size if plan.weights == "size" else 1,
                sampling_rate=plan.sampling_rate,
                noise_multiplier=roster.noise[item.id],
            )
            for item in roster.datasets
        ]
        local = LocalTraining(
            steps=plan.steps, learning_rate=plan.learning_rate, clipping_norm=plan.clipping_norm
        )
        bounds = [
            site_bound(plan.privacy.mode, local, site, item.size, model.dimension)
            for site, item in zip(sites, roster.datasets, strict=True)
        ]
        bound = max(bounds, key=Fraction)
        return RunManifest(
            protocol=PROTOCOL,
            id=run_id,
            agreement=agreement_hash,
            title=plan.title or f"{plan.task}, {plan.architecture.name}",
            created=format_time(moment),
            software=version("accord"),
            roster=sites,
            task=model.task,
            schema_hash=roster.schema_hash,
            architecture=Architecture(
                name=plan.architecture.name, args=plan.architecture.arguments
            ),
            initial_model=model.initial,
            layout=model.layout,
            dimension=model.dimension,
            adaptation=model.adaptation,
            privacy=plan.privacy.mode,
            local=local,
            server=ServerOptimizer.model_validate(plan.server.model_dump()),
            secagg=SecAgg(
                threshold=max(terms.threshold, default_threshold(n)),
                min_cohort=terms.min_cohort,
                colluders=terms.colluders,
                ring_bits=plan.ring_bits,
                bound=bound,
                scale=scale_for(bound, n, ring_of(plan.ring_bits)),
            ),
            rounds=plan.rounds,
            max_attempts_total=plan.max_attempts,
            deadlines=Deadlines.model_validate(plan.deadlines.model_dump()),
            aggregator=_keys(agreement, offer),
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "plan"
        raise UsageError(
            "bad-plan", f"{place}: {first['msg'].removeprefix('Value error, ')}"
        ) from error


def _keys(agreement: Agreement, offer: tuple[str, Offer] | None) -> AggregatorKeys:
    (aggregator,) = agreement.with_role("aggregator")
    if offer is None:
        return AggregatorKeys(
            party=aggregator.id,
            offer=NOT_YET,
            address="unknown:1",
            envelope_key=NOT_YET,
            receipt_key=NOT_YET,
            tls_spki=NOT_YET,
        )
    name, body = offer
    return AggregatorKeys(
        party=body.party,
        offer=name,
        address=body.address,
        envelope_key=body.envelope_key,
        receipt_key=body.receipt_key,
        tls_spki=body.tls_spki,
    )
