"""`/v1/log`: the signed checkpoint, and proofs that records are in it and that it only grew."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import FileResponse, Response

from accord_common.api.log_schemas import CheckpointView, Consistency, EvidenceCheck, Inclusion
from accord_common.fields import Hash, Id
from accord_server.registry.auth import Allow, Caller
from accord_server.registry.context import Registry, registry
from accord_server.registry.log import bundling, checking, repository, service
from accord_server.registry.paging import AfterSequence, Limit
from accord_server.registry.records import repository as records

router = APIRouter(tags=["log"])

_FILE = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}

Size = Annotated[int, Query(ge=0, lt=2**53, description="records in the tree")]
Place = Annotated[int | None, Query(ge=1, lt=2**53)]


@router.get("/v1/log/checkpoint", summary="The log's signed size and root")
async def checkpoint(
    _: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
) -> CheckpointView:
    """Of all records now; one is signed where there is none of this size."""
    return CheckpointView(envelope=await service.checkpoint(registry))


@router.get(
    "/v1/log/checkpoint.jsonl",
    summary="The checkpoint as a file",
    response_class=Response,
    responses={200: {"content": {"application/jsonl": {"schema": {"type": "string"}}}}},
)
async def checkpoint_file(
    _: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
) -> Response:
    """One line, as `accord audit checkpoint -o` adds it and `accord audit verify` takes it."""
    envelope = await service.checkpoint(registry)
    return Response(envelope.to_bytes() + b"\n", media_type="application/jsonl")


@router.get("/v1/log/checkpoints", summary="Every checkpoint that was signed")
async def checkpoints(
    _: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
    after: AfterSequence = 0,
    limit: Limit = 100,
) -> list[CheckpointView]:
    """Those of more than `after` records, by size."""
    async with registry.database.read() as session:
        found = await repository.checkpoints(session, after, limit)
    return [CheckpointView(envelope=envelope) for envelope in found]


@router.get("/v1/log/inclusion", summary="Prove that a record is in the log")
async def inclusion(
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
    record: Hash | None = None,
    sequence: Place = None,
    size: Size | None = None,
) -> Inclusion:
    """Of one record, by sequence, or by hash where the caller may read it; in a tree of `size`."""
    async with registry.database.read() as session:
        return await service.inclusion(session, caller.sees, record, sequence, size)


@router.get("/v1/log/proofs", summary="Prove that many records are in the log")
async def proofs(
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
    size: Size,
    run: Id | None = None,
    after: AfterSequence = 0,
    limit: Limit = 100,
) -> list[Inclusion]:
    """Of all records, or those of a run that the caller may read, in the tree of `size`, in order.

    Leaves tell that there is a record, and nothing of what or of whom.
    """
    async with registry.database.read() as session:
        if run is not None and not await records.reads_run(session, caller.sees, run):
            return []
        return await service.proofs(session, size, run, after, limit)


@router.get("/v1/log/consistency", summary="Prove that the log only grew")
async def consistency(
    _: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
    first: Size,
    second: Size,
) -> Consistency:
    """From the tree of `first` records to that of `second`."""
    async with registry.database.read() as session:
        return await service.consistency(session, first, second)


@router.post(
    "/v1/log/check",
    summary="Check a file of evidence",
    openapi_extra={"requestBody": {"required": True, "content": _FILE}},
)
async def check(
    request: Request,
    _: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
    trust: Annotated[list[Hash] | None, Query(max_length=8)] = None,
) -> EvidenceCheck:
    """Checkpoints, a record's proof, or a bundle, with the code of `accord audit verify`."""
    return await checking.check(registry, await request.body(), trust or [])


@router.get(
    "/v1/bundles",
    summary="The evidence of a run or an agreement, in one file",
    response_class=FileResponse,
    responses={200: {"content": _FILE}},
)
async def bundle(
    request: Request,
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
    run: Id | None = None,
    agreement: Hash | None = None,
) -> FileResponse:
    """What `accord audit bundle` writes, for the same caller; large ones are for that command."""
    return await bundling.bundle(request, registry, caller.sees, run, agreement)
