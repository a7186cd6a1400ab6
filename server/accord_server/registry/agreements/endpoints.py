"""`/v1/agreements`: propose, sign, read."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends

from accord_common.allowed import objections
from accord_common.api.agreement_schemas import CheckRequest, CheckView, Reason
from accord_common.api.schemas import AgreementView, EnvelopeRequest
from accord_common.duo import words
from accord_common.fields import Hash, now
from accord_server.registry.agreements import repository, service
from accord_server.registry.auth import Allow, Caller
from accord_server.registry.budgets.tables import RunBudgetRow
from accord_server.registry.budgets.tallies import sums
from accord_server.registry.changes import party_topic
from accord_server.registry.context import Registry, registry
from accord_server.registry.datasets.repository import declared
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
    moment = now()
    async with registry.database.read() as session:
        shown = await repository.one(session, caller.sees, agreement_hash, moment)
        whole = caller.sees is None or caller.role == "coordinator"
        known = {
            dataset.id: dataset.population
            for dataset in shown.agreement.datasets
            if whole or dataset.owner == caller.party
        }
        asked = {known[site.dataset] for site in body.manifest.roster if site.dataset in known}
        of = RunBudgetRow.population
        before = await sums(session, [of], [of.in_(asked)], reserved=False)
        spent = {population: found.spent for (population,), found in before.items()}
        told = await declared(session, [site.dataset for site in body.manifest.roster])
    found, datasets = await asyncio.to_thread(
        objections,
        shown.agreement,
        body.manifest,
        status=shown.status,
        spent=spent,
        moment=moment,
        declared=told,
    )
    return CheckView(
        allowed=not found,
        status=shown.status,
        reasons=[Reason(code=e.code, message=e.message, hint=e.hint) for e in found],
        datasets=[one for one in datasets if one.dataset in known],
        purpose=[words(code) for code in shown.agreement.purpose],
        recipients=shown.agreement.release.recipients,
    )
