"""The day by which a cap will be used up, from receipts: `privacy.pace` over what they charged.

Guarantees: read by index, and only as far back as the window that the pace is of. An attempt whose
receipt came twice, once within the window, counts as of the window: the day is then too early.
"""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import func, literal, select
from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.privacy.filter import RdpFilter
from accord_common.privacy.pace import WINDOW, Pace, pace
from accord_server.registry.budgets.combining import Spent
from accord_server.registry.budgets.repository import Term
from accord_server.registry.budgets.tables import RunBudgetRow, SpendRow
from accord_server.registry.budgets.tallies import MECHANISM, Sums, cap_of
from accord_server.registry.tables import RecordRow

Cap = tuple[str, str]  # agreement and dataset

_NOTHING = Sums()


async def paces(
    session: AsyncSession, terms: Sequence[Term], spent: Spent, moment: datetime
) -> dict[Cap, Pace]:
    """Return each cap's pace.

    Args:
        session: of the database.
        terms: the caps, as `combining.all_balances` read them.
        spent: by population, likewise.
        moment: now.
    """
    people = sorted({one.terms.population for one in terms})
    begun = await _begun(session, people)
    earlier = await _earlier(session, people, await _before(session, moment - WINDOW))
    found = {}
    for one in terms:
        rule, population = RdpFilter(cap_of(one.terms)), one.terms.population
        sums = spent.get((population,), _NOTHING)
        now = rule.epsilon(sums.spent)
        left = float(one.terms.epsilon_cap) - rule.epsilon(sums.spent + sums.promised)
        before = rule.epsilon(earlier.get(population, _NOTHING).spent)
        cap = one.terms.agreement, one.terms.dataset
        found[cap] = pace(now, before, left, begun.get(population), moment)
    return found


async def _begun(session: AsyncSession, people: Sequence[str]) -> dict[str, datetime]:
    """When each population was first charged, as far as receipts tell."""
    of = select(RunBudgetRow.population, RunBudgetRow.dataset).distinct()
    named = of.where(RunBudgetRow.population.in_(people)).subquery()
    first = (
        select(named.c.population, func.min(SpendRow.sequence).label("sequence"))
        .join(SpendRow, SpendRow.dataset == named.c.dataset)
        .group_by(named.c.population)
        .subquery()
    )
    query = select(first.c.population, RecordRow.received).join(
        RecordRow, RecordRow.sequence == first.c.sequence
    )
    return {population: received for population, received in await session.execute(query)}


async def _before(session: AsyncSession, moment: datetime) -> int:
    """The last sequence that was received before a moment: no index has times, but they ascend."""
    low, high = 0, (await session.execute(select(func.max(RecordRow.sequence)))).scalar() or 0
    while low < high:
        middle = (low + high + 1) // 2
        at = select(RecordRow.received).where(RecordRow.sequence <= middle)
        received = await session.scalar(at.order_by(RecordRow.sequence.desc()).limit(1))
        if received is None or received < moment:
            low = middle
        else:
            high = middle - 1
    return low


async def _earlier(session: AsyncSession, people: Sequence[str], until: int) -> dict[str, Sums]:
    """What populations had been charged by receipts up to a sequence."""
    since = (
        select(
            SpendRow.run,
            SpendRow.dataset,
            func.count(SpendRow.number.distinct()).label("attempts"),
        )
        .where(SpendRow.sequence > until)
        .group_by(SpendRow.run, SpendRow.dataset)
        .subquery()
    )
    attempts = RunBudgetRow.attempts - func.coalesce(since.c.attempts, literal(0))
    query = (
        select(
            RunBudgetRow.population,
            *MECHANISM,
            func.sum(attempts).label("attempts"),
            func.sum(attempts * RunBudgetRow.steps).label("steps"),
        )
        .outerjoin(
            since, (since.c.run == RunBudgetRow.run) & (since.c.dataset == RunBudgetRow.dataset)
        )
        .where(RunBudgetRow.population.in_(people))
        .group_by(RunBudgetRow.population, *MECHANISM)
    )
    found: dict[str, Sums] = {}
    for row in (await session.execute(query)).mappings():
        adjacency, noise, rate = (row[column.key] for column in MECHANISM)
        charged = {"attempts": int(row["attempts"]), "steps": int(row["steps"])}
        sums = found.setdefault(row["population"], Sums())
        sums.add(adjacency, noise, rate, charged | {"ahead": 0, "steps_ahead": 0})
    return found
