"""`/v1/records`: post signed records, read them in order."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from accord_common.agreement import AGREEMENT, SUSPENSION, WITHDRAWAL
from accord_common.api.schemas import RecordRequest, RecordView, Stored
from accord_common.enrolment import REVOCATION
from accord_common.errors import NotFoundError, VerificationError
from accord_common.fields import Hash, Id, Slug, now
from accord_common.log.proof import RecordProof
from accord_server.registry.auth import Allow, Caller, require_member
from accord_server.registry.budgets.priming import prime
from accord_server.registry.context import Registry, registry
from accord_server.registry.log.proving import prove
from accord_server.registry.paging import AfterSequence, Limit
from accord_server.registry.partners.service import end_tokens, exchanges_key
from accord_server.registry.records import repository
from accord_server.registry.records.announce import announce
from accord_server.registry.records.append import append
from accord_server.registry.records.posting import Posting
from accord_server.registry.records.prefetch import Wanted

router = APIRouter(tags=["records"])


@router.post("/v1/records", summary="Append a signed record")
async def post(
    body: RecordRequest,
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
) -> Stored:
    """Verify and append; the same record again gives the same place.

    A suspended party may withdraw from an agreement, or suspend it: nobody but its institution
    decides that.
    """
    if body.envelope.kind not in (WITHDRAWAL, SUSPENSION):
        require_member(caller)
    if body.envelope.kind == AGREEMENT:
        raise VerificationError(
            "wrong-kind", "agreements collect signatures", hint="Post it to /v1/agreements."
        )
    if body.envelope.kind == REVOCATION:
        raise VerificationError(
            "wrong-kind", "a revocation ends tokens too", hint="Post it to /v1/revocations."
        )
    await prime(registry, body.envelope, caller.party)

    topics: set[str] | None = None  # of a new record

    async def work(session: AsyncSession) -> Stored:
        nonlocal topics
        posting = Posting(
            session,
            registry.runs,
            body.envelope,
            caller.party,
            caller.role,
            now(),
            body.fence,
        )
        exchanged = await exchanges_key(session, body.envelope)
        stored, row = await append(posting)
        if row is None:
            return stored
        if exchanged:
            await end_tokens(session, caller.party, but=caller.token)
        topics = await announce(posting, row.run)
        return stored

    try:
        return await registry.turns.do(work, Wanted.of(body.envelope, caller.party))
    finally:
        # Also where the answer to the commit was lost: who looks in vain has lost nothing.
        if topics is not None:
            await registry.changes.announce(topics)


@router.get("/v1/records", summary="Read records in order")
async def page(
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
    after: AfterSequence = 0,
    limit: Limit = 100,
    kind: Slug | None = None,
    run: Id | None = None,
) -> list[RecordView]:
    """Records behind sequence `after` that the caller may read, verbatim."""
    async with registry.database.read() as session:
        return await repository.page(session, caller.sees, after, limit, kind, run)


@router.get("/v1/records/{record_hash}", summary="Read one record")
async def one(
    record_hash: Annotated[Hash, Path()],
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
) -> RecordView:
    """A record by its hash."""
    async with registry.database.read() as session:
        row = await repository.one(session, caller.sees, record_hash)
    if row is None:
        raise NotFoundError("unknown-record", f"there is no record {record_hash[:16]}")
    return repository.view(row)


@router.get(
    "/v1/records/{record_hash}/proof",
    summary="Prove one record, for the auditor",
    response_model=RecordProof,
)
async def proof(
    record_hash: Annotated[Hash, Path()],
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
) -> Response:
    """The file that `accord audit proof` writes: record, proof, checkpoint and agreement."""
    found = await prove(registry, caller.sees, record_hash)
    return Response(found.to_bytes(), media_type="application/json")
