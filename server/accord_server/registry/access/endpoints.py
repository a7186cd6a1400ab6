"""`/v1/access-events`: who got in, who did not, who let them."""

from typing import Annotated

from fastapi import APIRouter, Depends

from accord_common.api.access_schemas import AccessEvent
from accord_server.registry.access import events
from accord_server.registry.auth import Allow, Caller
from accord_server.registry.context import Registry, registry
from accord_server.registry.paging import AfterSequence, Limit

router = APIRouter(tags=["people"])


@router.get("/v1/access-events", summary="Read who got in and who did not")
async def page(
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
    after: AfterSequence = 0,
    limit: Limit = 100,
) -> list[AccessEvent]:
    """Lines behind sequence `after`; an auditor reads those of all organisations."""
    async with registry.database.read() as session:
        return await events.page(session, caller.sees, after, limit)
