"""`/v1/tokens`: a person's tokens for programs."""

from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.responses import Response

from accord_common.api.access_schemas import NewToken, TokenRequest, TokenView
from accord_common.fields import Id, now
from accord_server.registry.auth import Allow, Caller
from accord_server.registry.context import Registry, registry
from accord_server.registry.paging import AfterId, Limit
from accord_server.registry.tokens import service

router = APIRouter(tags=["tokens"])


@router.post("/v1/tokens", status_code=201, summary="Make a token")
async def make(
    body: TokenRequest,
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
) -> NewToken:
    """For the caller, who is signed in with a browser; the secret is shown only here."""
    async with registry.database.write() as session:
        return await service.make(session, caller, body, now())


@router.get("/v1/tokens", summary="List tokens")
async def page(
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
    after: AfterId = None,
    limit: Limit = 100,
) -> list[TokenView]:
    """The caller's; an owner's organisation's; for auditors everybody's. Without the secrets."""
    async with registry.database.read() as session:
        return await service.page(session, caller, after, limit)


@router.delete("/v1/tokens/{token}", status_code=204, summary="Revoke a token")
async def revoke(
    token: Id,
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
) -> Response:
    """One of the caller's, or for an owner one of the organisation's; at once."""
    async with registry.database.write() as session:
        await service.revoke(session, caller, token, now())
    return Response(status_code=204)
