"""Notices that are to go out: written in the database first, sent after (`sending`).

Guarantees: a notice says what kind of thing happened, when, and where to read it; no name, title,
reason or figure is in it. Of each notable record one is written for every place that wants it,
once, through restarts: how far the records have been read is kept beside them. Records older than a
day are past noticing. What no record says (a proposal, an end that the registry found itself) is
written with it. A place that takes nothing fills its own bound and keeps nothing from the others.
"""

import json
from collections.abc import Collection, Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.envelope import Envelope
from accord_common.fields import new_id
from accord_server.registry.context import Registry
from accord_server.registry.notices.tables import NoticedRow, NoticeRow
from accord_server.registry.settings import Settings
from accord_server.registry.tables import ClosureRow, RecordRow

ANNOUNCEMENT, PROPOSAL, RUN_ENDED = "announcement", "agreement-proposed", "run-ended"
KINDS = {  # of records, and what a notice calls them
    "agreement": "agreement-in-force",
    "withdrawal": "agreement-withdrawn",
    "suspension": "agreement-suspended",
    "resumption": "agreement-resumed",
    "revocation": "key-revoked",
    "manifest": "run-proposed",
    "consent": "run-refused",  # where it is none
    "result": RUN_ENDED,
}
MAIL = "mail"  # the place that is the operator's mail
_MOST_WAITING = 10_000  # for one place
_AT_ONCE = 500  # records
_PAST = timedelta(days=1)
_KEPT = timedelta(days=30)  # what was given up stays for people to see
_log = structlog.get_logger("accord.registry")


def places(settings: Settings, kind: str) -> Iterator[str]:
    """The operator's places that want notices of a kind, by name."""
    for hook in settings.webhooks:
        if not hook.kinds or kind in hook.kinds:
            yield hook.name
    if settings.mail is not None and (not settings.mail.kinds or kind in settings.mail.kinds):
        yield MAIL


async def add(
    session: AsyncSession,
    settings: Settings,
    news: Iterable[tuple[str, str]],
    moment: datetime,
) -> None:
    """Write notices (kind, subject) for each place that wants them, in the caller's transaction."""
    full = await _full(session)
    for kind, subject in news:
        for place in places(settings, kind):
            if place in full:
                _log.error("notice-dropped", place=place, kind=kind, waiting=_MOST_WAITING)
                continue
            session.add(
                NoticeRow(
                    id=new_id(),
                    place=place,
                    kind=kind,
                    subject=subject,
                    attempts=0,
                    error="",
                    created=moment,
                    due=moment,
                )
            )


async def write(registry: Registry, moment: datetime) -> None:
    """Write notices of the notable records that came since the last time."""
    async with registry.database.read() as session:
        kept = await session.get(NoticedRow, 1)
        last = await _last(session)
        if kept is not None and not await _notable(session, kept.sequence, moment):
            if last - kept.sequence < _AT_ONCE:
                return  # nothing to say; most records are receipts
    async with registry.database.write() as session:
        kept = await session.get(NoticedRow, 1)
        if kept is None:  # what was there before anybody wanted notices is no news
            session.add(NoticedRow(id=1, sequence=last))
            return
        rows = await _notable(session, kept.sequence, moment)
        await add(session, registry.settings, await _news(session, rows), moment)
        read = rows[-1].sequence if rows else last  # a record may have come since `last` was read
        kept.sequence = read if len(rows) == _AT_ONCE else max(read, last)
        await session.execute(
            delete(NoticeRow).where(NoticeRow.due.is_(None), NoticeRow.created < moment - _KEPT)
        )


async def _last(session: AsyncSession) -> int:
    return (await session.execute(select(func.max(RecordRow.sequence)))).scalar_one() or 0


async def _notable(session: AsyncSession, after: int, moment: datetime) -> list[RecordRow]:
    query = select(RecordRow).where(
        RecordRow.sequence > after,
        RecordRow.kind.in_(KINDS),
        RecordRow.received > moment - _PAST,
    )
    rows = await session.execute(query.order_by(RecordRow.sequence).limit(_AT_ONCE))
    return list(rows.scalars())


async def _news(session: AsyncSession, rows: Collection[RecordRow]) -> list[tuple[str, str]]:
    """Kind and subject of each; an end that the registry told already is no news again."""
    ended = [row.run for row in rows if KINDS[row.kind] == RUN_ENDED]
    query = select(ClosureRow.run).where(ClosureRow.run.in_(ended))
    told = set((await session.execute(query)).scalars())
    return [
        (KINDS[row.kind], _subject(row))
        for row in rows
        if (row.kind != "consent" or _body(row)["decision"] == "refuse")
        and (row.kind != "result" or row.run not in told)
    ]


async def _full(session: AsyncSession) -> set[str]:
    """Places that have not taken as many notices as wait for one at most."""
    count = (
        select(NoticeRow.place)
        .where(NoticeRow.due.is_not(None))  # not what was given up
        .group_by(NoticeRow.place)
        .having(func.count() >= _MOST_WAITING)
    )
    return set((await session.execute(count)).scalars())


def _subject(row: RecordRow) -> str:
    """A run, or an agreement, or the record itself."""
    if row.run is not None:
        return row.run
    agreement = _body(row).get("agreement") if row.kind != "agreement" else None
    return agreement if isinstance(agreement, str) else row.hash


def _body(row: RecordRow) -> dict[str, Any]:
    found = json.loads(Envelope.from_bytes(row.envelope).payload)
    assert isinstance(found, dict)  # a record is a JSON object (SPEC.md), or was never stored
    return found
