"""What keeps a run going besides its records: leases, stop requests, event lines.

Guarantees: a lease's fence grows with each process that claims it, and only the newest renews it.
"""

from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.api.schemas import EventRequest, Lease, LeaseRequest
from accord_common.errors import ConflictError, PolicyError
from accord_common.fields import format_time
from accord_common.sentences import Said, Sentence, say
from accord_server.registry.auth import Caller
from accord_server.registry.records.announce import write_event
from accord_server.registry.records.verify_runs import require_fence
from accord_server.registry.runs.repository import require
from accord_server.registry.runs.standing import Patience
from accord_server.registry.tables import OPEN, ClosureRow, EventRow, LeaseRow, RunRow, StopRow


async def lease(
    session: AsyncSession,
    run: str,
    caller: Caller,
    request: LeaseRequest,
    patience: Patience,
    moment: datetime,
) -> tuple[Lease, bool]:
    """Give a run to one process for a while; the flag says whether that started the run.

    A request without a fence is a claim, with one it is a renewal. A claim by the same holder is
    its next process: the one before is dead, and if it is not, its fence is no longer the newest.

    Raises:
        PolicyError: `not-the-aggregator` for another party than the manifest names.
        ConflictError: `leased` while another holder's claim lasts, `lease-lost` for a fence that is
            not the newest, `run-not-ready`, `run-over`.
    """
    row = await require(session, run, caller.party)
    if row.aggregator != caller.party:
        raise PolicyError("not-the-aggregator", f"run {run} names another aggregator")
    await require_open(session, row)
    if row.state != "ready":
        raise ConflictError("run-not-ready", f"run {run} still waits for consents")
    held = await session.get(LeaseRow, run)
    started = held is None
    if held is None:
        held = LeaseRow(run=run, holder=request.holder, fence=0, expires=moment, renewed=moment)
        session.add(held)
        write_event(session, run, "info", say(Sentence.STARTED), moment)
    if request.fence is not None:
        require_fence(held, request.fence)
    elif held.holder == request.holder or held.expires <= moment:
        if held.holder != request.holder:
            write_event(session, run, "warning", say(Sentence.TAKEN_OVER), moment)
        held.holder, held.fence = request.holder, held.fence + 1
    else:
        raise ConflictError(
            "leased",
            f"run {run} is driven by {held.holder} until {format_time(held.expires)}",
            hint="Wait until the lease ends.",
        )
    held.expires, held.renewed = moment + timedelta(seconds=request.ttl_s), moment
    if request.waiting is None or held.waiting is None:
        held.waiting_since = None if request.waiting is None else moment
    held.waiting = request.waiting
    shown = Lease(
        run=run,
        holder=held.holder,
        fence=held.fence,
        expires=format_time(held.expires),
        renew_s=patience.renew_s,
    )
    return shown, started


async def stop(
    session: AsyncSession, run: str, caller: Caller, reason: str, moment: datetime
) -> RunRow:
    """Keep a request that the run end; the first one counts. ConflictError `run-over`."""
    row = await require(session, run, caller.party)
    await require_open(session, row)
    if await session.get(StopRow, run) is None:
        session.add(StopRow(run=run, party=caller.party, reason=reason, created=moment))
        message = say(Sentence.STOP_ASKED, name=caller.name, reason=reason)
        write_event(session, run, "warning", message, moment, caller.party)
        await session.flush()
    return row


async def log(
    session: AsyncSession, run: str, caller: Caller, request: EventRequest, moment: datetime
) -> EventRow:
    """Add the caller's line."""
    await require(session, run, caller.party)
    told = Said(request.message)  # the caller's: the line names them
    row = write_event(session, run, request.level, told, moment, caller.party)
    await session.flush()
    return row


async def require_open(session: AsyncSession, row: RunRow) -> None:
    """Raise ConflictError `run-over` where records, or the registry, have ended a run."""
    closure = await session.get(ClosureRow, row.id)
    state = row.state if closure is None else closure.state
    if state not in OPEN:
        raise ConflictError("run-over", f"run {row.id} is {state}; that is final")
