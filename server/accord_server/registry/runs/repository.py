"""Reading runs: projections, joined with what is operational (lease, stop request, closure)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, Select, String, and_, cast, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.api.schemas import EventView, Level, RunState, RunView
from accord_common.errors import NotFoundError
from accord_common.fields import format_time
from accord_server.registry.agreements.status import ended
from accord_server.registry.runs.bars import aggregator_bars, bars
from accord_server.registry.runs.facts import closures, gather
from accord_server.registry.runs.standing import Patience, Trouble, trouble
from accord_server.registry.tables import (
    OPEN,
    AgreementPartyRow,
    ClosureRow,
    EventRow,
    LeaseRow,
    RoundRow,
    RunRow,
    SiteRow,
    StopRow,
)

_SIGN_WITHIN = timedelta(days=30)  # an aggregator that is rebuilt for longer has lost more


@dataclass(frozen=True, slots=True)
class Look:
    """By which patience, and when, somebody looks at runs."""

    patience: Patience
    moment: datetime


async def page(
    session: AsyncSession,
    party: str | None,
    state: RunState | None,
    after: str | None,
    limit: int,
    look: Look,
    *,
    newest_first: bool = False,
    title: str | None = None,
) -> list[RunView]:
    """Return the runs of the party's agreements, with None all of them, oldest first.

    Args:
        session: reads.
        party: whose.
        state: only those in it.
        after: the last of the page before.
        limit: how many.
        look: when, and how patiently.
        newest_first: the other way round, `after` too.
        title: only those in whose title this stands, in any case.
    """
    query = _of_party(party).limit(limit)
    query = query.order_by(RunRow.id.desc() if newest_first else RunRow.id)
    if after is not None:
        query = query.where(RunRow.id < after if newest_first else RunRow.id > after)
    if title is not None:
        query = query.where(RunRow.title.icontains(title, autoescape=True))
    leased = select(LeaseRow.run).where(LeaseRow.run == RunRow.id).exists()
    closed = select(ClosureRow.run).where(ClosureRow.run == RunRow.id)
    match state:
        case None:
            pass
        case "running":
            query = query.where(RunRow.state == "ready", leased, ~closed.exists())
        case "ready":
            query = query.where(RunRow.state == "ready", ~leased, ~closed.exists())
        case "awaiting-consent":
            query = query.where(RunRow.state == state, ~closed.exists())
        case _:
            here = closed.where(ClosureRow.state == state).exists()
            query = query.where(or_(RunRow.state == state, and_(RunRow.state.in_(OPEN), here)))
    return await _views(session, list((await session.execute(query)).scalars()), look)


async def open_runs(
    session: AsyncSession, party: str | None, role: str, look: Look
) -> list[RunView]:
    """Return the runs that are not over and wait for `party`: a data holder's own, else all of its.

    With None as party, all that are not over.

    An aggregator also sees those that the registry has ended, until it has signed a result, but not
    for ever: one that lost its keys never will, and the run stays unsigned.
    """
    query = _of_party(party).where(RunRow.state.in_(OPEN)).order_by(RunRow.id)
    if role == "data-holder":
        query = query.join(SiteRow, SiteRow.run == RunRow.id).where(SiteRow.party == party)
    out = select(ClosureRow.run).where(ClosureRow.run == RunRow.id)
    if role == "aggregator":
        out = out.where(ClosureRow.created < look.moment - _SIGN_WITHIN)
    query = query.where(~out.exists())
    return await _views(session, list((await session.execute(query)).scalars()), look)


async def require(session: AsyncSession, run: str, party: str | None) -> RunRow:
    """Return a run of the party's; NotFoundError `unknown-run` for any other."""
    row = (await session.execute(_of_party(party).where(RunRow.id == run))).scalar_one_or_none()
    if row is None:
        raise NotFoundError("unknown-run", f"there is no run {run} of yours")
    return row


async def view(session: AsyncSession, row: RunRow, look: Look) -> RunView:
    """Show a run."""
    return (await _views(session, [row], look))[0]


async def rounds(
    session: AsyncSession, run: str, after: int, limit: int
) -> list[dict[str, object]]:
    """Return attempts behind the first `after`, in order: the fields of `RoundView`."""
    table = RoundRow.__table__
    query = select(*table.columns).where(table.c.run == run, table.c.number > after)
    found = await session.execute(query.order_by(table.c.number).limit(limit))
    return [_round(row) for row in found]


async def last_rounds(
    session: AsyncSession, run: str, before: int | None, limit: int, *, troubled: bool
) -> list[tuple[int, dict[str, object]]]:
    """Return attempts before number `before`, newest first: number and the fields of `RoundView`.

    Args:
        session: reads.
        run: the run.
        before: attempts count from 1; None for the newest.
        limit: how many.
        troubled: only those that came to nothing, or that a site was not in.
    """
    table = RoundRow.__table__
    query = select(*table.columns).where(table.c.run == run)
    if before is not None:
        query = query.where(table.c.number < before)
    if troubled:
        query = query.where(
            or_(
                table.c.outcome == "aborted",
                cast(table.c.lost, String) != "[]",
                cast(table.c.refused, String) != "{}",
            )
        )
    found = await session.execute(query.order_by(table.c.number.desc()).limit(limit))
    return [(row.number, _round(row)) for row in found]


def _round(row: Row[Any]) -> dict[str, object]:
    return {
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


async def events(session: AsyncSession, run: str, after: int, limit: int) -> list[EventView]:
    """Return lines behind sequence `after`."""
    query = (
        select(EventRow)
        .where(EventRow.run == run, EventRow.sequence > after)
        .order_by(EventRow.sequence)
        .limit(limit)
    )
    return [event_view(row) for row in (await session.execute(query)).scalars()]


async def last_events(
    session: AsyncSession, run: str, before: int | None, level: Level | None, limit: int
) -> list[EventView]:
    """Return lines before sequence `before`, newest first; of one level, or of all."""
    query = select(EventRow).where(EventRow.run == run)
    if before is not None:
        query = query.where(EventRow.sequence < before)
    if level is not None:
        query = query.where(EventRow.level == level)
    rows = await session.execute(query.order_by(EventRow.sequence.desc()).limit(limit))
    return [event_view(row) for row in rows.scalars()]


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


def _of_party(party: str | None) -> Select[RunRow]:
    if party is None:
        return select(RunRow)
    return (
        select(RunRow)
        .join(AgreementPartyRow, AgreementPartyRow.agreement == RunRow.agreement)
        .where(AgreementPartyRow.party == party)
    )


async def _views(session: AsyncSession, rows: Sequence[RunRow], look: Look) -> list[RunView]:
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
    under = {row.agreement for row in rows if row.state in OPEN}
    over = await ended(session, under, look.moment)
    for row in rows:
        if row.state in OPEN and row.agreement in over:
            stops.setdefault(row.id, over[row.agreement].why)
    closed = await closures(session, ids)
    facts = await gather(session, rows, look.moment)
    before = await _continued(session, rows)
    views = []
    for row in rows:
        known, standing = facts.get(row.id), None
        if known is not None:
            standing = trouble(known, look.patience, look.moment)
        views.append(
            RunView.model_validate(
                _view(row, row.id in leased, closed.get(row.id))
                | {
                    "consents": [_site(site, barred) for site in sites[row.id]],
                    "stop_requested": row.withdrawn or stops.get(row.id),
                    "standing": None if standing is None else _standing(standing),
                    "continues": before.get(row.id),
                }
            )
        )
    return views


async def _continued(session: AsyncSession, rows: Sequence[RunRow]) -> dict[str, dict[str, object]]:
    """Which round of which earlier run under the agreement left what a run started from, by run."""
    query = (
        select(RoundRow.model_after, RunRow.agreement, RoundRow.run, RoundRow.round)
        .join(RunRow, RunRow.id == RoundRow.run)
        .where(RoundRow.model_after.in_([row.initial_model for row in rows]))
        .order_by(RunRow.created.desc())  # the first one that had it stays
    )
    left = (await session.execute(query)).all()
    return {
        row.id: {"run": run, "rounds": round_ + 1}
        for row in rows
        for model, agreement, run, round_ in left
        if (model, agreement) == (row.initial_model, row.agreement) and run != row.id
    }


def _view(row: RunRow, leased: bool, closure: ClosureRow | None) -> dict[str, object]:
    """What the run's own rows say; until a result does, the registry's closure ends it."""
    unsigned = closure is not None and row.state in OPEN
    end = closure if closure is not None and unsigned else row
    running = row.state == "ready" and leased and not unsigned
    return {
        "id": row.id,
        "manifest_hash": row.manifest,
        "agreement": row.agreement,
        "aggregator": row.aggregator,
        "title": row.title,
        "state": "running" if running else end.state,
        "cause": end.cause,
        "code": end.code,
        "unsigned": unsigned,
        "round": row.round,
        "rounds": row.rounds,
        "epsilon": row.epsilon,
        "model": row.model,
        "metrics": row.metrics,
        "created": format_time(row.created),
        "updated": format_time(row.updated),
    }


def _standing(found: Trouble) -> dict[str, str]:
    return {
        "code": found.code,
        "message": found.message[:4000],
        "since": format_time(found.since),
    }


def _site(site: SiteRow, barred: Mapping[tuple[str, str], str]) -> dict[str, object]:
    refusal = None
    if site.refused_round is not None:
        refusal = {"round": site.refused_round, "code": site.refused_code}
    return {
        "party": site.party,
        "dataset": site.dataset,
        "decision": site.decision,
        "code": site.code,
        "reason": site.reason,
        "head": site.head,
        "refusal": refusal,
        "barred": barred.get((site.run, site.party)),
    }
