"""What one transaction has read ahead for its charges, or charged itself; gone with its session.

Guarantees: whatever is answered from memory is what a query would find, this transaction's own
charges among it: writers take turns (`db`), so nobody else changes it meanwhile, and of the
transaction itself only receipts do, which say so here.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from sqlalchemy import ColumnElement, Select, and_, bindparam, delete, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.privacy.accounting import Tally
from accord_server.registry.budgets.tables import OwedReceiptRow, RunBudgetRow, SpendRow, TermsRow
from accord_server.registry.budgets.tallies import Sums, spent_on

_KNOWN = "accord_charges"  # in a session

_TERMS = select(TermsRow).where(
    TermsRow.agreement == bindparam("agreement"), TermsRow.population == bindparam("population")
)
_OWED = OwedReceiptRow.metadata.tables[OwedReceiptRow.__tablename__]  # no session holds such rows
_POSTED = delete(_OWED).where(
    *(_OWED.c[name] == bindparam(name) for name in ("run", "party", "round", "attempt"))
)


class Attempt(NamedTuple):
    """What a receipt charges."""

    run: str
    party: str
    round: int
    attempt: int


class Charge(NamedTuple):
    """An attempt, and the entry in the node's ledger that stands for it."""

    of: Attempt
    entry: int


@dataclass(slots=True)
class _Known:
    asked: set[Charge] = field(default_factory=set)  # of them `spends` and `owed` know all
    spends: list[SpendRow] = field(default_factory=list)
    owed: set[Attempt] = field(default_factory=set)
    terms: dict[tuple[str, str], list[TermsRow]] = field(default_factory=dict)
    sums: dict[str, Sums] = field(default_factory=dict)  # by population


def _known(session: AsyncSession) -> _Known:
    found = session.info.setdefault(_KNOWN, _Known())
    assert isinstance(found, _Known)
    return found


async def read_ahead(
    session: AsyncSession,
    charges: Collection[Charge],
    budgets: Iterable[RunBudgetRow],
    terms: Iterable[TermsRow],
    owed: Iterable[Attempt],
) -> None:
    """Read what charges will be compared with.

    Args:
        session: in whose transaction they will be.
        charges: all that are to come.
        budgets: those that they charge.
        terms: all that the budgets' agreements say of their populations.
        owed: those of the attempts whose receipts are owed.
    """
    known, budgets = _known(session), list(budgets)
    known.spends += await _spends(session, charges)
    known.owed.update(owed)
    known.asked.update(charges)
    known.sums |= await spent_on(session, {one.population for one in budgets})
    for one in budgets:
        known.terms[one.agreement, one.population] = []
    for each in terms:
        known.terms[each.agreement, each.population].append(each)


async def _spends(session: AsyncSession, charges: Collection[Charge]) -> list[SpendRow]:
    asked: dict[str, object] = {}
    for index, (of, entry) in enumerate(charges):
        named = of._asdict() | {"entry": entry}
        asked |= {f"{name}{index}": value for name, value in named.items()}
    return list((await session.execute(_spends_of(len(charges)), asked)).scalars())


@lru_cache
def _spends_of(count: int) -> Select[SpendRow]:
    """Of so many charges, each spelled out: SQLite seeks no index for one of several tuples."""
    each: list[ColumnElement[bool]] = []
    for index in range(count):
        run, party, round_, attempt, entry = (
            getattr(SpendRow, name) == bindparam(f"{name}{index}")
            for name in (*Attempt._fields, "entry")
        )
        each += [and_(run, party, round_, attempt), and_(party, entry)]
    return select(SpendRow).where(or_(*each))


async def seen(session: AsyncSession, charge: Charge) -> list[SpendRow]:
    """Charges of the same attempt, or by the same entry, in order."""
    known = _known(session)
    if charge in known.asked:
        found = [
            row
            for row in known.spends
            if Attempt(row.run, row.party, row.round, row.attempt) == charge.of
            or (row.party, row.entry) == (charge.of.party, charge.entry)
        ]
    else:
        found = await _spends(session, [charge])
    return sorted(found, key=lambda row: row.sequence)


def add(session: AsyncSession, spend: SpendRow, budget: RunBudgetRow, *, new: bool) -> None:
    """Add a charge; `new` where it is no repetition, so that its budget has one attempt more."""
    known = _known(session)
    session.add(spend)
    if known.asked:
        known.spends.append(spend)
    if new:
        budget.attempts += 1
        if (sums := known.sums.get(budget.population)) is not None:
            sums.add(
                budget.adjacency,
                budget.noise_multiplier,
                budget.sampling_rate,
                {"attempts": 1, "steps": budget.steps, "ahead": 0, "steps_ahead": 0},
            )


async def settle(session: AsyncSession, charge: Charge) -> None:
    """A receipt has come: it is owed no more."""
    known = _known(session)
    if charge not in known.asked or charge.of in known.owed:
        await session.execute(_POSTED, charge.of._asdict())


def owe(session: AsyncSession, rows: Iterable[OwedReceiptRow]) -> None:
    """Add receipts that are owed."""
    known = _known(session)
    for row in rows:
        session.add(row)
        if known.asked:
            known.owed.add(Attempt(row.run, row.party, row.round, row.attempt))


async def terms_of(session: AsyncSession, agreement: str, population: str) -> list[TermsRow]:
    """An agreement's terms on a population; they never change."""
    known = _known(session).terms
    if (agreement, population) not in known:
        asked = {"agreement": agreement, "population": population}
        known[agreement, population] = list((await session.execute(_TERMS, asked)).scalars())
    return known[agreement, population]


async def spent(session: AsyncSession, population: str) -> Tally:
    """What receipts show of a population, with this transaction's."""
    known = _known(session).sums
    if population not in known:
        known |= await spent_on(session, [population])
    return known[population].spent
