"""Runs side by side, on one page: what each cost, what it gave on public rows, where they differ.

Guarantees: of each run only what its caller may read; a run's configuration is its verified
manifest's; metrics are signed evaluations', curves the coordinator's unsigned word. Fewer than 2 or
more than 8 runs, or one twice, are refused in words.

Not covered: what training alone gives an institution: that stays there (`accord-node compare`).
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated

from fastapi import APIRouter, Query
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from accord_common.api.budget_schemas import BudgetRow
from accord_common.api.schemas import RunView
from accord_common.api.score_schemas import ScoreView
from accord_common.chain import VerifiedRun
from accord_common.fields import Id
from accord_server.coordinator.comparing import FEWEST, MOST
from accord_server.coordinator.configuration import differences, settings
from accord_server.registry.budgets import repository as budgets
from accord_server.registry.budgets import service as pricing
from accord_server.registry.budgets.tables import RunBudgetRow
from accord_server.registry.paging import equal
from accord_server.registry.runs import repository as runs
from accord_server.registry.scores import repository as scores
from accord_server.registry.web import pace
from accord_server.registry.web.curves import POINTS
from accord_server.registry.web.visit import Signed, Visit

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True)
class Column:
    """One run.

    Attributes:
        letter: what the page calls it.
        cost: greatest epsilon of any site that the caller may see; None where nothing bounds it.
        seen: whether there is such a site.
    """

    letter: str
    run: RunView
    verified: VerifiedRun
    how: pace.Pace
    scores: Sequence[ScoreView]
    cost: str | None
    seen: bool


@router.get("/runs/compare")
async def compare(
    visit: Signed, run: Annotated[list[Id] | None, Query(max_length=100)] = None
) -> Response:
    """Two to eight runs."""
    asked = run or []
    refusal = _refusal(asked)
    if refusal is not None:
        return visit.page(
            "compare.html", "/runs", status=400, refusal=refusal, count=len(asked), columns=[]
        )
    columns = await _columns(visit, asked)
    told = dict.fromkeys(name for column in columns for name in column.run.metrics)
    drawn = dict.fromkeys(
        name for column in columns for score in column.scores for name in score.metrics
    )
    return visit.page(
        "compare.html",
        "/runs",
        refusal=None,
        columns=columns,
        differing=differences([settings(column.verified) for column in columns]),
        metrics={name: list(_gains(name, columns)) for name in told},
        curves={name: list(_curve(name, columns)) for name in drawn},
        same_data=len({_datasets(column) for column in columns}) == 1,
    )


def _refusal(asked: Sequence[str]) -> str | None:
    if len(asked) < FEWEST:
        return "few"
    if len(asked) > MOST:
        return "many"
    return "twice" if len(set(asked)) < len(asked) else None


async def _columns(visit: Visit, asked: Sequence[str]) -> list[Column]:
    look = visit.look()
    reach = visit.sees("/v1/budgets")
    async with visit.registry.database.read() as session:
        rows = [await runs.require(session, name, visit.who.sees) for name in asked]
        views = [await runs.view(session, row, look) for row in rows]
        verified = [await visit.registry.runs.get(session, row.manifest) for row in rows]
        how = await pace.paces(session, views, look.moment)
        told = [await scores.some(session, name, POINTS) for name in asked]
        costs = [await _costs(session, name, reach) for name in asked]
    return [
        Column(chr(ord("A") + at), view, proved, how[view.id], score, _greatest(cost), bool(cost))
        for at, (view, proved, score, cost) in enumerate(
            zip(views, verified, told, costs, strict=True)
        )
    ]


async def _costs(session: AsyncSession, run: str, reach: str | None) -> list[BudgetRow]:
    lines = await budgets.lines(
        session, equal((RunBudgetRow.run, run), (RunBudgetRow.party, reach))
    )
    return await asyncio.to_thread(lambda: [pricing.budget_row(line) for line in lines])


def _greatest(costs: Sequence[BudgetRow]) -> str | None:
    known = [cost.epsilon for cost in costs if cost.epsilon is not None]
    if len(known) < len(costs):
        return None
    return max(known, key=Decimal, default=None)


def _gains(name: str, columns: Sequence[Column]) -> Iterator[tuple[str | None, str | None]]:
    """A metric of each run, and how far it is above the first that has it."""
    values = [column.run.metrics.get(name) for column in columns]
    first = next(value for value in values if value is not None)
    for value in values:
        gain = None if value is None else Decimal(value) - Decimal(first)
        yield value, f"{gain:+f}" if gain else None


def _curve(name: str, columns: Sequence[Column]) -> Iterator[list[str | int | None]]:
    """Rows of a chart: the round, then each run's value."""
    known = [
        {score.round + 1: score.metrics[name] for score in column.scores if name in score.metrics}
        for column in columns
    ]
    for round_ in sorted({at for one in known for at in one}):
        yield [round_, *(one.get(round_) for one in known)]


def _datasets(column: Column) -> tuple[str, ...]:
    return tuple(sorted(site.dataset for site in column.verified.manifest.roster))
