"""Notices that are to go out: written in the database first, sent after (`sending`).

Guarantees: a notice says what kind of thing happened, when, and where to read it; no name, title,
reason or figure is in it. Of each notable record one is written for every place that wants it,
once, through restarts: how far the records have been read is kept beside them. Records older than a
day are past noticing.
"""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta

import structlog
from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.envelope import Envelope
from accord_common.fields import new_id
from accord_server.registry.context import Registry
from accord_server.registry.notices.tables import NoticedRow, NoticeRow
from accord_server.registry.settings import Settings
from accord_server.registry.tables import RecordRow

ANNOUNCEMENT = "announcement"
KINDS = {  # of records, and what a notice calls them
    "agreement": "agreement-in-force",
    "withdrawal": "agreement-withdrawn",
    "suspension": "agreement-suspended",
    "resumption": "agreement-resumed",
    "revocation": "key-revoked",
    "manifest": "run-proposed",
    "result": "run-ended",
}
MAIL = "mail"  # the place that is the operator's mail
_MOST_WAITING = 10_000
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


def add(
    session: AsyncSession, settings: Settings, kind: str, subject: str, moment: datetime
) -> None:
    """Write a notice for each place that wants it, in the caller's transaction."""
    session.add_all(
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
        for place in places(settings, kind)
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
        count = select(func.count()).where(NoticeRow.due.is_not(None))  # not what was given up
        waiting = (await session.execute(count)).scalar_one()
        rows = await _notable(session, kept.sequence, moment)
        if waiting >= _MOST_WAITING:
            _log.error("notices-dropped", waiting=waiting, records=len(rows))
            rows = []
        for row in rows:
            add(session, registry.settings, KINDS[row.kind], _subject(row), moment)
        kept.sequence = rows[-1].sequence if len(rows) == _AT_ONCE else last
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


def _subject(row: RecordRow) -> str:
    """A run, or an agreement, or the record itself."""
    if row.run is not None:
        return row.run
    body = json.loads(Envelope.from_bytes(row.envelope).payload)
    agreement = body.get("agreement") if row.kind != "agreement" else None
    return agreement if isinstance(agreement, str) else row.hash
