"""`/v1/me` and `/v1/passwords`: one's own account."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from accord_common.api.access_schemas import (
    FactorRequest,
    FactorSetup,
    Me,
    PasswordChange,
    PasswordRequest,
    RecoveryCodes,
)
from accord_common.fields import now
from accord_server.registry.access import passwords
from accord_server.registry.access.credentials import COOKIE, csrf_of
from accord_server.registry.auth import Allow, Caller, address_of, anyone
from accord_server.registry.context import Registry, registry
from accord_server.registry.people import factors, repository, service
from accord_server.registry.sessions import cookies
from accord_server.registry.sessions.service import renewed, require_password
from accord_server.registry.tables import PartnerRow

router = APIRouter(tags=["people"])


@router.post(
    "/v1/passwords", status_code=204, summary="Set a password", dependencies=[Depends(anyone)]
)
async def set_password(
    body: PasswordRequest, request: Request, registry: Annotated[Registry, Depends(registry)]
) -> Response:
    """By the code of an invitation or a reset, which is used up."""
    async with registry.database.read() as session:
        row = await service.find_code(session, body.code, now())
        party = await session.get(PartnerRow, row.party)
    passwords.check(body.password, row.login, row.name, party.name if party else "")
    kept = await passwords.hashed(body.password)
    async with registry.database.write() as session:
        row = await service.find_code(session, body.code, now())
        await service.set_password(session, row, kept, address_of(request), now())
    return Response(status_code=204)


@router.get("/v1/me", summary="Who is calling")
async def me(
    request: Request,
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
) -> Me:
    """The caller, and for a browser the CSRF token of its session."""
    return await shown(registry, caller, request.cookies.get(COOKIE))


async def shown(registry: Registry, caller: Caller, cookie: str | None) -> Me:
    """Show a caller, who came with this cookie."""
    person = caller.person
    async with registry.database.read() as session:
        row = None if person is None else await repository.require(session, person.id, None)
        party = await session.get_one(PartnerRow, caller.party)
        return Me(
            party=caller.party,
            organisation=party.name,
            party_role=caller.role,
            person=None if row is None else await repository.view(session, row),
            session=person.session if person else None,
            scopes=list(person.scopes) if person and person.scopes is not None else None,
            csrf=csrf_of(cookie) if cookie is not None and person and person.session else None,
            needs="second-factor" if person is not None and not person.ready else None,
        )


@router.put("/v1/me/password", status_code=204, summary="Change the own password")
async def change_password(
    body: PasswordChange,
    request: Request,
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
) -> Response:
    """Every session ends, this one gets a new cookie."""
    row = await require_password(registry, caller, body.present, request)
    passwords.check(body.password, row.login, row.name, caller.name)
    kept = await passwords.hashed(body.password)
    async with registry.database.write() as session:
        row = await repository.require(session, row.id, None)
        await service.set_password(session, row, kept, address_of(request), now())
        fresh = await renewed(session, row, request, now(), ready=True)
    return cookies.put(Response(status_code=204), registry, row, fresh)


@router.post("/v1/me/second-factor", status_code=201, summary="Begin to set up a second factor")
async def begin_factor(
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
) -> FactorSetup:
    """A fresh secret for an app; it is in force once a code of it has come."""
    async with registry.database.write() as session:
        return await factors.begin(session, registry, caller)


@router.put("/v1/me/second-factor", summary="Put a second factor in force")
async def finish_factor(
    body: FactorRequest,
    request: Request,
    response: Response,
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
) -> RecoveryCodes:
    """By a code of the app; the recovery codes are shown only here."""
    codes, row = await factors.finish(registry, caller, body.factor, request)
    async with registry.database.write() as session:
        fresh = await renewed(session, row, request, now(), ready=True)
    cookies.put(response, registry, row, fresh)
    return codes


@router.post("/v1/me/second-factor/end", status_code=204, summary="Take the second factor away")
async def drop_factor(
    body: FactorRequest,
    request: Request,
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
) -> Response:
    """By a code of it; not where the role may not do without."""
    await factors.drop(registry, caller, body.factor, request)
    return Response(status_code=204)
