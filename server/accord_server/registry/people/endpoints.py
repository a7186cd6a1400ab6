"""`/v1/people`: accounts, as those see them who look after them."""

from typing import Annotated

from fastapi import APIRouter, Depends

from accord_common.api.access_schemas import (
    PersonInvitation,
    PersonRequest,
    PersonView,
    ResetRequest,
    RoleRequest,
)
from accord_common.fields import Id, now
from accord_server.registry.auth import Allow, Caller
from accord_server.registry.context import Registry, registry
from accord_server.registry.paging import AfterId, Limit
from accord_server.registry.people import repository, service

router = APIRouter(tags=["people"])


@router.post("/v1/people", status_code=201, summary="Invite a person")
async def invite(
    body: PersonRequest,
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
) -> PersonInvitation:
    """Make an account of the caller's organisation; the code that opens it is shown only here."""
    async with registry.database.write() as session:
        return await service.invite(session, registry.settings.url, caller, body, now())


@router.get("/v1/people", summary="List persons")
async def page(
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
    after: AfterId = None,
    limit: Limit = 100,
) -> list[PersonView]:
    """Persons by id, of the caller's organisation or of all."""
    async with registry.database.read() as session:
        return await repository.page(session, caller.sees, after, limit)


@router.get("/v1/people/{person}", summary="Read one person")
async def one(
    person: Id,
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
) -> PersonView:
    """A person that the caller may see."""
    async with registry.database.read() as session:
        row = await repository.require(session, person, caller.sees)
        return await repository.view(session, row)


@router.put("/v1/people/{person}/role", summary="Change a person's role")
async def role(
    person: Id,
    body: RoleRequest,
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
) -> PersonView:
    """The person signs in again; its tokens end."""
    async with registry.database.write() as session:
        row = await service.change_role(session, caller, person, body.role, now())
        return await repository.view(session, row)


@router.post("/v1/people/{person}/disable", summary="Shut an account")
async def disable(
    person: Id,
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
) -> PersonView:
    """At once: sessions and tokens end."""
    async with registry.database.write() as session:
        return await repository.view(session, await service.disable(session, caller, person, now()))


@router.post("/v1/people/{person}/enable", summary="Open an account again")
async def enable(
    person: Id,
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
) -> PersonView:
    """With the password that it had."""
    async with registry.database.write() as session:
        return await repository.view(session, await service.enable(session, caller, person, now()))


@router.post("/v1/people/{person}/reset", summary="Let a person set a new password")
async def reset(
    person: Id,
    body: ResetRequest,
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
) -> PersonInvitation:
    """The present one ends at once; the code for the next is shown only here."""
    async with registry.database.write() as session:
        return await service.reset(
            session,
            registry.settings.url,
            caller,
            person,
            second_factor=body.second_factor,
            moment=now(),
        )
