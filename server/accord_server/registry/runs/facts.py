"""Reading what `standing` decides by."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from accord_server.registry.agreements.status import Ended, ended
from accord_server.registry.partners.repository import heard
from accord_server.registry.runs.standing import Facts
from accord_server.registry.tables import (
    OPEN,
    ClosureRow,
    LeaseRow,
    PartnerRow,
    PulseRow,
    RunRow,
    SiteRow,
    StopRow,
)

GAP_S = 60  # a registry that looked after nothing for longer was away


async def up_since(session: AsyncSession, moment: datetime) -> datetime:
    """Return since when the registry has served without a gap."""
    pulse = await session.get(PulseRow, 1)
    if pulse is None or moment - pulse.last > timedelta(seconds=GAP_S):
        return moment
    return pulse.since


async def gather(
    session: AsyncSession, rows: Sequence[RunRow], moment: datetime
) -> dict[str, Facts]:
    """Return the facts of those runs that neither records nor the registry have ended."""
    closed = await closures(session, [row.id for row in rows])
    runs = [row for row in rows if row.state in OPEN and row.id not in closed]
    if not runs:
        return {}
    ids = [row.id for row in runs]
    leases = {
        lease.run: lease
        for lease in (
            await session.execute(select(LeaseRow).where(LeaseRow.run.in_(ids)))
        ).scalars()
    }
    stops = {
        stop.run: stop
        for stop in (await session.execute(select(StopRow).where(StopRow.run.in_(ids)))).scalars()
    }
    owing = await _owing(session, ids)
    seen = await heard(session, {row.aggregator for row in runs})
    served = await up_since(session, moment)
    ends = await ended(session, {row.agreement for row in runs}, moment)
    found = {}
    for row in runs:
        others = await _other_leases(session, row)
        stop, over = stops.get(row.id), ends.get(row.agreement)
        found[row.id] = Facts(
            run=row,
            unanswered=tuple(owing.get(row.id, ())),
            lease=leases.get(row.id),
            asked=row.updated if row.withdrawn else stop.created if stop else _since(over),
            why=row.withdrawn or (stop.reason if stop else over.why if over else ""),
            seen=seen.get(row.aggregator),
            busy=any(lease.expires > moment for lease, open_ in others if open_),
            free_since=max((lease.renewed for lease, _ in others), default=None),
            up_since=served,
        )
    return found


def _since(over: Ended | None) -> datetime | None:
    return None if over is None else over.since


async def closures(session: AsyncSession, runs: Sequence[str]) -> dict[str, ClosureRow]:
    """Return the registry's own ends of these runs, by run."""
    query = select(ClosureRow).where(ClosureRow.run.in_(runs))
    return {row.run: row for row in (await session.execute(query)).scalars()}


async def _owing(session: AsyncSession, runs: Sequence[str]) -> dict[str, list[str]]:
    """Names of the sites that have not answered, by run."""
    query = (
        select(SiteRow.run, PartnerRow.name)
        .join(PartnerRow, PartnerRow.id == SiteRow.party)
        .where(SiteRow.run.in_(runs), SiteRow.decision.is_(None))
        .order_by(PartnerRow.name)
    )
    found: dict[str, list[str]] = {}
    for run, name in (await session.execute(query)).all():
        found.setdefault(run, []).append(name)
    return found


async def _other_leases(session: AsyncSession, row: RunRow) -> list[tuple[LeaseRow, bool]]:
    """Leases of the aggregator's other runs, and whether those runs are open."""
    closed = select(ClosureRow.run).where(ClosureRow.run == RunRow.id).exists()
    query = (
        select(LeaseRow, RunRow.state.in_(OPEN) & ~closed)
        .join(RunRow, RunRow.id == LeaseRow.run)
        .where(RunRow.aggregator == row.aggregator, RunRow.id != row.id)
    )
    return [(lease, bool(open_)) for lease, open_ in (await session.execute(query)).all()]
