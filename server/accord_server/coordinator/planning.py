"""The dry run: is this plan allowed, and what does it cost?

Guarantees: pure; asks the same terms that every node asks before it consents, and prices privacy by
the filter that nodes enforce, with every attempt that the manifest allows. Plans on which PLD and
PRV disagree are refused.

Not covered: what a node's own ledger holds beyond the receipts that the registry has, and which
code is installed there. Memory figures are estimates; `accord-node try` measures.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal

import numpy as np
from pydantic import computed_field

from accord_common.agreement import Agreement, Dataset
from accord_common.errors import AccordError, PolicyError
from accord_common.fields import Count, Dec, Hash, Id, new_id, to_decimal
from accord_common.manifest import PrivacyMode, RunManifest
from accord_common.privacy import words
from accord_common.privacy.accounting import Tally, decimal_up
from accord_common.privacy.calibration import calibrate
from accord_common.privacy.events import NO_NOISE
from accord_common.privacy.filter import Cap, RdpFilter
from accord_common.privacy.report import (
    HIGHEST_CAP,
    PrvAccountant,
    fixed_plan_epsilon,
    prv_check,
)
from accord_common.receipts import NodeReceipt
from accord_common.secagg.sealing import TAG_BYTES, chunk_count
from accord_common.terms import violations
from accord_server.coordinator.manifests import (
    ModelFacts,
    Roster,
    choose_datasets,
    label,
    make_manifest,
)
from accord_server.coordinator.plan_file import PlanFile
from accord_server.coordinator.remedies import remedies
from accord_server.coordinator.views import View

_FLOAT = 4  # bytes
_NODE_COPIES = 5  # in a step: model as it came, update, sum in float64 (two), a layer's part
_FIGURES = ("epsilon", "epsilon_pld", "epsilon_prv", "epsilon_rounds")
_AGGREGATOR_IN_FLIGHT = 64 << 20  # bytes beside the masked sum: what is being sent, read, stepped


class Reason(View):
    """Why a plan is not allowed."""

    code: str
    message: str
    hint: str


class SiteCost(View):
    """What a run costs one dataset; `epsilon` is what counts against the cap.

    All four are null for a run without privacy: it costs infinity.

    Attributes:
        epsilon: RDP filter, all attempts.
        epsilon_pld: PLD, all attempts, fixed beforehand.
        epsilon_prv: PRV for add/remove, the cross-check of PLD; null beyond any cap, where both are
            left out and the filter's figure stands in for PLD's.
        epsilon_rounds: PLD where no attempt has to be repeated.
        spent: RDP filter over earlier runs' receipts, private ones.
        non_private: releases without privacy that earlier runs' receipts show.
        after: RDP filter over earlier runs and this one, where they are private.
    """

    party: Id
    dataset: Id
    label: str
    sampling_rate: Dec
    noise_multiplier: Dec
    epsilon: Dec | None
    epsilon_pld: Dec | None
    epsilon_prv: Dec | None
    epsilon_rounds: Dec | None
    delta: Dec
    cap: Dec
    spent: Dec
    non_private: Count
    after: Dec

    @computed_field  # type: ignore[prop-decorator]  # mypy's issue 14461
    @property
    def needs(self) -> Dec | None:
        """What the run adds: less than `epsilon`, since runs composed cost less; null like it."""
        if self.epsilon is None:
            return None
        return to_decimal(Decimal(self.after) - Decimal(self.spent))

    @computed_field  # type: ignore[prop-decorator]  # mypy's issue 14461
    @property
    def left(self) -> Dec:
        """What earlier runs' receipts leave of the cap; the run fits where it needs no more."""
        return to_decimal(max(Decimal(0), Decimal(self.cap) - Decimal(self.spent)))


class Load(View):
    """Bytes: a round's traffic, and memory (estimates)."""

    round_per_site: Count
    round_total: Count
    node_memory: Count
    aggregator_memory: Count


class PlanView(View):
    """The dry run's answer.

    Attributes:
        privacy: `none` for a run that protects nobody's record.
        dimension: numbers that are trained and travel.
        base_dimension: numbers of the public model that is adapted; null where all are trained.
    """

    allowed: bool
    reasons: list[Reason]
    title: str
    agreement: Hash
    agreement_title: str
    task: str
    architecture: str
    privacy: PrivacyMode
    dimension: Count
    base_dimension: Count | None
    rounds: Count
    max_attempts_total: Count
    steps: Count
    smallest_cohort: Count
    threshold: Count
    colluders: Count
    ring_bits: Count
    bound: Dec
    scale: Count
    sites: list[SiteCost]
    bytes: Load


def spent_before(receipts: Iterable[NodeReceipt]) -> dict[str, Tally]:
    """Sum what receipts show by population; an attempt counts once, whoever repeats it."""
    seen: set[tuple[str, str, int, int]] = set()
    tallies: dict[str, Tally] = {}
    for receipt in receipts:
        spend = receipt.ledger.spend
        attempt = (spend.population, spend.run, spend.round, spend.attempt)
        if attempt in seen:
            continue
        seen.add(attempt)
        tally = Tally.of([spend])
        before = tallies.get(spend.population)
        tallies[spend.population] = tally if before is None else before + tally
    return tallies


def choose_noise(plan: PlanFile, datasets: Sequence[Dataset]) -> dict[Id, Dec]:
    """The plan's noise multiplier, or the least with which all attempts fit its epsilon everywhere.

    One for all, but for a dataset whose agreed minimum is above it: a site with much more noise
    than the others would stand out of their sum. A given one is taken as it is. A run without
    privacy has none.

    Args:
        plan: what a person wrote.
        datasets: those of the run.

    Returns:
        Dataset id -> noise multiplier.

    Raises:
        PolicyError: `budget-too-small` where no noise is enough.
    """
    if plan.privacy.mode == "none":
        return {dataset.id: NO_NOISE for dataset in datasets}
    if plan.noise_multiplier is not None:
        return {dataset.id: plan.noise_multiplier for dataset in datasets}
    needed = {
        calibrate(
            plan.epsilon or "0",
            delta,
            plan.sampling_rate,
            plan.steps * plan.max_attempts,
            adjacency,
        )
        for delta, adjacency in {(d.privacy.delta, d.privacy.adjacency) for d in datasets}
    }
    return {
        dataset.id: max(*needed, dataset.privacy.min_noise_multiplier, key=float)
        for dataset in datasets
    }


def make_roster(plan: PlanFile, agreement: Agreement) -> Roster:
    """Choose datasets and their noise."""
    datasets = choose_datasets(plan, agreement)
    return Roster(datasets, choose_noise(plan, datasets), datasets[0].schema_hash)


def appraise(
    plan: PlanFile,
    agreement: Agreement,
    agreement_hash: str,
    roster: Roster,
    model: ModelFacts,
    *,
    spent: Mapping[str, Tally],
    prv: PrvAccountant,
    moment: datetime,
) -> PlanView:
    """Say whether the agreement allows a plan, every reason why not, and what it costs.

    Args:
        plan: what a person wrote.
        agreement: verified terms.
        agreement_hash: their hash.
        roster: from `make_roster`.
        model: layout and dimension.
        spent: from `spent_before`.
        prv: the second accountant.
        moment: now.

    Raises:
        VerificationError: `accountants-disagree`.
        UsageError: `bad-plan`.
    """
    manifest = make_manifest(
        plan, agreement, agreement_hash, roster, model, run_id=new_id(), moment=moment
    )
    sites = [_cost(plan, agreement, item, roster, spent, prv) for item in roster.datasets]
    over = {site.dataset for site in sites if float(site.after) > float(site.cap)}
    hints = remedies(plan, [item for item in roster.datasets if item.id in over], spent)
    found = [
        *_dates(agreement, moment),
        *violations(agreement, manifest),
        *_overspends(sites, roster, hints),
    ]
    return PlanView(
        allowed=not found,
        reasons=[Reason(code=e.code, message=e.message, hint=e.hint) for e in found],
        title=manifest.title,
        agreement=agreement_hash,
        agreement_title=agreement.title,
        task=plan.task,
        architecture=plan.architecture.name,
        privacy=plan.privacy.mode,
        dimension=model.dimension,
        base_dimension=None if model.adaptation is None else model.adaptation.dimension,
        rounds=plan.rounds,
        max_attempts_total=plan.max_attempts,
        steps=plan.steps,
        smallest_cohort=manifest.smallest_cohort,
        threshold=manifest.secagg.threshold,
        colluders=manifest.secagg.colluders,
        ring_bits=manifest.secagg.ring_bits,
        bound=manifest.secagg.bound,
        scale=manifest.secagg.scale,
        sites=sites,
        bytes=_load(manifest),
    )


def _cost(
    plan: PlanFile,
    agreement: Agreement,
    dataset: Dataset,
    roster: Roster,
    spent: Mapping[str, Tally],
    prv: PrvAccountant,
) -> SiteCost:
    terms, noise = dataset.privacy, roster.noise[dataset.id]
    before = spent.get(dataset.population, Tally(terms.adjacency, ()))
    cap = Cap(epsilon=terms.epsilon_cap, delta=terms.delta, non_private=True)
    rule = RdpFilter(cap)  # figures are of private releases; `_overspends` looks at the others
    figures: dict[str, Dec | None] = dict.fromkeys(_FIGURES)
    after = before
    if plan.privacy.mode == "dp":

        def tally(attempts: int) -> Tally:
            return Tally(terms.adjacency, ((noise, plan.sampling_rate, attempts * plan.steps),))

        everything = tally(plan.max_attempts)
        figures = _figures(everything, tally(plan.rounds), rule, prv)
        after = before + everything
    return SiteCost(
        party=dataset.owner,
        dataset=dataset.id,
        label=label(agreement, dataset),
        sampling_rate=plan.sampling_rate,
        noise_multiplier=noise,
        delta=terms.delta,
        cap=terms.epsilon_cap,
        spent=_decimal(rule.epsilon(before)),
        non_private=before.non_private,
        after=_decimal(rule.epsilon(after)),
        **figures,
    )


def _figures(
    everything: Tally, rounds: Tally, rule: RdpFilter, prv: PrvAccountant
) -> dict[str, Dec | None]:
    """`_FIGURES` of all attempts, and of as many as there are rounds."""
    delta = rule.cap.delta
    counted = rule.epsilon(everything)
    hopeless = counted > HIGHEST_CAP
    return {
        "epsilon": _decimal(counted),
        "epsilon_pld": _decimal(fixed_plan_epsilon(everything, delta)),
        "epsilon_prv": None if hopeless else _checked(everything, float(delta), prv),
        "epsilon_rounds": _decimal(fixed_plan_epsilon(rounds, delta)),
    }


def _checked(tally: Tally, delta: float, prv: PrvAccountant) -> Dec:
    with np.errstate(divide="ignore"):  # Opacus takes log(1 - q), also at q = 1
        return _decimal(prv_check(tally, delta, prv))


def _decimal(epsilon: float) -> Dec:
    return decimal_up(min(epsilon, 1e15))  # a record's decimals have no infinity


def _dates(agreement: Agreement, moment: datetime) -> list[AccordError]:
    try:
        agreement.check_valid_at(moment)
    except AccordError as error:
        return [error]
    return []


def _overspends(
    sites: Iterable[SiteCost], roster: Roster, hints: Mapping[Id, str]
) -> list[AccordError]:
    exposed: list[AccordError] = [
        PolicyError(
            "budget-exceeded",
            f"{site.label}: {words.releases(site.non_private)} before this run; nothing fits the "
            f"cap {site.cap} beside that, since it speaks of all that was ever released",
            hint="Agree on new terms with `non_private: true`, if the parties accept that.",
        )
        for site, dataset in zip(sites, roster.datasets, strict=True)
        if site.non_private and not dataset.privacy.non_private
    ]
    return exposed + [
        PolicyError(
            "budget-exceeded",
            f"{site.label}: this run needs {site.needs}, {site.left} is left (epsilon {site.after} "
            f"after it, {site.spent} spent before; the cap is {site.cap} at delta {site.delta})",
            hint=hints[site.dataset],
        )
        for site in sites
        if site.dataset in hints
    ]


def _load(manifest: RunManifest) -> Load:
    bits = manifest.secagg.ring_bits
    model = manifest.dimension * _FLOAT
    words = manifest.dimension * bits // 8
    whole = manifest.dimension if manifest.adaptation is None else manifest.adaptation.dimension
    tags = TAG_BYTES * chunk_count(manifest.dimension, bits)
    site = model + words + tags  # model down, sealed words up
    return Load(
        round_per_site=site,
        round_total=site * manifest.n,
        node_memory=_NODE_COPIES * model + _FLOAT * whole,
        aggregator_memory=manifest.dimension * manifest.secagg.ring_bits // 8
        + _AGGREGATOR_IN_FLIGHT,
    )
