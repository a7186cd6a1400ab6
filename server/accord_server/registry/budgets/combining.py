"""What institutions, agreements and runs come to: sums gathered, then figures made of them.

Where a `party` is given, of what is its own alone, as if nobody else had any.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import ColumnElement
from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.api.budget_schemas import BalanceRow, CombinedRow
from accord_server.registry.budgets import repository, service
from accord_server.registry.budgets.repository import Term
from accord_server.registry.budgets.service import Group
from accord_server.registry.budgets.tables import RunBudgetRow, TermsRow
from accord_server.registry.budgets.tallies import Sums, sums
from accord_server.registry.paging import equal

Spent = dict[tuple[str, ...], Sums]


def balances(terms: Sequence[Term], spent: Spent, moment: datetime) -> list[BalanceRow]:
    """Rows of caps; `spent` is by population."""
    empty = Sums()
    return [
        service.balance_row(one, spent.get((one.terms.population,), empty), moment) for one in terms
    ]


async def all_balances(
    session: AsyncSession,
    where: Iterable[ColumnElement[bool]],
    after: tuple[str, str] | None = None,
    limit: int | None = None,
) -> tuple[list[Term], Spent]:
    """Read what `balances` shows: datasets' terms behind `after`, and what their people spent."""
    terms = await repository.terms(session, where, after, limit)
    return terms, await _by_population(session, terms)


def rows(groups: Sequence[Group]) -> list[CombinedRow]:
    """Rows of groups."""
    return [service.combined_row(group) for group in groups]


async def institutions(
    session: AsyncSession, party: str | None, after: str | None, limit: int, moment: datetime
) -> list[Group]:
    """Data holders behind `after`, with everything that their populations spent."""
    names = await repository.holders(session, party, after, limit)
    terms = await repository.terms(session, [TermsRow.owner.in_(names)])
    spent = await _by_population(session, terms)
    groups = []
    for holder, name in names.items():
        own = [one for one in terms if one.terms.owner == holder]
        active = [one for one in own if one.status(moment) == "active"]
        groups.append(_group(holder, name, own, spent, active, moment))
    return groups


async def agreements(
    session: AsyncSession, party: str | None, after: str | None, limit: int, moment: datetime
) -> list[Group]:
    """Agreements behind `after`, with what was spent under them; what is left is of all."""
    hashes = await repository.agreements(session, party, after, limit)
    terms = await repository.terms(
        session, [TermsRow.agreement.in_(hashes), *equal((TermsRow.owner, party))]
    )
    under = await sums(
        session,
        [RunBudgetRow.agreement, RunBudgetRow.population],
        [RunBudgetRow.agreement.in_(hashes), *equal((RunBudgetRow.party, party))],
    )
    whole = await _by_population(session, terms)
    titles = {one.terms.agreement: one.terms.title for one in terms}
    groups = []
    for hash_ in hashes:
        own = [one for one in terms if one.terms.agreement == hash_]
        spent: Spent = {
            (people,): found for (agreed, people), found in under.items() if agreed == hash_
        }
        left = service.least(row.left for row in balances(own, whole, moment))
        groups.append(_group(hash_, titles[hash_], own, spent, [], moment, left))
    return groups


async def runs(
    session: AsyncSession, party: str | None, after: str | None, limit: int
) -> list[Group]:
    """Runs behind `after`, with what each spent."""
    titles = await repository.runs(session, party, after, limit)
    of = [RunBudgetRow.run.in_(titles), *equal((RunBudgetRow.party, party))]
    terms: dict[str, list[TermsRow]] = defaultdict(list)
    for line in await repository.lines(session, of):
        terms[line.budget.run].append(line.terms)
    spent: dict[str, dict[str, Sums]] = defaultdict(dict)
    by = [RunBudgetRow.run, RunBudgetRow.population]
    for (run, people), found in (await sums(session, by, of)).items():
        spent[run][people] = found
    return [Group(run, title, terms[run], spent[run], None) for run, title in titles.items()]


def _group(
    id_: str,
    name: str,
    terms: Sequence[Term],
    spent: Spent,
    binding: Sequence[Term],
    moment: datetime,
    left: str | None = None,
) -> Group:
    left = left or service.least(row.left for row in balances(binding, spent, moment))
    by_population = {people: found for (people,), found in spent.items()}
    return Group(id_, name, [one.terms for one in terms], by_population, left)


async def _by_population(session: AsyncSession, terms: Sequence[Term]) -> Spent:
    people = {one.terms.population for one in terms}
    return await sums(session, [RunBudgetRow.population], [RunBudgetRow.population.in_(people)])
