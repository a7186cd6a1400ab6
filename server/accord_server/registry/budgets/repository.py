"""Reading budgets: pages by keyset, so that the last page costs what the first one does."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.api.schemas import AgreementStatus
from accord_common.fields import Adjacency
from accord_common.privacy.accounting import Tally
from accord_common.privacy.events import NO_NOISE
from accord_server.registry.agreements.status import status_of
from accord_server.registry.budgets.tables import RunBudgetRow, SpendRow, TermsRow
from accord_server.registry.budgets.tallies import ahead
from accord_server.registry.tables import (
    AgreementPartyRow,
    AgreementRow,
    PartnerRow,
    RecordRow,
    RunRow,
)

_BUDGET_OF = (RunBudgetRow.run == SpendRow.run) & (RunBudgetRow.dataset == SpendRow.dataset)
_TERMS_OF = (TermsRow.agreement == RunBudgetRow.agreement) & (
    TermsRow.dataset == RunBudgetRow.dataset
)


@dataclass(frozen=True, slots=True)
class Line:
    """One run's budget on one dataset, the terms it counts against, attempts still reserved."""

    budget: RunBudgetRow
    terms: TermsRow
    ahead: int

    def tally(self, attempts: int) -> Tally:
        """What so many attempts release."""
        return tally_of(self.budget, attempts)

    @property
    def spent(self) -> Tally:
        """What receipts show."""
        return self.tally(self.budget.attempts)


def tally_of(budget: RunBudgetRow, attempts: int) -> Tally:
    """What so many attempts of a run release on a dataset."""
    adjacency: Adjacency = "replace-one" if budget.adjacency == "replace-one" else "add-remove"
    if budget.noise_multiplier == NO_NOISE:
        return Tally(adjacency, (), attempts)
    if not attempts:
        return Tally(adjacency, ())
    mechanism = (budget.noise_multiplier, budget.sampling_rate, attempts * budget.steps)
    return Tally(adjacency, (mechanism,))


async def lines(
    session: AsyncSession,
    where: Iterable[ColumnElement[bool]] = (),
    after: tuple[str, str] | None = None,
    limit: int | None = None,
) -> list[Line]:
    """Return runs' budgets by run and dataset, behind `after`."""
    query = (
        select(RunBudgetRow, TermsRow, ahead())
        .join(TermsRow, _TERMS_OF)
        .where(*where)
        .order_by(RunBudgetRow.run, RunBudgetRow.dataset)
    )
    if after is not None:
        query = query.where(tuple_(RunBudgetRow.run, RunBudgetRow.dataset) > after)
    found = await session.execute(query.limit(limit))
    return [Line(budget, terms, int(rest)) for budget, terms, rest in found.all()]


async def newest_lines(session: AsyncSession, dataset: str, limit: int) -> list[Line]:
    """Return the newest runs' budgets on a dataset, newest first: run ids ascend with time."""
    newest = (
        select(RunBudgetRow.run)
        .where(RunBudgetRow.dataset == dataset)
        .order_by(RunBudgetRow.run.desc())
        .limit(limit)
    )
    runs = list((await session.execute(newest)).scalars())
    where = [RunBudgetRow.dataset == dataset, RunBudgetRow.run.in_(runs)]
    return (await lines(session, where))[::-1]


async def titles(session: AsyncSession, of: Iterable[str]) -> dict[str, str]:
    """Return the titles of those runs, by id."""
    query = select(RunRow.id, RunRow.title).where(RunRow.id.in_(set(of)))
    return {run: title for run, title in (await session.execute(query)).all()}


@dataclass(frozen=True, slots=True)
class Term:
    """A dataset's terms, its owner's name, and the agreement that sets them."""

    terms: TermsRow
    institution: str
    agreement: AgreementRow
    suspended: bool  # the agreement, by a party of it

    def status(self, moment: datetime) -> AgreementStatus:
        """The agreement's."""
        return status_of(self.agreement, moment, suspended=self.suspended)


async def terms(
    session: AsyncSession,
    where: Iterable[ColumnElement[bool]],
    after: tuple[str, str] | None = None,
    limit: int | None = None,
) -> list[Term]:
    """Return datasets' terms by dataset and agreement, behind `after`."""
    halted = select(AgreementPartyRow.party).where(
        AgreementPartyRow.agreement == TermsRow.agreement, AgreementPartyRow.suspended.is_(True)
    )
    query = (
        select(TermsRow, PartnerRow.name, AgreementRow, halted.exists())
        .join(PartnerRow, PartnerRow.id == TermsRow.owner)
        .join(AgreementRow, AgreementRow.hash == TermsRow.agreement)
        .where(*where)
        .order_by(TermsRow.dataset, TermsRow.agreement)
    )
    if after is not None:
        query = query.where(tuple_(TermsRow.dataset, TermsRow.agreement) > after)
    return [Term(*row) for row in (await session.execute(query.limit(limit))).all()]


async def spends(
    session: AsyncSession,
    party: str | None,
    dataset: str | None,
    run: str | None,
    after: int,
    limit: int,
) -> list[tuple[SpendRow, RunBudgetRow, str]]:
    """Return charged attempts behind sequence `after`, each with its budget and its delta."""
    query = (
        select(SpendRow, RunBudgetRow, TermsRow.delta)
        .join(RunBudgetRow, _BUDGET_OF)
        .join(TermsRow, _TERMS_OF)
        .where(SpendRow.sequence > after)
        .order_by(SpendRow.sequence)
        .limit(limit)
    )
    if party is not None:
        query = query.where(SpendRow.party == party)
    if dataset is not None:
        query = query.where(SpendRow.dataset == dataset)
    if run is not None:
        query = query.where(SpendRow.run == run)
    return [(spend, budget, delta) for spend, budget, delta in (await session.execute(query)).all()]


async def newest_spends(
    session: AsyncSession, dataset: str, before: int | None, limit: int
) -> list[tuple[SpendRow, RunBudgetRow, str, datetime]]:
    """Return a dataset's charged attempts before sequence `before`, newest first.

    Each comes with its budget, its delta and when its receipt came.
    """
    query = (
        select(SpendRow, RunBudgetRow, TermsRow.delta, RecordRow.received)
        .join(RunBudgetRow, _BUDGET_OF)
        .join(TermsRow, _TERMS_OF)
        .join(RecordRow, RecordRow.sequence == SpendRow.sequence)
        .where(SpendRow.dataset == dataset)
        .order_by(SpendRow.sequence.desc())
        .limit(limit)
    )
    if before is not None:
        query = query.where(SpendRow.sequence < before)
    return [
        (spend, budget, delta, received)
        for spend, budget, delta, received in (await session.execute(query)).all()
    ]


async def holders(
    session: AsyncSession, party: str | None, after: str | None, limit: int
) -> dict[str, str]:
    """Return the data holders, or one of them, id to name, by id behind `after`."""
    query = select(PartnerRow.id, PartnerRow.name).where(PartnerRow.role == "data-holder")
    if party is not None:
        query = query.where(PartnerRow.id == party)
    if after is not None:
        query = query.where(PartnerRow.id > after)
    found = await session.execute(query.order_by(PartnerRow.id).limit(limit))
    return {party: name for party, name in found.all()}


async def agreements(
    session: AsyncSession, party: str | None, after: str | None, limit: int
) -> list[str]:
    """Return the hashes of fully signed agreements, or of those on a holder's, behind `after`."""
    query = select(AgreementRow.hash)
    if party is not None:
        own = select(TermsRow.agreement).where(TermsRow.owner == party)
        query = query.where(AgreementRow.hash.in_(own))
    if after is not None:
        query = query.where(AgreementRow.hash > after)
    return list((await session.execute(query.order_by(AgreementRow.hash).limit(limit))).scalars())


async def runs(
    session: AsyncSession, party: str | None, after: str | None, limit: int
) -> dict[str, str]:
    """Return runs, or those on a holder's datasets, id to title, by id behind `after`."""
    query = select(RunRow.id, RunRow.title)
    if party is not None:
        own = select(RunBudgetRow.run).where(RunBudgetRow.party == party)
        query = query.where(RunRow.id.in_(own))
    if after is not None:
        query = query.where(RunRow.id > after)
    found = await session.execute(query.order_by(RunRow.id).limit(limit))
    return {run: title for run, title in found.all()}
