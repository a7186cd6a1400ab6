"""`/v1/agreements`: propose, sign, read."""

from typing import Annotated

from fastapi import APIRouter, Depends

from accord_common.api.agreement_schemas import CheckRequest, CheckView
from accord_common.api.schemas import AgreementView, EnvelopeRequest
from accord_common.fields import Hash, now
from accord_server.registry.agreements import checking, repository, service
from accord_server.registry.auth import Allow, Caller
from accord_server.registry.changes import party_topic
from accord_server.registry.context import Registry, registry
from accord_server.registry.notices import outbox
from accord_server.registry.paging import AfterHash, Limit
from accord_server.registry.records.posting import Posting

router = APIRouter(tags=["agreements"])


@router.post("/v1/agreements", summary="Propose or sign an agreement")
async def sign(
    body: EnvelopeRequest,
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
) -> AgreementView:
    """Join the envelope's signatures with those already here; the last one makes it active."""
    moment = now()
    async with registry.database.write() as session:
        posting = Posting(session, registry.runs, body.envelope, caller.party, caller.role, moment)
        if await service.sign(posting, registry.log_key):
            news = [(outbox.PROPOSAL, body.envelope.hash)]
            await outbox.add(session, registry.settings, news, moment)
        await session.flush()
        shown = await repository.one(session, caller.party, body.envelope.hash, moment)
    await registry.changes.announce(party_topic(party.id) for party in shown.agreement.parties)
    return shown


@router.get("/v1/agreements", summary="List the caller's agreements")
async def page(
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
    after: AfterHash = None,
    limit: Limit = 100,
) -> list[AgreementView]:
    """Agreements that name the caller, for an auditor all, by hash."""
    async with registry.database.read() as session:
        return await repository.page(session, caller.sees, after, limit, now())


@router.get("/v1/agreements/{agreement_hash}", summary="Read one agreement")
async def one(
    agreement_hash: Hash,
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
) -> AgreementView:
    """An agreement that names the caller."""
    async with registry.database.read() as session:
        return await repository.one(session, caller.sees, agreement_hash, now())


@router.post("/v1/agreements/{agreement_hash}/check", summary="Ask whether a run would be allowed")
async def check(
    agreement_hash: Hash,
    body: CheckRequest,
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
) -> CheckView:
    """Every reason why not, and what it would cost; nothing is stored, signed or sent.

    A data holder is told what its own datasets have spent, nobody else's.
    """
    return await checking.check(registry, caller, agreement_hash, body.manifest)
