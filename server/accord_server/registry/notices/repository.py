"""Reading announcements, comments and waiting notices, newest first."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.api.notice_schemas import AnnouncementView, CommentView, NoticeView
from accord_common.fields import format_time
from accord_server.registry.notices.tables import AnnouncementRow, CommentRow, NoticeRow
from accord_server.registry.partners import repository as partners
from accord_server.registry.people import repository as people

_GONE = "somebody whose account is gone"


async def announcements(
    session: AsyncSession, before: datetime | None, limit: int
) -> list[AnnouncementView]:
    """Return what was announced before a moment."""
    query = select(AnnouncementRow).order_by(AnnouncementRow.id.desc()).limit(limit)
    if before is not None:
        query = query.where(AnnouncementRow.created < before)
    rows = list((await session.execute(query)).scalars())
    names = await people.names(session, [row.person for row in rows if row.person])
    parties = await partners.names(session, [row.party for row in rows])
    return [
        AnnouncementView(
            id=row.id,
            author=names.get(row.person or "", parties.get(row.party, _GONE)),
            title=row.title,
            body=row.body,
            created=format_time(row.created),
        )
        for row in rows
    ]


async def comments(
    session: AsyncSession, subjects: Sequence[str], before: datetime | None, limit: int
) -> list[tuple[str, CommentView]]:
    """Return comments on any of these, each with its subject."""
    query = select(CommentRow).where(CommentRow.subject.in_(subjects))
    if before is not None:
        query = query.where(CommentRow.created < before)
    rows = list(
        (await session.execute(query.order_by(CommentRow.id.desc()).limit(limit))).scalars()
    )
    names = await people.names(session, [row.person for row in rows])
    parties = await partners.names(session, [row.party for row in rows])
    return [
        (
            row.subject,
            CommentView(
                id=row.id,
                person=row.person,
                author=names.get(row.person, _GONE),
                organisation=parties.get(row.party, _GONE),
                body=row.body,
                created=format_time(row.created),
            ),
        )
        for row in rows
    ]


async def notices(session: AsyncSession, limit: int) -> list[NoticeView]:
    """Return notices that wait or were given up."""
    query = select(NoticeRow).order_by(NoticeRow.id.desc()).limit(limit)
    return [
        NoticeView(
            id=row.id,
            place=row.place,
            kind=row.kind,
            subject=row.subject,
            attempts=row.attempts,
            error=row.error,
            created=format_time(row.created),
            due=None if row.due is None else format_time(row.due),
        )
        for row in (await session.execute(query)).scalars()
    ]
