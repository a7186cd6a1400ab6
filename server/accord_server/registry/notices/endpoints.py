"""`/v1/announcements`, comments on runs and agreements, `/v1/notices`."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import APIRouter, Depends
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from accord_common.api.notice_schemas import (
    AnnouncementRequest,
    AnnouncementView,
    CommentRequest,
    CommentView,
    NoticeView,
)
from accord_common.fields import Hash, Id, now
from accord_server.registry.agreements import repository as agreements
from accord_server.registry.auth import Allow, Caller
from accord_server.registry.context import Registry, registry
from accord_server.registry.notices import outbox, repository, service
from accord_server.registry.paging import Limit
from accord_server.registry.runs import repository as runs

router = APIRouter(tags=["notices"])


@router.post("/v1/announcements", status_code=201, summary="Tell every member something")
async def announce(
    body: AnnouncementRequest,
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
) -> AnnouncementView:
    """On everybody's first page, and to the operator's places for notices."""
    async with registry.database.write() as session:
        made = await service.announce(session, caller, body, now())
        await outbox.add(session, registry.settings, [(outbox.ANNOUNCEMENT, made)], now())
        (shown,) = await repository.announcements(session, None, 1)
    await registry.changes.announce([])
    return shown


@router.get("/v1/announcements", summary="What the coordinator announced")
async def announcements(
    _: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
    limit: Limit = 100,
) -> list[AnnouncementView]:
    """Newest first."""
    async with registry.database.read() as session:
        return await repository.announcements(session, None, limit)


@router.delete("/v1/announcements/{announcement}", status_code=204, summary="Take one back")
async def withdraw(
    announcement: Id,
    _: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
) -> Response:
    """What was sent is not called back."""
    async with registry.database.write() as session:
        await service.take_back_announcement(session, announcement)
    await registry.changes.announce([])
    return Response(status_code=204)


Guard = Callable[[AsyncSession], Awaitable[object]]  # raises unless the caller may read it


def _run(run: str, caller: Caller) -> Guard:
    return lambda session: runs.require(session, run, caller.sees)


def _agreement(name: str, caller: Caller) -> Guard:
    return lambda session: agreements.one(session, caller.sees, name, now())


async def _comment(
    registry: Registry, caller: Caller, subject: str, body: CommentRequest, guard: Guard
) -> CommentView:
    async with registry.database.write() as session:
        await guard(session)
        await service.comment(session, caller, subject, body.body, now())
        ((_, shown),) = await repository.comments(session, [subject], None, 1)
    await registry.changes.announce([])
    return shown


async def _comments(
    registry: Registry, subject: str, guard: Guard, limit: int
) -> list[CommentView]:
    async with registry.database.read() as session:
        await guard(session)
        return [shown for _, shown in await repository.comments(session, [subject], None, limit)]


@router.post("/v1/runs/{run}/comments", status_code=201, summary="Comment on a run")
async def comment_run(
    run: Id,
    body: CommentRequest,
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
) -> CommentView:
    """For everybody who reads the run."""
    return await _comment(registry, caller, run, body, _run(run, caller))


@router.get("/v1/runs/{run}/comments", summary="Read comments on a run")
async def run_comments(
    run: Id,
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
    limit: Limit = 100,
) -> list[CommentView]:
    """Newest first."""
    return await _comments(registry, run, _run(run, caller), limit)


@router.post(
    "/v1/agreements/{agreement_hash}/comments", status_code=201, summary="Comment on an agreement"
)
async def comment_agreement(
    agreement_hash: Hash,
    body: CommentRequest,
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
) -> CommentView:
    """For everybody who reads the agreement, a proposal too."""
    guard = _agreement(agreement_hash, caller)
    return await _comment(registry, caller, agreement_hash, body, guard)


@router.get("/v1/agreements/{agreement_hash}/comments", summary="Read comments on an agreement")
async def agreement_comments(
    agreement_hash: Hash,
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
    limit: Limit = 100,
) -> list[CommentView]:
    """Newest first."""
    return await _comments(registry, agreement_hash, _agreement(agreement_hash, caller), limit)


@router.delete("/v1/comments/{comment}", status_code=204, summary="Take a comment back")
async def take_back(
    comment: Id,
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
) -> Response:
    """The caller's own."""
    async with registry.database.write() as session:
        await service.take_back(session, caller, comment)
    await registry.changes.announce([])
    return Response(status_code=204)


@router.get("/v1/notices", summary="Notices that wait, or were given up")
async def notices(
    _: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
    limit: Limit = 100,
) -> list[NoticeView]:
    """By webhook and mail, to the operator's places."""
    async with registry.database.read() as session:
        return await repository.notices(session, limit)
