"""Whether a run would be allowed under an agreement: every reason why not, and what it would cost.

Guarantees: pure; asks each of `terms.TERMS`, which every node asks again before it consents, with
the agreement's state, its dates and each dataset's cap; no reason hides another. The price is that
of the filter which nodes enforce, for every attempt that the manifest allows.

Not covered: what only a node knows: its ledger beyond the receipts that were seen, its steward's
own caps, which code is installed there, which tables it still has; and its steward's word.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal

from accord_common.agreement import Agreement
from accord_common.api.agreement_schemas import Forecast
from accord_common.catalogue import CatalogueEntry, require_kept
from accord_common.costs import attempts_tally
from accord_common.errors import AccordError, NotFoundError, PolicyError
from accord_common.fields import Dec, to_decimal
from accord_common.manifest import RunManifest
from accord_common.privacy import words
from accord_common.privacy.accounting import Tally, decimal_up
from accord_common.privacy.filter import Cap, RdpFilter
from accord_common.terms import violations

_STATES = {
    "proposed": ("agreement-incomplete", "not every party has signed, or its first day lies ahead"),
    "suspended": ("agreement-suspended", "a party has suspended it for now"),
    "superseded": ("agreement-superseded", "a later version has replaced it"),
    "expired": ("agreement-expired", "its last day is over"),
    "withdrawn": ("agreement-withdrawn", "a party has withdrawn from it"),
}
_REMEDIES = {
    "proposed": "Ask those whose signature is missing.",
    "suspended": "Only who suspended it can resume it: accord agreement resume.",
    "superseded": "Start the run under the newest version.",
    "expired": "Every party must sign a new version: accord agreement amend.",
    "withdrawn": "The parties need a new agreement.",
}
_MOST = 1e15  # a record's decimals have no infinity


def objections(
    agreement: Agreement,
    manifest: RunManifest,
    *,
    status: str,
    spent: Mapping[str, Tally],
    moment: datetime,
    declared: Mapping[str, CatalogueEntry],
) -> tuple[list[AccordError], list[Forecast]]:
    """Say everything that speaks against a run, and what it would cost each dataset.

    Args:
        agreement: the terms.
        manifest: the run; delegations, offer and hashes of weights are not looked at.
        status: the agreement's state, as the registry has it.
        spent: earlier runs' releases by population.
        moment: now.
        declared: the newest catalogue entry of each dataset that has one, by id.

    Returns:
        No error where the run would be allowed; and a forecast for each dataset that the agreement
        has, in the roster's order.
    """
    found = list(_state(agreement, status, moment))
    found += violations(agreement, manifest)
    forecasts = []
    for site in manifest.roster:
        try:
            dataset = agreement.dataset(site.dataset)
        except NotFoundError:
            continue  # the roster's own term says so
        if site.dataset in declared:
            found += _unkept(declared[site.dataset], agreement)
        terms = dataset.privacy
        rule = RdpFilter(Cap(epsilon=terms.epsilon_cap, delta=terms.delta, non_private=True))
        before = spent.get(dataset.population, Tally(terms.adjacency, ()))
        attempts = manifest.max_attempts_total
        run = attempts_tally(manifest, site, terms.adjacency, attempts)
        private = not run.non_private
        so_far = rule.epsilon(before)
        after = rule.epsilon(before + run) if private else so_far
        forecast = Forecast(
            party=dataset.owner,
            dataset=dataset.id,
            label=f"{agreement.party(dataset.owner).name}/{dataset.name}",
            epsilon=_decimal(rule.epsilon(run)) if private else None,
            spent=_decimal(so_far),
            non_private=before.non_private,
            after=_decimal(after),
            left=to_decimal(
                max(Decimal(0), Decimal(terms.epsilon_cap) - Decimal(_decimal(so_far)))
            ),
            cap=terms.epsilon_cap,
            delta=terms.delta,
        )
        forecasts.append(forecast)
        found += _overspent(forecast, private_only=not terms.non_private)
    return list({(error.code, error.message): error for error in found}.values()), forecasts


def _state(agreement: Agreement, status: str, moment: datetime) -> Iterator[AccordError]:
    if status in _STATES:
        code, why = _STATES[status]
        told = f"agreement {agreement.title!r}, version {agreement.version}: {why}"
        yield PolicyError(code, told, hint=_REMEDIES[status])
    if status not in ("expired", "proposed"):
        try:
            agreement.check_valid_at(moment)
        except AccordError as error:
            yield error


def _unkept(entry: CatalogueEntry, agreement: Agreement) -> Iterator[AccordError]:
    try:
        require_kept(entry, agreement)
    except PolicyError as error:
        yield error


def _overspent(forecast: Forecast, *, private_only: bool) -> Iterator[AccordError]:
    if forecast.non_private and private_only:
        yield PolicyError(
            "budget-exceeded",
            f"{forecast.label}: {words.releases(forecast.non_private)} before this run; nothing "
            f"fits the cap {forecast.cap} beside that",
            hint="Agree on new terms with `non_private: true`, if the parties accept that.",
        )
    if Decimal(forecast.after) > Decimal(forecast.cap):
        needs = to_decimal(Decimal(forecast.after) - Decimal(forecast.spent))
        yield PolicyError(
            "budget-exceeded",
            f"{forecast.label}: this run needs epsilon {needs}, {forecast.left} is left "
            f"({forecast.after} after it; the cap is {forecast.cap} at delta {forecast.delta})",
            hint="Plan fewer rounds, steps or spare attempts, or more noise.",
        )


def _decimal(epsilon: float) -> Dec:
    return decimal_up(min(epsilon, _MOST))
