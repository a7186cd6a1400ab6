"""How runs go: the pace of their last rounds, when they may be done, and a line of where they head.

Guarantees: one statement, however many runs; of each only its last attempts are read, by index. An
end is told only of a run that goes on, and follows from its last rounds alone: waiting for consents
counts for nothing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Select, select, union_all
from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.api.schemas import RunView
from accord_server.registry.scores.tables import ScoreRow
from accord_server.registry.tables import RoundRow

_LAST = 24  # attempts: what a line of some 100 pixels shows, and a pace is steady over
_WIDTH, _HEIGHT, _INSET = 96, 24, 2  # of a line, in its own units
PREFERRED = ("auc", "accuracy")  # which metric stands for a run


@dataclass(frozen=True, slots=True)
class Pace:
    """How one run goes.

    Attributes:
        ends: when it may be done; None where that is not known.
        seconds: of a round lately; None before the first.
        metric: what `trend` is of; None for seconds of each attempt.
        trend: oldest first.
    """

    ends: datetime | None = None
    seconds: float | None = None
    metric: str | None = None
    trend: tuple[float, ...] = ()

    @property
    def points(self) -> str:
        """`trend` as the points of an SVG polyline, 96 by 24; empty for fewer than two."""
        if len(self.trend) < 2:  # a line has two ends
            return ""
        low, high = min(self.trend), max(self.trend)
        scale = (_HEIGHT - 2 * _INSET) / (high - low) if high > low else 0.0
        step = (_WIDTH - 2 * _INSET) / (len(self.trend) - 1)
        return " ".join(
            f"{_INSET + index * step:.1f},{_HEIGHT - _INSET - (value - low) * scale:.1f}"
            for index, value in enumerate(self.trend)
        )


async def paces(
    session: AsyncSession, found: Sequence[RunView], moment: datetime
) -> dict[str, Pace]:
    """Return how these runs go, by id."""
    ids = [run.id for run in found if run.round]
    if not ids:
        return {run.id: Pace() for run in found}
    attempts: dict[str, list[tuple[str, datetime, datetime]]] = {run: [] for run in ids}
    query = union_all(*(_last_attempts(run) for run in ids))
    for run, _, outcome, started, ended in await session.execute(query):
        attempts[run].append((outcome, started, ended))
    scores: dict[str, list[dict[str, str]]] = {run: [] for run in ids}
    for run, _, metrics in await session.execute(union_all(*map(_last_scores, ids))):
        scores[run].append(metrics)
    return {
        run.id: _pace(run, attempts.get(run.id, [])[::-1], scores.get(run.id, [])[::-1], moment)
        for run in found
    }


def chosen(names: Iterator[str] | Sequence[str]) -> str | None:
    """The metric that stands for a run."""
    known = sorted(names)
    return next((name for name in PREFERRED if name in known), known[0] if known else None)


def _last_attempts(run: str) -> Select[str, int, str, datetime, datetime]:
    query = (
        select(RoundRow.run, RoundRow.number, RoundRow.outcome, RoundRow.started, RoundRow.ended)
        .where(RoundRow.run == run)
        .order_by(RoundRow.number.desc())
        .limit(_LAST)
        .subquery()
    )
    return select(query)


def _last_scores(run: str) -> Select[str, int, dict[str, str]]:
    query = (
        select(ScoreRow.run, ScoreRow.round, ScoreRow.metrics)
        .where(ScoreRow.run == run)
        .order_by(ScoreRow.round.desc())
        .limit(_LAST)
        .subquery()
    )
    return select(query)


def _pace(
    run: RunView,
    attempts: Sequence[tuple[str, datetime, datetime]],
    scores: Sequence[dict[str, str]],
    moment: datetime,
) -> Pace:
    done = sum(outcome == "completed" for outcome, _, _ in attempts)
    seconds = None
    if done:
        seconds = (attempts[-1][2] - attempts[0][1]).total_seconds() / done
    ends = None
    if seconds is not None and run.state == "running" and run.standing is None:
        ends = moment + (attempts[-1][2] - attempts[0][1]) / done * (run.rounds - run.round)
    metric = chosen([*scores[-1]]) if scores else None
    if metric is not None:
        trend = [float(one[metric]) for one in scores if metric in one]
    else:
        trend = [(ended - started).total_seconds() for _, started, ended in attempts]
    return Pace(ends, seconds, metric, tuple(trend))
