"""Spends summed in the database, one group a dataset and run."""

from collections import Counter
from dataclasses import dataclass, field

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.agreement import Agreement, PrivacyTerms
from accord_common.privacy.accounting import Tally
from accord_common.privacy.events import NO_NOISE
from accord_server.registry.records.lookup import load_agreement
from accord_server.registry.tables import AgreementPartyRow, SpendRow


@dataclass(slots=True)
class Group:
    """What one run spent on one dataset, and the terms that it counts against."""

    run: str
    dataset: str
    party: str
    population: str
    terms: PrivacyTerms
    attempts: int = 0
    steps: Counter[tuple[str, str]] = field(default_factory=Counter)
    adjacencies: set[str] = field(default_factory=set)
    non_private: int = 0

    @property
    def tally(self) -> Tally:
        """The spends, summed by mechanism."""
        return Tally.build(self.steps, self.adjacencies, self.non_private)


@dataclass(frozen=True, slots=True)
class Reach:
    """Whose budgets: one holder's own, those of a party's agreements, or with neither all."""

    holder: str | None = None
    party: str | None = None


async def groups(
    session: AsyncSession,
    reach: Reach,
    dataset: str | None,
    run: str | None,
    after: int,
    limit: int,
) -> list[Group]:
    """Return spends by run and dataset, oldest run first, behind the first `after`."""
    columns = (
        SpendRow.run,
        SpendRow.dataset,
        SpendRow.party,
        SpendRow.population,
        SpendRow.agreement,
        SpendRow.adjacency,
        SpendRow.noise_multiplier,
        SpendRow.sampling_rate,
    )
    query = select(*columns, func.count(), func.sum(SpendRow.steps)).group_by(*columns)
    if reach.holder is not None:
        query = query.where(SpendRow.party == reach.holder)
    if reach.party is not None:
        named = select(AgreementPartyRow.agreement).where(AgreementPartyRow.party == reach.party)
        query = query.where(SpendRow.agreement.in_(named))
    if dataset is not None:
        query = query.where(SpendRow.dataset == dataset)
    if run is not None:
        query = query.where(SpendRow.run == run)
    found: dict[tuple[str, str], Group] = {}
    agreements: dict[str, Agreement] = {}
    for row in (await session.execute(query.order_by(SpendRow.run, SpendRow.dataset))).all():
        (run_, data, party, population, agreement, adjacency, noise, rate, count, steps) = row
        if (run_, data) not in found:
            if len(found) == after + limit:
                break
            if agreement not in agreements:
                agreements[agreement] = await load_agreement(session, agreement)
            terms = agreements[agreement].dataset(data).privacy
            found[run_, data] = Group(run_, data, party, population, terms)
        group = found[run_, data]
        group.attempts += count
        if noise == NO_NOISE:
            group.non_private += count
            continue
        group.steps[noise, rate] += int(steps)
        group.adjacencies.add(adjacency)
    return list(found.values())[after:]
