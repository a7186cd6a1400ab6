"""What an agreement lets a run do: manifest against agreement, nothing else.

Guarantees: `TERMS` are independent; each looks at one term and raises one stable code. The
coordinator asks them before signing (`violations`), every node again before consenting, with the
agreement that its own steward signed.

Not covered: who signed what, which code is installed, and what a budget has left: see the node's
`consent.py`.
"""

from collections.abc import Callable, Iterator
from decimal import ROUND_FLOOR, Context, Decimal
from fractions import Fraction

from accord_common.agreement import Agreement, Dataset, PermittedTask
from accord_common.errors import AccordError, PolicyError, UsageError
from accord_common.fields import to_decimal
from accord_common.manifest import (
    PROTOCOL,
    LocalTraining,
    PrivacyMode,
    RunManifest,
    Site,
    default_threshold,
)
from accord_common.privacy.events import MIN_CLIPPING_NORM
from accord_common.rings import require_noise, ring_of, scale_for
from accord_common.secagg.graph import COMPLETE_UP_TO, is_drawn
from accord_common.vectors import plain_bound, update_bound, update_noise

Term = Callable[[Agreement, RunManifest], None]


def protocol_is_known(_: Agreement, manifest: RunManifest) -> None:
    """Two protocols never mix."""
    if manifest.protocol != PROTOCOL:
        raise PolicyError(
            "protocol-mismatch",
            f"the run speaks protocol {manifest.protocol}, this software {PROTOCOL}",
            hint="Install the release that the other parties use.",
        )


def roster_is_agreed(agreement: Agreement, manifest: RunManifest) -> None:
    """Every site is a data holder of the agreement with a dataset that it owns."""
    owners = {dataset.id: dataset.owner for dataset in agreement.datasets}
    for site in manifest.roster:
        if owners.get(site.dataset) != site.party:
            raise PolicyError(
                "roster-not-agreed",
                f"{site.party} with dataset {site.dataset} is not what the parties signed",
            )


def roster_is_small_enough(_: Agreement, manifest: RunManifest) -> None:
    """At most as many nodes as share masks in a complete graph: runs draw no other (SPEC.md)."""
    if is_drawn(manifest.n):
        raise PolicyError(
            "roster-too-large",
            f"{manifest.n} institutions; a run sums at most {COMPLETE_UP_TO}",
            hint="Split the roster: the graph that larger ones draw is not carried over the wire.",
        )


def aggregator_is_agreed(agreement: Agreement, manifest: RunManifest) -> None:
    """The manifest's aggregator is the agreement's."""
    (agreed,) = agreement.with_role("aggregator")
    if manifest.aggregator.party != agreed.id:
        raise PolicyError(
            "aggregator-not-agreed", f"{manifest.aggregator.party} is not {agreed.name!r}"
        )


def cohort_is_large_enough(agreement: Agreement, manifest: RunManifest) -> None:
    """n_min is at least the agreed one, and reachable."""
    least = agreement.aggregation.min_cohort
    if not least <= manifest.secagg.min_cohort <= manifest.n:
        raise PolicyError(
            "cohort-too-small",
            f"smallest cohort {manifest.secagg.min_cohort} of {manifest.n}, agreed {least}",
        )


def threshold_is_high_enough(agreement: Agreement, manifest: RunManifest) -> None:
    """The threshold t is at least the agreed one and floor(2n/3) + 1, and at most n."""
    least = max(agreement.aggregation.threshold, default_threshold(manifest.n))
    if not least <= manifest.secagg.threshold <= manifest.n:
        raise PolicyError(
            "threshold-too-low",
            f"threshold {manifest.secagg.threshold} of {manifest.n}, at least {least} is needed",
        )


def colluders_are_bounded(agreement: Agreement, manifest: RunManifest) -> None:
    """The colluders c are at least those agreed, and at most min(2t - n - 1, n_min - 2)."""
    terms = manifest.secagg
    most = min(2 * terms.threshold - manifest.n - 1, terms.min_cohort - 2)
    if not agreement.aggregation.colluders <= terms.colluders <= most:
        raise PolicyError(
            "colluders-out-of-bounds",
            f"c = {terms.colluders}; agreed at least {agreement.aggregation.colluders}, "
            f"t and n_min allow at most {most}",
        )


def task_is_permitted(agreement: Agreement, manifest: RunManifest) -> None:
    """The task is one that the parties named."""
    agreement.permitted(manifest.task.name)


def architecture_is_permitted(agreement: Agreement, manifest: RunManifest) -> None:
    """The architecture is one that the parties named for this task."""
    for task in _named(agreement, manifest):
        if manifest.architecture.name not in task.architectures:
            raise PolicyError(
                "architecture-not-permitted",
                f"architecture {manifest.architecture.name!r} is not among {task.architectures}",
            )


def rounds_are_within_terms(agreement: Agreement, manifest: RunManifest) -> None:
    """No more rounds than agreed for the task."""
    for task in _named(agreement, manifest):
        if manifest.rounds > task.max_rounds:
            raise PolicyError(
                "too-many-rounds", f"{manifest.rounds} rounds, agreed at most {task.max_rounds}"
            )


def schema_is_agreed(agreement: Agreement, manifest: RunManifest) -> None:
    """All sites train on tables of the one schema that the manifest names."""
    for site, dataset in _sites(agreement, manifest):
        if dataset.schema_hash != manifest.schema_hash:
            raise PolicyError(
                "schema-not-agreed",
                f"dataset {dataset.name!r} of {site.party} was agreed with another schema",
            )


def privacy_is_as_agreed(agreement: Agreement, manifest: RunManifest) -> None:
    """A run without privacy is one that every site's terms permit."""
    for _, dataset in _sites(agreement, manifest):
        if manifest.privacy == "none" and not dataset.privacy.non_private:
            raise PolicyError(
                "non-private-not-agreed",
                f"the run protects nobody's record; {dataset.name!r} of {dataset.owner} was agreed "
                "for private runs only",
                hint="Plan a private run, or agree on `non_private: true` for every dataset.",
            )


def noise_is_enough(agreement: Agreement, manifest: RunManifest) -> None:
    """Every site's noise multiplier is at least the agreed one, where there is noise at all."""
    if manifest.privacy == "none":
        return
    for site, dataset in _sites(agreement, manifest):
        if Fraction(site.noise_multiplier) < Fraction(dataset.privacy.min_noise_multiplier):
            raise PolicyError(
                "noise-too-small",
                f"noise multiplier {site.noise_multiplier} for {dataset.name!r}, agreed at least "
                f"{dataset.privacy.min_noise_multiplier}",
            )


def clipping_is_within_terms(agreement: Agreement, manifest: RunManifest) -> None:
    """The clipping norm is one that float32 can hold rows to, and at most the agreed one."""
    if Fraction(manifest.local.clipping_norm) < Fraction(MIN_CLIPPING_NORM):
        raise PolicyError(
            "clipping-norm-too-small",
            f"clipping norm {manifest.local.clipping_norm}, at least {MIN_CLIPPING_NORM} is needed",
        )
    for _, dataset in _sites(agreement, manifest):
        most = dataset.privacy.max_clipping_norm
        if Fraction(manifest.local.clipping_norm) > Fraction(most):
            raise PolicyError(
                "clipping-norm-too-large",
                f"clipping norm {manifest.local.clipping_norm} for {dataset.name!r}, agreed at "
                f"most {most}",
            )


def sampling_is_within_terms(agreement: Agreement, manifest: RunManifest) -> None:
    """The sampling rate is positive and at most the agreed one."""
    for site, dataset in _sites(agreement, manifest):
        most = dataset.privacy.max_sampling_rate
        if not 0 < Fraction(site.sampling_rate) <= Fraction(most):
            raise PolicyError(
                "sampling-rate-too-large",
                f"sampling rate {site.sampling_rate} for {dataset.name!r}, agreed at most {most}",
            )


def weights_are_public(agreement: Agreement, manifest: RunManifest) -> None:
    """All sites weigh the same, or as the public sizes that every party signed.

    Free weights would undo the masks: beside a million to one, a sum is one site's own update.
    """
    weights = [site.weight for site in manifest.roster]
    sizes = [dataset.size for _, dataset in _sites(agreement, manifest)]
    if len(set(weights)) > 1 and weights != sizes:
        raise PolicyError(
            "weights-not-agreed",
            f"weights {weights}; either all are equal, or they are the public sizes {sizes}",
        )


def sampling_is_alike(_: Agreement, manifest: RunManifest) -> None:
    """All sites have one sampling rate.

    A site's noise goes with 1 / (q N): beside a rate of a millionth, a sum is one site's update.
    """
    rates = {site.sampling_rate for site in manifest.roster}
    if len({Fraction(rate) for rate in rates}) > 1:
        raise PolicyError(
            "sampling-rates-differ",
            f"sampling rates {sorted(rates, key=Fraction)} in one run",
            hint="Give every site the same.",
        )


def noise_is_alike(agreement: Agreement, manifest: RunManifest) -> None:
    """No noise multiplier is above the smallest in the run, but where the site's own terms ask it.

    Beside a multiplier of a thousand, a sum is one site's own update.
    """
    least = min((site.noise_multiplier for site in manifest.roster), key=Fraction)
    for site, dataset in _sites(agreement, manifest):
        most = max(least, dataset.privacy.min_noise_multiplier, key=Fraction)
        if Fraction(site.noise_multiplier) > Fraction(most):
            raise PolicyError(
                "noise-not-alike",
                f"noise multiplier {site.noise_multiplier} for {dataset.name!r} of {site.party}, "
                f"others have {least}, and its own terms ask for "
                f"{dataset.privacy.min_noise_multiplier}",
                hint="Give every site the same, or the least that its terms ask for.",
            )


def scale_follows(agreement: Agreement, manifest: RunManifest) -> None:
    """Bound and scale are the ones that every machine derives from the other numbers."""
    bound = required_bound(agreement, manifest)
    scale = scale_for(bound, manifest.n, ring_of(manifest.secagg.ring_bits))
    if (manifest.secagg.bound, manifest.secagg.scale) != (bound, scale):
        raise PolicyError(
            "scale-does-not-follow",
            f"bound {manifest.secagg.bound} and scale {manifest.secagg.scale}; "
            f"{bound} and {scale} follow from the manifest",
        )


def ring_is_wide_enough(agreement: Agreement, manifest: RunManifest) -> None:
    """16 bits only where the noise of each site is at least 4 quantisation steps."""
    for site, _ in _sites(agreement, manifest):
        ring = ring_of(manifest.secagg.ring_bits)
        try:
            require_noise(site_noise(agreement, manifest, site), manifest.secagg.scale, ring)
        except UsageError as error:
            raise PolicyError(error.code, error.message, hint=error.hint) from error


TERMS: tuple[Term, ...] = (
    protocol_is_known,
    roster_is_agreed,
    roster_is_small_enough,
    aggregator_is_agreed,
    cohort_is_large_enough,
    threshold_is_high_enough,
    colluders_are_bounded,
    task_is_permitted,
    architecture_is_permitted,
    rounds_are_within_terms,
    schema_is_agreed,
    privacy_is_as_agreed,
    noise_is_enough,
    clipping_is_within_terms,
    sampling_is_within_terms,
    weights_are_public,
    sampling_is_alike,
    noise_is_alike,
    scale_follows,
    ring_is_wide_enough,
)


def violations(agreement: Agreement, manifest: RunManifest) -> list[AccordError]:
    """Return every term that the manifest breaks, in the order of `TERMS`."""
    found = []
    for term in TERMS:
        try:
            term(agreement, manifest)
        except AccordError as error:
            found.append(error)
    return found


def required_bound(agreement: Agreement, manifest: RunManifest) -> str:
    """B of SPEC.md: the largest of the sites' bounds; a weight is at most 1 and only shrinks it."""
    bounds = [
        site_bound(manifest.privacy, manifest.local, site, dataset.size, manifest.dimension)
        for site, dataset in _sites(agreement, manifest)
    ]
    return max(bounds, key=Fraction)


def site_bound(
    privacy: PrivacyMode, local: LocalTraining, site: Site, size: int, dimension: int
) -> str:
    """The largest magnitude of a coordinate of one site's update, before its weight.

    Args:
        privacy: the run's.
        local: how all sites train.
        site: one of them.
        size: its dataset's public size.
        dimension: numbers that are trained.
    """
    if privacy == "none":
        return plain_bound(
            steps=local.steps, learning_rate=local.learning_rate, clip=local.clipping_norm
        )
    return update_bound(
        steps=local.steps,
        learning_rate=local.learning_rate,
        clip=local.clipping_norm,
        noise_multiplier=site.noise_multiplier,
        sampling_rate=site.sampling_rate,
        population=size,
        dimension=dimension,
    )


def site_noise(agreement: Agreement, manifest: RunManifest, site: Site) -> str:
    """Standard deviation of the noise on each coordinate of what a site sends, w' x.

    Returns:
        A decimal string, rounded down to six digits: the same on every machine.
    """
    noise = update_noise(
        steps=manifest.local.steps,
        learning_rate=manifest.local.learning_rate,
        clip=manifest.local.clipping_norm,
        noise_multiplier=site.noise_multiplier,
        sampling_rate=site.sampling_rate,
        population=agreement.dataset(site.dataset).size,
    )
    largest = max(other.weight for other in manifest.roster)
    down = Context(prec=6, rounding=ROUND_FLOOR)
    return to_decimal(down.divide(Decimal(noise) * site.weight, Decimal(largest)))


def _named(agreement: Agreement, manifest: RunManifest) -> list[PermittedTask]:
    """The terms for the manifest's task: one, or none where it is not permitted at all."""
    return [task for task in agreement.tasks if task.task == manifest.task.name]


def _sites(agreement: Agreement, manifest: RunManifest) -> Iterator[tuple[Site, Dataset]]:
    for site in manifest.roster:
        yield site, agreement.dataset(site.dataset)
