"""What people tell each other at the registry, as models; see `schemas`.

Guarantees: none of it is signed, and nothing follows from it; texts are text, never markup.
"""

from typing import Annotated

from pydantic import Field, StringConstraints

from accord_common.api.schemas import Request, View
from accord_common.fields import Count, Id, Name, Slug, Time

MAX_COMMENT, MAX_ANNOUNCEMENT = 2_000, 4_000  # characters
# No control character but line ends: a text is shown in terminals and mails too.
_PLAIN = r"^[^\x00-\x09\x0b\x0c\x0e-\x1f\x7f]*[^\s\x00-\x1f\x7f][^\x00-\x09\x0b\x0c\x0e-\x1f\x7f]*$"
Comment = Annotated[str, StringConstraints(pattern=_PLAIN, min_length=1, max_length=MAX_COMMENT)]
Announcement = Annotated[
    str, StringConstraints(pattern=_PLAIN, min_length=1, max_length=MAX_ANNOUNCEMENT)
]


class AnnouncementRequest(Request):
    """What every member is to read."""

    title: Name
    body: Announcement


class AnnouncementView(View):
    """What the coordinator told; `author` is a person's name, or the organisation's."""

    id: Id
    author: Name
    title: Name
    body: str
    created: Time


class CommentRequest(Request):
    """A comment."""

    body: Comment


class CommentView(View):
    """What somebody said about a run or an agreement."""

    id: Id
    person: Id
    author: Name
    organisation: Name
    body: str
    created: Time


class NoticeView(View):
    """A notice that waits, or was given up (`due` is null)."""

    id: Id
    place: Name
    kind: Slug
    subject: Annotated[str, Field(description="a run, an agreement or an announcement")]
    attempts: Count
    error: str
    created: Time
    due: Time | None
