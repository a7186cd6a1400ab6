"""`/v1/invitations`, `/v1/enrolments`, `/v1/partners`."""

from typing import Annotated

from fastapi import APIRouter, Depends
from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.api.membership import (
    EnrolmentRequest,
    Invitation,
    InvitationRequest,
    Partner,
    SuspensionRequest,
    Token,
)
from accord_common.api.schemas import EnvelopeRequest, Stored
from accord_common.fields import Id, now
from accord_server.ca import fingerprint
from accord_server.registry.auth import Allow, Caller, anyone, require_member
from accord_server.registry.changes import party_topic
from accord_server.registry.context import Registry, registry
from accord_server.registry.paging import AfterId, Limit
from accord_server.registry.partners import repository, service

router = APIRouter(tags=["partners"])


@router.post("/v1/invitations", status_code=201, summary="Invite a party")
async def invite(
    body: InvitationRequest,
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
) -> Invitation:
    """Make a one-time invitation, good for 7 days; it is shown only here."""
    pinned = fingerprint(registry.ca_pem)
    async with registry.database.write() as session:
        return service.invite(session, registry.settings.url, pinned, body, caller.party, now())


@router.post(
    "/v1/enrolments",
    status_code=201,
    summary="Join with an invitation",
    dependencies=[Depends(anyone)],
)
async def enrol(body: EnrolmentRequest, registry: Annotated[Registry, Depends(registry)]) -> Token:
    """Prove possession of the identity key; the token is shown only here."""
    async with registry.database.write() as session:
        return await service.enrol(registry, session, body, now())


@router.post("/v1/revocations", summary="Take a delegation back", dependencies=[Depends(anyone)])
async def revoke(body: EnvelopeRequest, registry: Annotated[Registry, Depends(registry)]) -> Stored:
    """The identity key's signature is enough: whoever lost a server may have no token left."""
    async with registry.database.write() as session:
        stored, topics = await service.revoke(registry, session, body.envelope, now())
    await registry.changes.announce(topics)
    return stored


@router.get("/v1/partners", summary="List parties")
async def page(
    _: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
    after: AfterId = None,
    limit: Limit = 100,
) -> list[Partner]:
    """Parties by id."""
    async with registry.database.read() as session:
        return await repository.page(session, after, limit)


@router.get("/v1/partners/{party}", summary="Read one party")
async def one(
    party: Id,
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
) -> Partner:
    """A party; who is suspended, or not approved yet, may ask about itself."""
    if caller.sees not in {None, party}:
        require_member(caller)
    async with registry.database.read() as session:
        row = await repository.partner_row(session, party)
        return (await repository.views(session, [row]))[0]


@router.post("/v1/partners/{party}/approve", summary="Admit a party")
async def approve(
    party: Id,
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
) -> Partner:
    """Let a pending party take part; again is no change."""
    async with registry.database.write() as session:
        await service.approve(session, party, caller.party, now())
        shown = await _show(session, party)
    await registry.changes.announce([party_topic(party)])
    return shown


@router.post("/v1/partners/{party}/suspend", summary="Shut a party out")
async def suspend(
    party: Id,
    body: SuspensionRequest,
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
) -> Partner:
    """Nothing of it is taken, and runs go on without it, until it is readmitted."""
    async with registry.database.write() as session:
        topics = await service.suspend(session, party, body.reason, caller.party, now())
        shown = await _show(session, party)
    await registry.changes.announce({party_topic(party), *topics})
    return shown


@router.post("/v1/partners/{party}/readmit", summary="End a suspension")
async def readmit(
    party: Id,
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
) -> Partner:
    """Let a suspended party in again."""
    async with registry.database.write() as session:
        topics = await service.readmit(session, party, caller.party, now())
        shown = await _show(session, party)
    await registry.changes.announce({party_topic(party), *topics})
    return shown


async def _show(session: AsyncSession, party: str) -> Partner:
    await session.flush()
    row = await repository.partner_row(session, party)
    return (await repository.views(session, [row]))[0]
