"""The pages of runs: the list, one run, and its records."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from sqlalchemy import func, select
from starlette.responses import Response

from accord_common.api.schemas import FINAL_STATES, EventView, Level, RoundView, RunState
from accord_common.fields import Id
from accord_server.coordinator.configuration import settings
from accord_server.registry.budgets import repository as budgets
from accord_server.registry.budgets import service as pricing
from accord_server.registry.budgets.tables import RunBudgetRow
from accord_server.registry.notices import repository as notices
from accord_server.registry.paging import equal
from accord_server.registry.partners import repository as partners
from accord_server.registry.runs import repository as runs
from accord_server.registry.tables import RecordRow
from accord_server.registry.web import curves, pace, story
from accord_server.registry.web.visit import MOST_COMMENTS, Signed, Words

router = APIRouter(include_in_schema=False)

_PER_PAGE = 50
_ROUNDS = 20
_LINES = 20
Sequence_ = Annotated[int | None, Query(ge=1, lt=2**53)]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at a round, and where it stands among the run's."""

    number: int
    view: RoundView


@router.get("/runs")
async def all_runs(
    visit: Signed,
    state: Annotated[RunState | Literal[""], Query()] = "",
    title: Words = "",
    after: Annotated[Id | None, Query()] = None,
) -> Response:
    """The caller's runs, newest first, page by page."""
    look = visit.look()
    async with visit.registry.database.read() as session:
        found = await runs.page(
            session,
            visit.who.sees,
            state or None,
            after,
            _PER_PAGE + 1,
            look,
            newest_first=True,
            title=title.strip() or None,
        )
        shown = found[:_PER_PAGE]
        how = await pace.paces(session, shown, look.moment)
    return visit.page(
        "runs.html",
        "/runs",
        live=True,
        runs=shown,
        paces=how,
        selected=state,
        title=title,
        more=shown[-1].id if len(found) > _PER_PAGE else None,
        paged=after is not None,
    )


@router.get("/runs/{run}")
async def one_run(
    visit: Signed,
    run: Id,
    attempt: Sequence_ = None,
    show: Annotated[Literal["all", "trouble"], Query()] = "all",
    line: Sequence_ = None,
    level: Annotated[Level | Literal[""], Query()] = "",
) -> Response:
    """One run, live. `attempt` and `line` are where the pages of rounds and of the log go on."""
    look = visit.look()
    async with visit.registry.database.read() as session:
        row = await runs.require(session, run, visit.who.sees)
        found = await runs.view(session, row, look)
        told = await runs.last_rounds(
            session, run, attempt, _ROUNDS + 1, troubled=show == "trouble"
        )
        lines = await runs.last_events(session, run, line, level or None, _LINES + 1)
        reach = visit.sees("/v1/budgets")
        mine = await budgets.lines(
            session, equal((RunBudgetRow.run, run), (RunBudgetRow.party, reach))
        )
        drawn = await curves.read(session, run, mine)
        steps = await story.steps(session, row)
        verified = await visit.registry.runs.get(session, row.manifest)
        (how,) = (await pace.paces(session, [found], look.moment)).values()
        said = await notices.comments(session, [run], None, MOST_COMMENTS + 1)
        held = select(func.count()).where(RecordRow.run == run)
        records = (await session.execute(held)).scalar_one()
        named = await partners.names(
            session, {*(step.party for step in steps if step.party), *_parties(lines)}
        )
    costs = await asyncio.to_thread(lambda: [pricing.budget_row(one) for one in mine])
    agreement = verified.agreement
    named |= {party.id: party.name for party in agreement.parties}
    attempts = [Attempt(number, RoundView.model_validate(view)) for number, view in told]
    return visit.page(
        "run.html",
        "/runs",
        live=True,
        run=found,
        over=found.state in FINAL_STATES,
        stoppable=visit.may("POST", "/v1/runs/{run}/stop"),
        pace=how,
        steps=steps,
        attempts=attempts[:_ROUNDS],
        older_attempts=attempts[_ROUNDS - 1].number if len(attempts) > _ROUNDS else None,
        attempt=attempt,
        show=show,
        lines=lines[:_LINES],
        older_lines=lines[_LINES - 1].sequence if len(lines) > _LINES else None,
        line=line,
        level=level,
        costs=costs,
        curves=drawn,
        manifest=verified.manifest,
        datasets={item.id: item for item in agreement.datasets},
        settings=settings(verified),
        records=records,
        named=named,
        **visit.comments(said),
    )


def _parties(lines: Sequence[EventView]) -> set[str]:
    return {line.party for line in lines if line.party is not None}
