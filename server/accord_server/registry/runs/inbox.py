"""`/v1/inbox`: what waits for the caller."""

from typing import Annotated

from fastapi import APIRouter, Depends

from accord_common.api.schemas import Inbox
from accord_common.fields import now
from accord_server.registry.agreements.repository import to_sign
from accord_server.registry.auth import Allow, Caller
from accord_server.registry.changes import party_topic
from accord_server.registry.context import Registry, registry
from accord_server.registry.paging import AfterSequence, Wait
from accord_server.registry.runs.repository import Look, open_runs

router = APIRouter(tags=["inbox"])


@router.get("/v1/inbox", summary="What waits for the caller")
async def inbox(
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
    after: AfterSequence = 0,
    wait: Wait = 0,
) -> Inbox:
    """Agreements to sign and runs that are not over; waits while nothing changed since `after`."""
    topic = party_topic(caller.party)
    if wait and after == registry.changes.version(topic):
        await registry.changes.wait(topic, after, wait)
    cursor = registry.changes.version(topic)  # before reading, so no change falls in between
    async with registry.database.read() as session:
        return Inbox(
            cursor=cursor,
            agreements=await to_sign(session, caller.party),
            runs=await open_runs(
                session, caller.party, caller.role, Look(registry.settings.patience, now())
            ),
        )
