"""From short terms, with names, to a full agreement, with keys, ids, hashes and sizes.

Guarantees: every name resolves to exactly one approved party or registered dataset, or the draft is
refused; what is left out takes the strictest numbers that SPEC.md's bounds allow. Pure.

Not covered: whether the registry tells the truth about keys. Each party finds its own key in the
agreement it signs, and a swapped one lacks the signature of whom it claims to be.
"""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from difflib import get_close_matches

from pydantic import ValidationError

from accord_common.agreement import (
    AggregationTerms,
    Agreement,
    Benefit,
    Dataset,
    Party,
    PermittedTask,
    PrivacyTerms,
    Release,
)
from accord_common.api.membership import Partner
from accord_common.api.schemas import AgreementView, DatasetView
from accord_common.errors import ConflictError, NotFoundError, UsageError
from accord_common.fields import Dec, format_time, new_id
from accord_common.manifest import default_threshold
from accord_server.coordinator.terms_file import (
    AggregationEntry,
    DatasetEntry,
    PrivacyEntry,
    TermsFile,
)


def draft(
    terms: TermsFile,
    *,
    coordinator: str,
    partners: Sequence[Partner],
    datasets: Sequence[DatasetView],
    log_key: str,
    moment: datetime,
    replaced: AgreementView | None = None,
) -> Agreement:
    """Resolve names and fill in what follows from them.

    Args:
        terms: what a person wrote.
        coordinator: the caller's party id.
        partners: everybody enrolled at the registry.
        datasets: everything registered there.
        log_key: the registry's log key.
        moment: now; the default start.
        replaced: the agreement that `terms.replaces` names.

    Raises:
        NotFoundError: `unknown-party`, `unknown-dataset`.
        ConflictError: `not-approved`, `ambiguous-party`, `ambiguous-dataset`, `not-active`.
        UsageError: `missing-term`, `bad-terms`, `wrong-role`.
    """
    people = _People(partners)
    chosen = [_dataset(entry, people, datasets) for entry in terms.datasets]
    members = {people.by_id(coordinator).id, _aggregator(terms, people).id}
    members |= {view.owner for view in chosen}
    members |= {people.find(name, "auditor").id for name in terms.auditors}
    n = len({view.owner for view in chosen})  # a run has one dataset of each
    start = _start(terms.valid_from, moment)
    previous = _previous(terms, replaced)
    recipients = (
        sorted({view.owner for view in chosen})
        if terms.recipients is None
        else sorted(people.find(name).id for name in terms.recipients)
    )
    try:
        return Agreement(
            id=previous.agreement.id if previous else new_id(),
            version=previous.agreement.version + 1 if previous else 1,
            previous=previous.hash if previous else None,
            title=terms.title,
            purpose=terms.purpose,
            legal_basis=terms.legal_basis,
            responsibilities=terms.responsibilities,
            parties=[_party(people.by_id(member)) for member in sorted(members)],
            datasets=sorted(
                (
                    _agreed(view, entry, terms.privacy)
                    for view, entry in zip(chosen, terms.datasets, strict=True)
                ),
                key=lambda item: item.id,
            ),
            tasks=sorted(
                (PermittedTask.model_validate(entry.model_dump()) for entry in terms.tasks),
                key=lambda item: item.task,
            ),
            aggregation=_aggregation(terms.aggregation, n),
            release=Release(recipients=recipients, metrics="public-holdout"),
            benefit=Benefit(
                rule=terms.benefit.rule,
                shares={people.find(name).id: s for name, s in terms.benefit.shares.items()},
            ),
            retention_days=terms.retention_days,
            valid_from=format_time(start),
            valid_until=format_time(start + timedelta(days=terms.valid_days)),
            log_key=log_key,
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "agreement"
        raise UsageError(
            "bad-terms", f"{place}: {first['msg'].removeprefix('Value error, ')}"
        ) from error


class _People:
    """Approved parties by name."""

    def __init__(self, partners: Sequence[Partner]) -> None:
        self._partners = partners

    def by_id(self, party: str) -> Partner:
        for partner in self._partners:
            if partner.id == party:
                return _approved(partner)
        raise NotFoundError("unknown-party", f"{party} is not enrolled at this registry")

    def find(self, name: str, role: str | None = None) -> Partner:
        found = [partner for partner in self._partners if partner.name == name]
        if not found:
            raise _unknown("party", name, [partner.name for partner in self._partners])
        if len(found) > 1:
            raise ConflictError("ambiguous-party", f"{len(found)} parties are called {name!r}")
        if role is not None and found[0].role != role:
            raise UsageError("wrong-role", f"{name!r} is a {found[0].role}, not a {role}")
        return _approved(found[0])

    def with_role(self, role: str) -> list[Partner]:
        return [p for p in self._partners if p.role == role and p.status == "approved"]


def _approved(partner: Partner) -> Partner:
    if partner.status != "approved":
        raise ConflictError(
            "not-approved",
            f"{partner.name!r} has enrolled but is not approved",
            hint=f"accord partner approve {partner.name!r}",
        )
    return partner


def _unknown(kind: str, name: str, known: Sequence[str]) -> NotFoundError:
    near = get_close_matches(name, known, n=3, cutoff=0.4)
    return NotFoundError(
        f"unknown-{kind}",
        f"no {kind} is called {name!r}",
        hint=f"Near: {', '.join(near)}." if near else f"Known: {', '.join(sorted(known)) or '-'}.",
    )


def _aggregator(terms: TermsFile, people: _People) -> Partner:
    if terms.aggregator is not None:
        return people.find(terms.aggregator, "aggregator")
    found = people.with_role("aggregator")
    if len(found) != 1:
        raise UsageError(
            "missing-term",
            f"{len(found)} approved aggregators at this registry, one is needed",
            hint="Invite and approve one." if not found else "Name one: `aggregator: NAME`.",
        )
    return found[0]


def _dataset(entry: DatasetEntry, people: _People, datasets: Sequence[DatasetView]) -> DatasetView:
    owner = people.find(entry.owner, "data-holder")
    own = [view for view in datasets if view.owner == owner.id]
    found = [view for view in own if view.name == entry.name]
    if not found:
        raise _unknown("dataset", entry.name, [view.name for view in own])
    if len(found) > 1:
        raise ConflictError(
            "ambiguous-dataset", f"{entry.owner!r} registered {len(found)} named {entry.name!r}"
        )
    if found[0].schema_hash != found[0].table.hash:
        raise ConflictError("wrong-schema", f"the schema of {entry.name!r} has not its own hash")
    return found[0]


def _party(partner: Partner) -> Party:
    return Party(
        id=partner.id,
        name=partner.name,
        role=partner.role,
        identity_key=partner.identity_key,
        jurisdiction=partner.jurisdiction,
        contact=partner.contact,
    )


def _agreed(view: DatasetView, entry: DatasetEntry, common: PrivacyEntry) -> Dataset:
    terms: dict[str, Dec | bool | None] = {"adjacency": "add-remove", "non_private": False}
    for source in (common, entry.privacy):
        terms |= source.model_dump(exclude_none=True)
    for name in PrivacyTerms.model_fields:
        if terms.get(name) is None:
            raise UsageError(
                "missing-term",
                f"privacy.{name} is not given for {entry.name!r} of {entry.owner!r}",
                hint="Give it under `privacy`, for all datasets or for this one.",
            )
    return Dataset(
        id=view.id,
        name=view.name,
        owner=view.owner,
        population=view.population,
        schema_hash=view.schema_hash,
        size=view.size,
        unit=view.unit,
        privacy=PrivacyTerms.model_validate(terms),
    )


def _aggregation(entry: AggregationEntry, n: int) -> AggregationTerms:
    threshold = entry.threshold or default_threshold(n)
    cohort = entry.min_cohort or max(2, threshold)
    most = max(0, min(2 * threshold - n - 1, cohort - 2))
    colluders = most if entry.colluders is None else entry.colluders
    for name, value, low, high in (
        ("threshold", threshold, default_threshold(n), n),
        ("min_cohort", cohort, 2, n),
        ("colluders", colluders, 0, most),
    ):
        if not low <= value <= high:
            raise UsageError(
                "bad-terms",
                f"aggregation.{name} = {value}; for {n} institutions it lies from {low} to {high}",
            )
    return AggregationTerms(min_cohort=cohort, threshold=threshold, colluders=colluders)


def _start(given: date | datetime | None, moment: datetime) -> datetime:
    if given is None:
        return moment
    if not isinstance(given, datetime):
        return datetime(given.year, given.month, given.day, tzinfo=moment.tzinfo)
    return given if given.tzinfo else given.replace(tzinfo=moment.tzinfo)


def _previous(terms: TermsFile, replaced: AgreementView | None) -> AgreementView | None:
    if terms.replaces is None:
        return None
    if replaced is None or replaced.hash != terms.replaces:
        raise NotFoundError("unknown-agreement", f"no agreement {terms.replaces[:16]} here")
    if replaced.status not in ("active", "expired"):
        raise ConflictError("not-active", f"agreement {terms.replaces[:16]} is {replaced.status}")
    return replaced
