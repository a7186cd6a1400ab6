"""`/v1/runs`: state, rounds, leases, stop requests, event lines."""

from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.responses import Response

from accord_common.api.schemas import (
    EventRequest,
    EventView,
    Lease,
    LeaseRequest,
    RoundView,
    RunState,
    RunView,
    StopRequest,
)
from accord_common.fields import Id, now
from accord_server.registry.answers import as_json
from accord_server.registry.auth import Allow, Caller
from accord_server.registry.changes import run_topic
from accord_server.registry.context import Registry, registry
from accord_server.registry.paging import AfterId, AfterSequence, Limit, Wait
from accord_server.registry.records.announce import party_topics
from accord_server.registry.runs import repository, service
from accord_server.registry.runs.repository import Look

router = APIRouter(tags=["runs"])


@router.get("/v1/runs", summary="List the caller's runs")
async def page(
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
    state: RunState | None = None,
    after: AfterId = None,
    limit: Limit = 100,
) -> list[RunView]:
    """Runs under the caller's agreements, for an auditor all, oldest first."""
    async with registry.database.read() as session:
        look = Look(registry.settings.patience, now())
        return await repository.page(session, caller.sees, state, after, limit, look)


@router.get("/v1/runs/{run}", summary="Read one run")
async def one(
    run: Id,
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
) -> RunView:
    """A run as its records tell."""
    async with registry.database.read() as session:
        row = await repository.require(session, run, caller.sees)
        return await repository.view(session, row, Look(registry.settings.patience, now()))


@router.get("/v1/runs/{run}/rounds", summary="List a run's rounds", response_model=list[RoundView])
async def rounds(
    run: Id,
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
    after: AfterSequence = 0,
    limit: Limit = 100,
) -> Response:
    """Attempts in order; `after` counts those of the pages before."""
    async with registry.database.read() as session:
        await repository.require(session, run, caller.sees)
        return as_json(await repository.rounds(session, run, after, limit))


@router.post("/v1/runs/{run}/stop", summary="Ask that a run end")
async def stop(
    run: Id,
    body: StopRequest,
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
) -> RunView:
    """An unsigned request, which the aggregator heeds at once; without one, the registry does."""
    async with registry.database.write() as session:
        row = await service.stop(session, run, caller, body.reason, now())
        shown = await repository.view(session, row, Look(registry.settings.patience, now()))
        topics = await party_topics(session, row.agreement)
    await registry.changes.announce(topics | {run_topic(run)})
    return shown


@router.post("/v1/runs/{run}/lease", summary="Claim a run")
async def lease(
    run: Id,
    body: LeaseRequest,
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
) -> Lease:
    """Claim a run whose consents are in, or renew the claim."""
    topics: set[str] = set()
    async with registry.database.write() as session:
        patience = registry.settings.patience
        shown, started = await service.lease(session, run, caller, body, patience, now())
        if started:
            row = await repository.require(session, run, caller.party)
            topics = await party_topics(session, row.agreement) | {run_topic(run)}
    await registry.changes.announce(topics)
    return shown


@router.post("/v1/runs/{run}/events", status_code=201, summary="Add a line about a run")
async def log(
    run: Id,
    body: EventRequest,
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
) -> EventView:
    """Tell people who watch."""
    async with registry.database.write() as session:
        shown = repository.event_view(await service.log(session, run, caller, body, now()))
    await registry.changes.announce([run_topic(run)])
    return shown


@router.get("/v1/runs/{run}/events", summary="Follow a run")
async def events(
    run: Id,
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
    after: AfterSequence = 0,
    limit: Limit = 100,
    wait: Wait = 0,
) -> list[EventView]:
    """Lines behind `after`; waits for one where there is none yet."""
    seen = registry.changes.version(run_topic(run))
    async with registry.database.read() as session:
        await repository.require(session, run, caller.sees)
        found = await repository.events(session, run, after, limit)
    if found or not wait:
        return found
    await registry.changes.wait(run_topic(run), seen, wait)
    async with registry.database.read() as session:
        return await repository.events(session, run, after, limit)
