"""Announcing and commenting.

Guarantees: bounded, by person and by subject; who comments may read what is commented on; only the
author takes a comment back, only a coordinator an announcement.
"""

from datetime import datetime, timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.api.notice_schemas import AnnouncementRequest
from accord_common.errors import ConflictError, LimitError, NotFoundError
from accord_common.fields import new_id
from accord_server.registry.access.credentials import Caller
from accord_server.registry.notices.tables import AnnouncementRow, CommentRow

MOST_ANNOUNCEMENTS, MOST_COMMENTS = 20, 60  # of a party in a day, of a person in an hour
MOST_ON_ONE = 1_000  # comments on one run or agreement
_DAY, _HOUR = timedelta(days=1), timedelta(hours=1)


async def announce(
    session: AsyncSession, caller: Caller, request: AnnouncementRequest, moment: datetime
) -> str:
    """Keep an announcement; return its id. LimitError `too-many-announcements`."""
    query = select(func.count()).where(
        AnnouncementRow.party == caller.party, AnnouncementRow.created > moment - _DAY
    )
    if (await session.execute(query)).scalar_one() >= MOST_ANNOUNCEMENTS:
        raise _too_many("announcements", f"{MOST_ANNOUNCEMENTS} in a day", _DAY)
    row = AnnouncementRow(
        id=new_id(),
        person=None if caller.person is None else caller.person.id,
        party=caller.party,
        title=request.title,
        body=request.body,
        created=moment,
    )
    session.add(row)
    await session.flush()
    return row.id


async def take_back_announcement(session: AsyncSession, announcement: str) -> None:
    """Remove an announcement; NotFoundError `unknown-announcement`."""
    row = await session.get(AnnouncementRow, announcement)
    if row is None:
        raise NotFoundError("unknown-announcement", f"there is no announcement {announcement}")
    await session.delete(row)


async def comment(
    session: AsyncSession, caller: Caller, subject: str, body: str, moment: datetime
) -> str:
    """Keep a comment on what the caller may read; return its id.

    Raises:
        LimitError: `too-many-comments` by one person in an hour.
        ConflictError: `comments-full` on one subject.
    """
    assert caller.person is not None  # the table lets no machine here
    own = select(func.count()).where(
        CommentRow.person == caller.person.id, CommentRow.created > moment - _HOUR
    )
    if (await session.execute(own)).scalar_one() >= MOST_COMMENTS:
        raise _too_many("comments", f"{MOST_COMMENTS} in an hour", _HOUR)
    here = select(func.count()).where(CommentRow.subject == subject)
    if (await session.execute(here)).scalar_one() >= MOST_ON_ONE:
        raise ConflictError(
            "comments-full",
            f"{MOST_ON_ONE} comments are on {subject[:16]}",
            hint="Take some back, or speak on the telephone.",
        )
    row = CommentRow(
        id=new_id(),
        subject=subject,
        person=caller.person.id,
        party=caller.party,
        body=body,
        created=moment,
    )
    session.add(row)
    await session.flush()
    return row.id


async def take_back(session: AsyncSession, caller: Caller, comment_id: str) -> None:
    """Remove the caller's own comment; NotFoundError `unknown-comment`."""
    assert caller.person is not None  # the table lets no machine here
    found = await session.execute(
        delete(CommentRow)
        .where(CommentRow.id == comment_id, CommentRow.person == caller.person.id)
        .returning(CommentRow.id)
    )
    if found.first() is None:
        raise NotFoundError("unknown-comment", f"there is no comment {comment_id} of yours")


def _too_many(what: str, bound: str, wait: timedelta) -> LimitError:
    return LimitError(
        f"too-many-{what}",
        f"at most {bound}",
        hint="Wait, or take some back.",
        retry_s=int(wait.total_seconds()),
    )
