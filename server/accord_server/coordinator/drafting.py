"""From short terms, with names, to a full agreement, with keys, ids, hashes and sizes.

Guarantees: every name resolves to exactly one approved party or registered dataset, or the draft is
refused with everything that is wrong with it; what is left out takes the strictest numbers that
SPEC.md's bounds allow. Pure.

Not covered: whether the registry tells the truth about keys. Each party finds its own key in the
agreement it signs, and a swapped one lacks the signature of whom it claims to be.
"""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from difflib import get_close_matches
from fractions import Fraction

from pydantic import ValidationError

from accord_common import duo, yaml_text
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
from accord_common.api.dataset_schemas import CatalogueView
from accord_common.api.membership import Partner
from accord_common.api.schemas import AgreementView
from accord_common.errors import ConflictError, NotFoundError, UsageError
from accord_common.fields import Dec, format_time, new_id
from accord_common.manifest import default_threshold
from accord_server.coordinator.documents import Problems, Source, explain
from accord_server.coordinator.terms_file import (
    DEFAULT_DAYS,
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
    datasets: Sequence[CatalogueView],
    log_key: str,
    moment: datetime,
    replaced: AgreementView | None = None,
    source: Source | None = None,
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
        source: where entries stand, so that errors name their lines.

    Raises:
        NotFoundError: `unknown-party`, `unknown-dataset`, `unknown-agreement`.
        ConflictError: `not-approved`, `ambiguous-party`, `ambiguous-dataset`, `not-active`.
        UsageError: `missing-term`, `wrong-role`, `delta-too-large`, `purpose-not-allowed`, or
            `bad-terms`, which also lists all of them where there are several.
    """
    people, problems = _People(partners), Problems(source or Source())
    agreed: list[Dataset] = []
    owners: set[str] = set()
    for number, entry in enumerate(terms.datasets):
        with problems.at("datasets", number):
            view = _dataset(entry, people, datasets)
            owners.add(view.owner)
            for conflict in duo.conflicts(_conditions(view, entry), terms.purpose):
                told = f"{entry.name!r} of {entry.owner!r}: {conflict}"
                problems.add(("datasets", number), UsageError("purpose-not-allowed", told))
            if not _missing(entry, terms.privacy):
                agreed.append(_agreed(view, entry, terms.privacy))
    _check_given(terms, problems)
    members = set(owners)
    with problems.at():
        members.add(people.by_id(coordinator).id)
    with problems.at("aggregator"):
        members.add(_aggregator(terms, people).id)
    for number, name in enumerate(terms.auditors):
        with problems.at("auditors", number):
            members.add(people.find(name, "auditor").id)
    recipients = set(owners) if terms.recipients is None else set()
    for number, name in enumerate(terms.recipients or ()):
        with problems.at("recipients", number):
            recipients.add(people.find(name).id)
    shares = {}
    for name, share in terms.benefit.shares.items():
        with problems.at("benefit", "shares", name):
            shares[people.find(name).id] = share
    previous = None
    with problems.at("replaces"):
        previous = _previous(terms, replaced)
    n = len(owners)  # a run has one dataset of each
    _check_aggregation(terms.aggregation, n, problems)
    if not problems.found:  # else somebody may only seem to be none
        _check_members(terms, people, members, problems)
    problems.stop("bad-terms")
    start = _start(terms.valid_from, moment)
    end = start + timedelta(days=terms.valid_days or DEFAULT_DAYS)
    if terms.valid_until is not None:
        end = _start(terms.valid_until, moment)
        if end <= start:
            late = f"valid_until = {terms.valid_until} is not after {format_time(start)}"
            problems.add(("valid_until",), UsageError("bad-terms", late))
            problems.stop("bad-terms")
    try:
        return Agreement(
            id=previous.agreement.id if previous else new_id(),
            version=previous.agreement.version + 1 if previous else 1,
            previous=previous.hash if previous else None,
            title=terms.title,
            purpose=sorted(terms.purpose),
            legal_basis=terms.legal_basis,
            responsibilities=terms.responsibilities,
            parties=[_party(people.by_id(member)) for member in sorted(members)],
            datasets=sorted(agreed, key=lambda item: item.id),
            tasks=sorted(
                (PermittedTask.model_validate(entry.model_dump()) for entry in terms.tasks),
                key=lambda item: item.task,
            ),
            aggregation=_aggregation(terms.aggregation, n)[0],
            release=Release(recipients=sorted(recipients), metrics="public-holdout"),
            benefit=Benefit(rule=terms.benefit.rule, shares=shares),
            retention_days=terms.retention_days,
            valid_from=format_time(start),
            valid_until=format_time(end),
            log_key=log_key,
        )
    except ValidationError as error:
        for item in error.errors(include_url=False):
            problems.add(item["loc"], UsageError("bad-terms", explain(item, Agreement)))
        problems.stop("bad-terms")
        raise


class _People:
    """Approved parties by name."""

    def __init__(self, partners: Sequence[Partner]) -> None:
        self._partners = partners

    def by_id(self, party: str) -> Partner:
        for partner in self._partners:
            if partner.id == party:
                return _approved(partner)
        raise NotFoundError("unknown-party", f"{party} is not enrolled at this registry")

    def named(self, name: str) -> list[Partner]:
        return [partner for partner in self._partners if partner.name == name]

    def find(self, name: str, role: str | None = None) -> Partner:
        found = self.named(name)
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


def _conditions(view: CatalogueView, entry: DatasetEntry) -> list[str]:
    """As the terms say, else as the dataset's catalogue entry does."""
    if entry.duo is not None:
        return sorted(set(entry.duo))
    return [] if view.entry is None else view.entry.duo


def _dataset(
    entry: DatasetEntry, people: _People, datasets: Sequence[CatalogueView]
) -> CatalogueView:
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


_Terms = dict[str, Dec | bool | None]


def _privacy(entry: DatasetEntry, common: PrivacyEntry) -> _Terms:
    terms: _Terms = {"adjacency": "add-remove", "non_private": False}
    for source in (common, entry.privacy):
        terms |= source.model_dump(exclude_none=True)
    return terms


def _missing(entry: DatasetEntry, common: PrivacyEntry) -> list[str]:
    terms = _privacy(entry, common)
    return [name for name in PrivacyTerms.model_fields if terms.get(name) is None]


def _check_given(terms: TermsFile, problems: Problems) -> None:
    for name in PrivacyTerms.model_fields:
        lacking = [
            f"{entry.name!r} of {entry.owner!r}"
            for entry in terms.datasets
            if name in _missing(entry, terms.privacy)
        ]
        if lacking:
            problems.add(
                ("privacy",),
                UsageError(
                    "missing-term",
                    f"privacy.{name} is not given for {', '.join(lacking)}",
                    hint="Give it under `privacy`, for all datasets, or at each.",
                ),
            )


def _agreed(view: CatalogueView, entry: DatasetEntry, common: PrivacyEntry) -> Dataset:
    terms = _privacy(entry, common)
    privacy = PrivacyTerms.model_validate(terms)
    if Fraction(privacy.delta) * view.size >= 1:
        raise UsageError(
            "delta-too-large",
            f"privacy.delta = {privacy.delta} for {entry.name!r} of {entry.owner!r}; it has size "
            f"{view.size}, so delta must be below 1/{view.size}: at 1/N a whole record may be "
            "released now and then",
            hint="A tenth of 1/N or less is usual.",
        )
    return Dataset(
        id=view.id,
        name=view.name,
        owner=view.owner,
        population=view.population,
        schema_hash=view.schema_hash,
        size=view.size,
        unit=view.unit,
        duo=_conditions(view, entry),
        profile=entry.profile,
        privacy=privacy,
    )


def _aggregation(entry: AggregationEntry, n: int) -> tuple[AggregationTerms, int]:
    """The terms, and how many colluders they could bear at most."""
    threshold = entry.threshold or default_threshold(n)
    cohort = entry.min_cohort or max(2, threshold)
    most = max(0, min(2 * threshold - n - 1, cohort - 2))
    colluders = most if entry.colluders is None else entry.colluders
    made = AggregationTerms.model_construct(
        min_cohort=cohort, threshold=threshold, colluders=colluders
    )
    return made, most


def _check_aggregation(entry: AggregationEntry, n: int, problems: Problems) -> None:
    if n < 2:  # too few datasets were found: that is told
        return
    terms, most = _aggregation(entry, n)
    for name, low, high in (
        ("threshold", default_threshold(n), n),
        ("min_cohort", 2, n),
        ("colluders", 0, most),
    ):
        value = getattr(terms, name)
        if not low <= value <= high:
            problems.add(
                ("aggregation", name),
                UsageError(
                    "bad-terms",
                    f"aggregation.{name} = {value}; for {n} institutions it lies from {low} to "
                    f"{high}",
                    hint="Leave it out: the strictest that is possible follows.",
                ),
            )


def _check_members(
    terms: TermsFile, people: _People, members: set[str], problems: Problems
) -> None:
    """Who gets the model or a share signs too, so must be a party."""
    paths: list[yaml_text.Path] = [("benefit", "shares", name) for name in terms.benefit.shares]
    paths += [("recipients", number) for number in range(len(terms.recipients or ()))]
    for path in paths:
        name = (terms.recipients or ())[path[1]] if isinstance(path[1], int) else str(path[2])
        for partner in people.named(name):
            if partner.id not in members:
                problems.add(
                    path,
                    UsageError(
                        "no-party",
                        f"{name!r} is a {partner.role}, and no party of this agreement",
                        hint="Parties are the coordinator, the aggregator, the owners of datasets "
                        "and `auditors`.",
                    ),
                )


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
    if replaced.status not in ("active", "expired", "suspended"):
        raise ConflictError(
            "not-active",
            f"agreement {terms.replaces[:16]} is {replaced.status}",
            hint="Amend the version that replaced it."
            if replaced.status == "superseded"
            else "It has no next version; without `replaces`, these are terms of a new agreement.",
        )
    return replaced
