"""Sums of what was spent and what is reserved, in the database, as the accountant wants them."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, and_, bindparam, case, func, literal, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from accord_common.privacy.accounting import Tally
from accord_common.privacy.events import NO_NOISE
from accord_common.privacy.filter import Cap
from accord_server.registry.budgets.tables import RunBudgetRow, TermsRow
from accord_server.registry.tables import OPEN, ClosureRow, RunRow, SiteRow

MECHANISM = (
    RunBudgetRow.adjacency,
    RunBudgetRow.noise_multiplier,
    RunBudgetRow.sampling_rate,
)


@dataclass(slots=True)
class Sums:
    """What a set of runs spent (`spent`), and may still spend (`promised`)."""

    _spent: Counter[tuple[str, str]] = field(default_factory=Counter)
    _promised: Counter[tuple[str, str]] = field(default_factory=Counter)
    _adjacencies: set[str] = field(default_factory=set)
    _promised_adjacencies: set[str] = field(default_factory=set)
    attempts: int = 0
    non_private: int = 0
    non_private_promised: int = 0

    def add(self, adjacency: str, noise: str, rate: str, row: Mapping[str, Any]) -> None:
        """Add one mechanism: its `attempts` and `steps` so far, `ahead` and `steps_ahead`."""
        self.attempts += row["attempts"]
        if noise == NO_NOISE:
            self.non_private += row["attempts"]
            self.non_private_promised += row["ahead"]
            return
        if row["attempts"]:
            self._spent[noise, rate] += row["steps"]
            self._adjacencies.add(adjacency)
        if row["ahead"]:
            self._promised[noise, rate] += row["steps_ahead"]
            self._promised_adjacencies.add(adjacency)

    @property
    def spent(self) -> Tally:
        """What receipts show."""
        return Tally.build(self._spent, self._adjacencies, self.non_private)

    @property
    def promised(self) -> Tally:
        """What open runs that sites accepted may still add."""
        return Tally.build(self._promised, self._promised_adjacencies, self.non_private_promised)


def open_and_accepted() -> ColumnElement[bool]:
    """Of a `RunBudgetRow`: its site accepted, and neither records nor registry ended the run."""
    accepted = select(SiteRow.run).where(
        SiteRow.run == RunBudgetRow.run,
        SiteRow.party == RunBudgetRow.party,
        SiteRow.decision == "accept",
    )
    going = select(RunRow.id).where(RunRow.id == RunBudgetRow.run, RunRow.state.in_(OPEN))
    closed = select(ClosureRow.run).where(ClosureRow.run == RunBudgetRow.run)
    return and_(accepted.exists(), going.exists(), ~closed.exists())


def ahead() -> ColumnElement[int]:
    """Attempts that a `RunBudgetRow` may still be charged; 0 where it is over or not accepted."""
    left = RunBudgetRow.most - RunBudgetRow.attempts
    return case((and_(left > 0, open_and_accepted()), left), else_=0)


async def sums(
    session: AsyncSession,
    by: Sequence[InstrumentedAttribute[str]],
    where: Iterable[ColumnElement[bool]],
    *,
    reserved: bool = True,
) -> dict[tuple[str, ...], Sums]:
    """Sum `run_budgets` by some of its columns; without what is `reserved` it costs a third."""
    rest = ahead() if reserved else literal(0)
    query = (
        select(
            *by,
            *MECHANISM,
            func.sum(RunBudgetRow.attempts).label("attempts"),
            func.sum(RunBudgetRow.attempts * RunBudgetRow.steps).label("steps"),
            func.sum(rest).label("ahead"),
            func.sum(rest * RunBudgetRow.steps).label("steps_ahead"),
        )
        .where(*where)
        .group_by(*by, *MECHANISM)
    )
    found: dict[tuple[str, ...], Sums] = {}
    for row in (await session.execute(query)).mappings():
        key = tuple(row[column.key] for column in by)
        numbers = {name: int(row[name]) for name in ("attempts", "steps", "ahead", "steps_ahead")}
        adjacency, noise, rate = (row[column.key] for column in MECHANISM)
        found.setdefault(key, Sums()).add(adjacency, noise, rate, numbers)
    return found


_SPENT_ON = (
    select(
        RunBudgetRow.population,
        *MECHANISM,
        func.sum(RunBudgetRow.attempts).label("attempts"),
        func.sum(RunBudgetRow.attempts * RunBudgetRow.steps).label("steps"),
    )
    .where(RunBudgetRow.population.in_(bindparam("populations", expanding=True)))
    .group_by(RunBudgetRow.population, *MECHANISM)
)


async def spent_on(session: AsyncSession, populations: Collection[str]) -> dict[str, Sums]:
    """What receipts show of populations; appends ask it, so the query is built beforehand."""
    found = {population: Sums() for population in populations}
    asked = {"populations": list(populations)}
    for row in (await session.execute(_SPENT_ON, asked)).mappings():
        numbers = {"attempts": int(row["attempts"]), "steps": int(row["steps"])}
        adjacency, noise, rate = (row[column.key] for column in MECHANISM)
        nothing = {"ahead": 0, "steps_ahead": 0}
        found[row["population"]].add(adjacency, noise, rate, numbers | nothing)
    return found


def cap_of(terms: TermsRow) -> Cap:
    """The cap that a node holds charges under these terms to."""
    return Cap.model_validate(
        {
            "epsilon": terms.epsilon_cap,
            "delta": terms.delta,
            "non_private": terms.non_private,
            "adjacency": terms.adjacency,
        }
    )
