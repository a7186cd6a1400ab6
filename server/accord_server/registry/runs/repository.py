"""Reading runs: projections, joined with what is operational (lease, stop request)."""

from collections.abc import Mapping

from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.api.schemas import EventView, RoundView, RunState, RunView
from accord_common.errors import NotFoundError
from accord_common.fields import format_time
from accord_server.registry.records.projections import OPEN
from accord_server.registry.runs.bars import aggregator_bars, bars
from accord_server.registry.tables import (
    AgreementPartyRow,
    EventRow,
    LeaseRow,
    RoundRow,
    RunRow,
    SiteRow,
    StopRow,
)


async def page(
    session: AsyncSession, party: str, state: RunState | None, after: str | None, limit: int
) -> list[RunView]:
    """Return the runs of the party's agreements, oldest first."""
    query = _of_party(party).order_by(RunRow.id).limit(limit)
    if after is not None:
        query = query.where(RunRow.id > after)
    leased = select(LeaseRow.run).where(LeaseRow.run == RunRow.id).exists()
    match state:
        case None:
            pass
        case "running":
            query = query.where(RunRow.state == "ready", leased)
        case "ready":
            query = query.where(RunRow.state == "ready", ~leased)
        case _:
            query = query.where(RunRow.state == state)
    return await _views(session, list((await session.execute(query)).scalars()))


async def open_runs(session: AsyncSession, party: str, role: str) -> list[RunView]:
    """Return the runs that are not over and wait for `party`: a data holder's own, else all."""
    query = _of_party(party).where(RunRow.state.in_(OPEN)).order_by(RunRow.id)
    if role == "data-holder":
        query = query.join(SiteRow, SiteRow.run == RunRow.id).where(SiteRow.party == party)
    return await _views(session, list((await session.execute(query)).scalars()))


async def require(session: AsyncSession, run: str, party: str) -> RunRow:
    """Return a run of the party's; NotFoundError `unknown-run` for any other."""
    row = (await session.execute(_of_party(party).where(RunRow.id == run))).scalar_one_or_none()
    if row is None:
        raise NotFoundError("unknown-run", f"there is no run {run} of yours")
    return row


async def view(session: AsyncSession, row: RunRow) -> RunView:
    """Show a run."""
    return (await _views(session, [row]))[0]


async def rounds(session: AsyncSession, run: str, after: int, limit: int) -> list[RoundView]:
    """Return attempts behind the first `after`, in order."""
    query = (
        select(RoundRow)
        .where(RoundRow.run == run, RoundRow.number > after)
        .order_by(RoundRow.number)
        .limit(limit)
    )
    return [
        RoundView.model_validate(
            {
                "round": row.round,
                "attempt": row.attempt,
                "outcome": row.outcome,
                "cohort": row.cohort,
                "lost": row.lost,
                "refused": row.refused,
                "model_after": row.model_after,
                "seconds": (row.ended - row.started).total_seconds(),
                "created": format_time(row.ended),
            }
        )
        for row in (await session.execute(query)).scalars()
    ]


async def events(session: AsyncSession, run: str, after: int, limit: int) -> list[EventView]:
    """Return lines behind sequence `after`."""
    query = (
        select(EventRow)
        .where(EventRow.run == run, EventRow.sequence > after)
        .order_by(EventRow.sequence)
        .limit(limit)
    )
    return [event_view(row) for row in (await session.execute(query)).scalars()]


def event_view(row: EventRow) -> EventView:
    """Show a line."""
    return EventView.model_validate(
        {
            "sequence": row.sequence,
            "level": row.level,
            "message": row.message,
            "party": row.party,
            "created": format_time(row.created),
        }
    )


def _of_party(party: str) -> Select[RunRow]:
    return (
        select(RunRow)
        .join(AgreementPartyRow, AgreementPartyRow.agreement == RunRow.agreement)
        .where(AgreementPartyRow.party == party)
    )


async def _views(session: AsyncSession, rows: list[RunRow]) -> list[RunView]:
    ids = [row.id for row in rows]
    sites: dict[str, list[SiteRow]] = {run: [] for run in ids}
    query = select(SiteRow).where(SiteRow.run.in_(ids)).order_by(SiteRow.party)
    for site in (await session.execute(query)).scalars():
        sites[site.run].append(site)
    leased = set(
        (await session.execute(select(LeaseRow.run).where(LeaseRow.run.in_(ids)))).scalars()
    )
    asked = await session.execute(select(StopRow.run, StopRow.reason).where(StopRow.run.in_(ids)))
    stops: dict[str, str] = {run: reason for run, reason in asked.all()}
    barred = await bars(session, [row.id for row in rows if row.state in OPEN])
    out = await aggregator_bars(session, {row.aggregator for row in rows if row.state in OPEN})
    for row in rows:
        if row.state in OPEN and row.aggregator in out:
            stops.setdefault(row.id, out[row.aggregator][1])
    return [_view(row, sites[row.id], barred, row.id in leased, stops.get(row.id)) for row in rows]


def _view(
    row: RunRow,
    sites: list[SiteRow],
    barred: Mapping[tuple[str, str], str],
    leased: bool,
    stop: str | None,
) -> RunView:
    return RunView.model_validate(
        {
            "id": row.id,
            "manifest_hash": row.manifest,
            "agreement": row.agreement,
            "aggregator": row.aggregator,
            "title": row.title,
            "state": "running" if row.state == "ready" and leased else row.state,
            "cause": row.cause,
            "code": row.code,
            "round": row.round,
            "rounds": row.rounds,
            "consents": [
                {
                    "party": site.party,
                    "dataset": site.dataset,
                    "decision": site.decision,
                    "code": site.code,
                    "reason": site.reason,
                    "head": site.head,
                    "refusal": None
                    if site.refused_round is None
                    else {"round": site.refused_round, "code": site.refused_code},
                    "barred": barred.get((site.run, site.party)),
                }
                for site in sites
            ],
            "epsilon": row.epsilon,
            "model": row.model,
            "metrics": row.metrics,
            "stop_requested": row.withdrawn or stop,
            "created": format_time(row.created),
            "updated": format_time(row.updated),
        }
    )
