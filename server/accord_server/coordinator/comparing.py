"""Runs side by side: what each cost whom, what it gave on public rows, and what else differs.

Guarantees: pure; everything told comes from records that were verified down to the agreement, but
`state` and `seconds`, which are the registry's word. Runs that cannot be compared are compared all
the same, with a warning each; what privacy cost is told only of runs over the same datasets, task
and hold-out.

Not covered: what a model trained on one institution's rows alone would give; those rows stay there
(`accord-node compare`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from accord_common.api.schemas import RunState
from accord_common.chain import VerifiedResult, VerifiedRun
from accord_common.errors import UsageError
from accord_common.fields import Adjacency, Dec, Hash, Id
from accord_common.manifest import PrivacyMode
from accord_common.receipts import Evaluation
from accord_server.coordinator.configuration import Difference, differences, settings
from accord_server.coordinator.views import View

FEWEST, MOST = 2, 8  # runs; more columns than 8 nobody reads

_IS_PRIVACY = frozenset({"privacy", "noise_multiplier"})  # of `settings`


@dataclass(frozen=True, slots=True)
class Evidence:
    """One run's verified records; `seconds` of each attempt is by the registry's clock.

    Attributes:
        state: the registry's word.
        run: manifest and what it names.
        result: None while the run is under way, or where it never began.
        evaluations: of the result's model, oldest first.
        seconds: of each attempt at a round.
    """

    state: RunState
    run: VerifiedRun
    result: VerifiedResult | None
    evaluations: Sequence[Evaluation]
    seconds: Sequence[float]


class SiteSpend(View):
    """What a run cost one dataset; `epsilon` is null where no guarantee holds."""

    site: str
    attempts: int
    epsilon: Dec | None
    delta: Dec
    adjacency: Adjacency


class RunColumn(View):
    """One run.

    Attributes:
        sites: institutions in the roster.
        smallest_cohort: institutions in the smallest sum of a completed round; null without one.
        largest_cohort: in the largest.
        aborted: attempts that came to nothing, charged all the same.
        seconds: from the first attempt to the last, by the registry's clock.
        epsilon: empty while there is no result.
        metrics: on the public hold-out, signed by the coordinator; empty where nobody scored.
        holdout: hash of its file.
    """

    run: Id
    title: str
    state: RunState
    code: str
    privacy: PrivacyMode
    rounds: int
    rounds_planned: int
    sites: int
    smallest_cohort: int | None
    largest_cohort: int | None
    aborted: int
    seconds: float
    epsilon: list[SiteSpend]
    model: Hash | None
    metrics: dict[str, float]
    holdout: Hash | None
    holdout_rows: int | None


class PrivacyCost(View):
    """A metric without privacy minus the same metric with it; below 0, privacy cost nothing.

    `also_differ` names fields beside privacy in which the two runs differ.
    """

    private: Id
    non_private: Id
    metric: str
    cost: float
    also_differ: list[str]


class Caution(View):
    """Why figures do not say what they seem to."""

    code: str
    message: str


class Comparison(View):
    """The answer.

    Attributes:
        runs: in the order they were named.
        gains: metric -> for each run, how far it is above the first that has the metric.
        configuration: what differs between the manifests.
        privacy_cost: of each completed private run against each completed one that is not.
        warnings: why runs may not be comparable.
    """

    runs: list[RunColumn]
    gains: dict[str, list[float | None]]
    configuration: list[Difference]
    privacy_cost: list[PrivacyCost]
    warnings: list[Caution]


def check_count(runs: Sequence[str]) -> None:
    """Refuse fewer than 2 ids, more than 8, or one given twice: `bad-comparison`."""
    if not FEWEST <= len(runs) <= MOST:
        raise UsageError(
            "bad-comparison", f"{len(runs)} runs given; name {FEWEST} to {MOST} of them"
        )
    if repeated := [run for run in runs if runs.count(run) > 1]:
        raise UsageError("bad-comparison", f"run {repeated[0]} is given twice")


def compare(found: Sequence[Evidence]) -> Comparison:
    """Set runs side by side, in the order given."""
    holdout = _common_holdout(found)
    runs = [_column(item, _evaluation(item, holdout)) for item in found]
    metrics = dict.fromkeys(name for run in runs for name in run.metrics)
    return Comparison(
        runs=runs,
        gains={name: _gains([run.metrics.get(name) for run in runs]) for name in metrics},
        configuration=differences([settings(item.run) for item in found]),
        privacy_cost=list(_costs(found, runs)),
        warnings=[*_unfinished(runs), *_incomparable(found, runs), *_epsilons(runs)],
    )


def _column(item: Evidence, evaluation: Evaluation | None) -> RunColumn:
    manifest, result = item.run.manifest, item.result
    receipts = [] if result is None else result.receipts
    cohorts = [len(receipt.cohort) for receipt in receipts if receipt.outcome == "completed"]
    metrics = {} if evaluation is None else evaluation.metrics
    return RunColumn(
        run=manifest.id,
        title=manifest.title,
        state=item.state,
        code="" if result is None else result.result.code,
        privacy=manifest.privacy,
        rounds=len(cohorts),
        rounds_planned=manifest.rounds,
        sites=manifest.n,
        smallest_cohort=min(cohorts, default=None),
        largest_cohort=max(cohorts, default=None),
        aborted=len(receipts) - len(cohorts),
        seconds=round(sum(item.seconds), 2),
        epsilon=_spends(item),
        model=None if result is None else result.result.model,
        metrics={name: float(value) for name, value in metrics.items()},
        holdout=None if evaluation is None else evaluation.holdout,
        holdout_rows=None if evaluation is None else evaluation.rows,
    )


def _spends(item: Evidence) -> list[SiteSpend]:
    if item.result is None:
        return []
    agreement = item.run.agreement
    return [
        SiteSpend(
            site=agreement.party(row.party).name,
            attempts=row.attempts,
            epsilon=row.epsilon,
            delta=row.delta,
            adjacency=agreement.dataset(row.dataset).privacy.adjacency,
        )
        for row in item.result.result.epsilon
    ]


def _common_holdout(found: Sequence[Evidence]) -> Hash | None:
    """The hold-out on which all runs were scored that were scored at all; the newest of several."""
    scored = [item.evaluations for item in found if item.evaluations]
    if not scored:
        return None
    common = set.intersection(*({one.holdout for one in some} for some in scored))
    newest_first = [one.holdout for one in reversed(scored[0])]
    return next((holdout for holdout in newest_first if holdout in common), None)


def _evaluation(item: Evidence, holdout: Hash | None) -> Evaluation | None:
    """The newest on the common hold-out, or on any where there is none."""
    fitting = [one for one in item.evaluations if holdout in (None, one.holdout)]
    return fitting[-1] if fitting else None


def _gains(values: Sequence[float | None]) -> list[float | None]:
    first = next(value for value in values if value is not None)
    return [None if value is None else round(value - first, 6) for value in values]


def _costs(found: Sequence[Evidence], runs: Sequence[RunColumn]) -> Iterator[PrivacyCost]:
    pairs = [
        pair
        for pair in zip(found, runs, strict=True)
        if pair[0].result is not None and pair[0].result.result.status == "completed"
    ]
    private = [pair for pair in pairs if pair[1].privacy == "dp"]
    others = [pair for pair in pairs if pair[1].privacy == "none"]
    for (item, run), (other, plain) in product(private, others):
        if any(_incomparable([item, other], [run, plain])):
            continue
        differing = differences([settings(item.run), settings(other.run)])
        beside = [one.field for one in differing if one.field not in _IS_PRIVACY]
        for metric in (name for name in run.metrics if name in plain.metrics):
            yield PrivacyCost(
                private=run.run,
                non_private=plain.run,
                metric=metric,
                cost=round(plain.metrics[metric] - run.metrics[metric], 6),
                also_differ=beside,
            )


def _unfinished(runs: Sequence[RunColumn]) -> Iterator[Caution]:
    for run in runs:
        if run.state != "completed":
            tail = f" [{run.code}]" if run.code else ""
            yield Caution(code="not-completed", message=f"{run.title} is {run.state}{tail}")
        elif not run.metrics:
            yield Caution(
                code="not-scored",
                message=f"nobody scored {run.title} on public rows "
                f"(accord run watch {run.run} --holdout public.csv)",
            )


def _incomparable(found: Sequence[Evidence], runs: Sequence[RunColumn]) -> Iterator[Caution]:
    """Why figures of these runs do not compare."""
    manifests = [item.run.manifest for item in found]
    if _differ([sorted(site.dataset for site in manifest.roster) for manifest in manifests]):
        yield Caution(code="different-datasets", message="the runs were over different datasets")
    if _differ([manifest.task.name for manifest in manifests]):
        yield Caution(code="different-tasks", message="the runs learned different tasks")
    if _differ([manifest.schema_hash for manifest in manifests]):
        yield Caution(code="different-schemas", message="the tables have different schemas")
    if _differ([run.holdout for run in runs if run.holdout is not None]):
        yield Caution(code="different-holdouts", message="the metrics are of different public rows")


def _epsilons(runs: Sequence[RunColumn]) -> Iterator[Caution]:
    bases = [(row.adjacency, row.delta) for run in runs for row in run.epsilon if row.epsilon]
    if _differ(bases):
        yield Caution(
            code="different-adjacencies",
            message="the epsilons are for different deltas, or for different neighbours (adding or "
            "removing a record, or replacing one)",
        )


def _differ(values: Sequence[object]) -> bool:
    return any(value != values[0] for value in values[1:])
