"""`/v1/runs/{run}/scores`: metrics on public rows while a run goes on."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from accord_common.api.score_schemas import ScoreRequest, ScoreView
from accord_common.fields import Id, now
from accord_server.registry.auth import Allow, Caller
from accord_server.registry.changes import run_topic
from accord_server.registry.context import Registry, registry
from accord_server.registry.paging import Limit
from accord_server.registry.runs.repository import require
from accord_server.registry.scores import repository

router = APIRouter(tags=["runs"])

FirstRound = Annotated[int, Query(ge=0, lt=2**53, description="the first round to tell, from 0")]


@router.post("/v1/runs/{run}/scores", summary="Tell a round's metrics")
async def tell(
    run: Id,
    body: ScoreRequest,
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
) -> ScoreView:
    """Of the model that a completed round left, on public rows; unsigned. Again replaces it."""
    async with registry.database.write() as session:
        await require(session, run, caller.party)
        shown = repository.view(await repository.put(session, run, body, now()))
    await registry.changes.announce([run_topic(run)])
    return shown


@router.get("/v1/runs/{run}/scores", summary="List a run's metrics by round")
async def page(
    run: Id,
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
    after: FirstRound = 0,
    limit: Limit = 100,
) -> list[ScoreView]:
    """In order of rounds."""
    async with registry.database.read() as session:
        await require(session, run, caller.sees)
        return await repository.page(session, run, after, limit)
