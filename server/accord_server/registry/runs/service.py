"""What keeps a run going besides its records: leases, stop requests, event lines."""

from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.api.schemas import EventRequest, Lease, LeaseRequest
from accord_common.errors import ConflictError, PolicyError
from accord_common.fields import format_time
from accord_server.registry.auth import Caller
from accord_server.registry.records.announce import write_event
from accord_server.registry.records.projections import OPEN
from accord_server.registry.runs.repository import require
from accord_server.registry.tables import EventRow, LeaseRow, RunRow, StopRow


async def lease(
    session: AsyncSession, run: str, caller: Caller, request: LeaseRequest, moment: datetime
) -> tuple[Lease, bool]:
    """Give a run to one holder for a while; the flag says whether that started the run.

    Raises:
        PolicyError: `not-the-aggregator` for another party than the manifest names.
        ConflictError: `leased` while another holder's claim lasts, `run-not-ready`, `run-over`.
    """
    row = await require(session, run, caller.party)
    if row.aggregator != caller.party:
        raise PolicyError("not-the-aggregator", f"run {run} names another aggregator")
    _require_open(row)
    if row.state != "ready":
        raise ConflictError("run-not-ready", f"run {run} still waits for consents")
    held = await session.get(LeaseRow, run)
    expires = moment + timedelta(seconds=request.ttl_s)
    started = held is None
    if held is None:
        held = LeaseRow(run=run, holder=request.holder, fence=1, expires=expires)
        session.add(held)
        write_event(session, run, "info", "the aggregator has started the run", moment)
    elif held.holder == request.holder:
        held.expires = expires
    elif held.expires > moment:
        raise ConflictError(
            "leased",
            f"run {run} is driven by {held.holder} until {format_time(held.expires)}",
            hint="Wait until the lease ends.",
        )
    else:
        held.holder, held.expires, held.fence = request.holder, expires, held.fence + 1
        write_event(session, run, "warning", "another aggregator process goes on", moment)
    shown = Lease(run=run, holder=held.holder, fence=held.fence, expires=format_time(held.expires))
    return shown, started


async def stop(
    session: AsyncSession, run: str, caller: Caller, reason: str, moment: datetime
) -> RunRow:
    """Keep a request that the run end; the first one counts. ConflictError `run-over`."""
    row = await require(session, run, caller.party)
    _require_open(row)
    if await session.get(StopRow, run) is None:
        session.add(StopRow(run=run, party=caller.party, reason=reason, created=moment))
        message = f"{caller.name} asks to stop: {reason}"
        write_event(session, run, "warning", message, moment, caller.party)
        await session.flush()
    return row


async def log(
    session: AsyncSession, run: str, caller: Caller, request: EventRequest, moment: datetime
) -> EventRow:
    """Add the caller's line."""
    await require(session, run, caller.party)
    row = write_event(session, run, request.level, request.message, moment, caller.party)
    await session.flush()
    return row


def _require_open(row: RunRow) -> None:
    if row.state not in OPEN:
        raise ConflictError("run-over", f"run {row.id} is {row.state}; that is final")
