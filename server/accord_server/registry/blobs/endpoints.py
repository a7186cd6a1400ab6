"""`/v1/blobs`: models in and out, streamed."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import FileResponse, Response

from accord_common.fields import Hash, now
from accord_server.registry.auth import Allow, Caller
from accord_server.registry.blobs import repository
from accord_server.registry.context import Registry, registry
from accord_server.registry.tables import BlobRow

router = APIRouter(tags=["blobs"])

_BYTES = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}


@router.put(
    "/v1/blobs/{name}",
    status_code=204,
    summary="Upload bytes",
    openapi_extra={"requestBody": {"required": True, "content": _BYTES}},
)
async def put(
    name: Hash,
    request: Request,
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
) -> Response:
    """Store the body under its SHA-256; again is no change."""
    length = request.headers.get("content-length", "")
    claimed = int(length) if length.isdigit() else 0  # `limits` counts what comes
    size = await repository.write(registry.settings.blobs, name, request.stream(), claimed)
    async with registry.database.write() as session:
        if not await repository.has_blob(session, name):
            session.add(BlobRow(hash=name, size=size, party=caller.party, created=now()))
    return Response(status_code=204)


@router.get(
    "/v1/blobs/{name}",
    summary="Download bytes",
    response_class=FileResponse,
    responses={200: {"content": _BYTES}},
)
async def get(
    name: Hash,
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
) -> FileResponse:
    """Bytes that a run of the caller's names."""
    async with registry.database.read() as session:
        await repository.require_reader(session, name, caller.party)
    path = repository.path_of(registry.settings.blobs, name)
    return FileResponse(path, media_type="application/octet-stream")
