"""A run's curves by round (metrics, wall time, epsilon), as the tables that charts are drawn from.

Guarantees: at most some 200 points, spread evenly, with the last, so a page of 10^5 rounds is as
quick as one of ten; epsilon is the filter's, of what receipts show, and rounded up.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.api.score_schemas import ScoreView
from accord_common.privacy.accounting import bounded_up
from accord_common.privacy.filter import Cap, RdpFilter
from accord_server.registry.budgets.repository import Line, tally_of
from accord_server.registry.budgets.tables import SpendRow
from accord_server.registry.scores import repository as scores
from accord_server.registry.tables import RoundRow

POINTS = 200  # more than that a chart of 1,000 pixels does not show


@dataclass(frozen=True, slots=True)
class Point:
    """One attempt: its round from 1, and how long it took."""

    number: int
    round: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Curves:
    """What there is to draw.

    Attributes:
        points: attempts, oldest first.
        shown_of: how many there are in all; more than `points` where some are left out.
        scores: metrics by round.
        epsilon: by round from 1, for each dataset in `datasets`; None where nothing bounds it.
    """

    points: Sequence[Point]
    shown_of: int
    scores: Sequence[ScoreView]
    datasets: Sequence[str]
    epsilon: Mapping[int, Sequence[str | None]]

    @property
    def metrics(self) -> list[str]:
        """The metrics that any round has."""
        return sorted({name for score in self.scores for name in score.metrics})


async def read(session: AsyncSession, run: str, lines: Sequence[Line]) -> Curves:
    """Read a run's curves; epsilon of the datasets of `lines`."""
    last = (
        await session.execute(select(func.max(RoundRow.number)).where(RoundRow.run == run))
    ).scalar_one_or_none() or 0
    step = last // POINTS + 1
    query = select(RoundRow.number, RoundRow.round, RoundRow.started, RoundRow.ended)
    query = query.where(RoundRow.run == run)
    if step > 1:
        query = query.where((RoundRow.number % step == 0) | (RoundRow.number == last))
    points = [
        Point(number, round_ + 1, round((ended - started).total_seconds(), 2))
        for number, round_, started, ended in await session.execute(query.order_by(RoundRow.number))
    ]
    found = await scores.some(session, run, POINTS)
    epsilon = await _epsilon(session, run, lines, sorted({point.round - 1 for point in points}))
    datasets = [line.budget.dataset for line in lines]
    return Curves(points, last, found, datasets, epsilon)


async def _epsilon(
    session: AsyncSession, run: str, lines: Sequence[Line], rounds: Sequence[int]
) -> dict[int, list[str | None]]:
    """By round from 1. A site that a round left out has what it had before."""
    if not lines or not rounds:
        return {}
    query = (
        select(SpendRow.round, SpendRow.dataset, func.max(SpendRow.number))
        .where(
            SpendRow.run == run,
            SpendRow.party.in_([line.budget.party for line in lines]),
            SpendRow.round.in_(rounds),
        )
        .group_by(SpendRow.round, SpendRow.dataset)
    )
    charged = {(at, dataset): number for at, dataset, number in await session.execute(query)}
    rules = [RdpFilter(Cap(epsilon="0", delta=line.terms.delta)) for line in lines]
    known, found = [0] * len(lines), {}
    for at in rounds:
        known = [
            charged.get((at, line.budget.dataset), before)
            for line, before in zip(lines, known, strict=True)
        ]
        found[at + 1] = [
            bounded_up(rule.epsilon(tally_of(line.budget, attempts)))
            for rule, line, attempts in zip(rules, lines, known, strict=True)
        ]
    return found
