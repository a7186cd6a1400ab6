"""`/v1/sessions`: signing in with a browser, and what is signed in."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from sqlalchemy import select
from starlette.responses import Response

from accord_common.api.access_schemas import FactorRequest, Me, SessionView, SignInRequest
from accord_common.errors import NotFoundError
from accord_common.fields import Id, format_time, now
from accord_server.registry.access.credentials import COOKIE
from accord_server.registry.access.events import tell
from accord_server.registry.access.tables import PersonRow, SessionRow
from accord_server.registry.auth import (
    Allow,
    Caller,
    address_of,
    anyone,
    require_own_origin,
)
from accord_server.registry.context import Registry, registry
from accord_server.registry.paging import AfterId, Limit
from accord_server.registry.people.own import shown
from accord_server.registry.sessions import cookies, service
from accord_server.registry.sessions.principals import by_session, ends

router = APIRouter(tags=["sessions"])


@router.post("/v1/sessions", status_code=201, summary="Sign in", dependencies=[Depends(anyone)])
async def sign_in(
    body: SignInRequest,
    request: Request,
    response: Response,
    registry: Annotated[Registry, Depends(registry)],
) -> Me:
    """With login and password, and the second factor where there is one; sets the cookie."""
    require_own_origin(request, registry.settings.url, always=False)
    row, cookie = await service.sign_in(registry, body, request)
    cookies.put(response, registry, row, cookie)
    return await shown(registry, await by_session(registry, cookie), cookie)


@router.post("/v1/sessions/second-factor", summary="Give the second factor")
async def second_factor(
    body: FactorRequest,
    request: Request,
    response: Response,
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
) -> Me:
    """For a session that waits for it, as after a provider's sign-in; sets a new cookie."""
    row, cookie = await service.second_factor(registry, caller, body.factor, request)
    cookies.put(response, registry, row, cookie)
    return await shown(registry, await by_session(registry, cookie), cookie)


@router.get("/v1/sessions", summary="List the own sessions")
async def page(
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
    after: AfterId = None,
    limit: Limit = 100,
) -> list[SessionView]:
    """Browsers that are signed in as the caller, oldest first."""
    assert caller.person is not None  # the table lets no machine here
    query = select(SessionRow).where(SessionRow.person == caller.person.id)
    if after is not None:
        query = query.where(SessionRow.id > after)
    async with registry.database.read() as session:
        rows = (await session.execute(query.order_by(SessionRow.id).limit(limit))).scalars()
    moment = now()
    return [
        SessionView(
            id=row.id,
            address=row.address,
            agent=row.agent,
            created=format_time(row.created),
            seen=format_time(row.seen),
            expires=format_time(ends(row.created, row.seen)),
            current=row.hash == caller.token,
        )
        for row in rows
        if ends(row.created, row.seen) > moment
    ]


@router.delete("/v1/sessions/{session}", status_code=204, summary="Sign out")
async def end(
    session: Id,
    request: Request,
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
) -> Response:
    """One of the caller's sessions: this one, or another browser's."""
    assert caller.person is not None  # the table lets no machine here
    query = select(SessionRow).where(
        SessionRow.id == session, SessionRow.person == caller.person.id
    )
    async with registry.database.write() as database:
        row = (await database.execute(query)).scalar_one_or_none()
        if row is None:
            raise NotFoundError("unknown-session", f"there is no session {session} of yours")
        await database.delete(row)
        person = await database.get_one(PersonRow, caller.person.id)
        await tell(database, "signed-out", now(), person=person, address=address_of(request))
    response = Response(status_code=204)
    if row.hash == caller.token:
        cookies.drop(response, COOKIE)
    return response
