"""The activity page: announcements, comments and notable records, as one list, newest first.

Guarantees: made of what the caller may read, when it is asked for; nothing is stored beside what it
is made of.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from accord_common.api.schemas import RecordView
from accord_common.fields import Time, parse_time
from accord_server.registry.notices import repository as notices
from accord_server.registry.notices.tables import CommentRow
from accord_server.registry.records import repository as records
from accord_server.registry.tables import AgreementPartyRow, ProposalPartyRow, RunRow
from accord_server.registry.web.audit import Entry, entries
from accord_server.registry.web.visit import Signed

router = APIRouter(include_in_schema=False)

_PER_PAGE = 40
_ANNOUNCED = 20
NOTABLE = (  # receipts are a run's own
    "agreement",
    "withdrawal",
    "suspension",
    "resumption",
    "revocation",
    "manifest",
    "consent",
    "result",
    "evaluation",
)


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that happened.

    Attributes:
        kind: `comment`, or `record-` and a record's kind.
        time: when the registry had it.
        who: in words.
        words: of a comment.
        link: where it is read.
    """

    kind: str
    time: datetime
    who: str
    words: str
    link: str


@router.get("/feed")
async def feed(visit: Signed, before: Annotated[Time | None, Query()] = None) -> Response:
    """What happened lately."""
    until = None if before is None else parse_time(before)
    async with visit.registry.database.read() as session:
        announced = await notices.announcements(session, None, _ANNOUNCED + 1)
        said = await _comments(session, visit.sees("/v1/runs"), until)
        found = await records.notable(
            session, visit.sees("/v1/records"), until, NOTABLE, _PER_PAGE + 1
        )
        signed = _of_records(await entries(session, found))
        waiting = []
        if visit.may("GET", "/v1/notices"):
            waiting = await notices.notices(session, 20)
    items = sorted([*said, *signed], key=lambda item: item.time, reverse=True)
    return visit.page(
        "feed.html",
        "/feed",
        live=True,
        announcements=announced[:_ANNOUNCED],
        older_announcements=len(announced) > _ANNOUNCED,
        items=items[:_PER_PAGE],
        before=before,
        older=items[_PER_PAGE - 1].time if len(items) > _PER_PAGE else None,
        announces=visit.may("POST", "/v1/announcements"),
        waiting=waiting,
    )


async def _comments(session: AsyncSession, sees: str | None, until: datetime | None) -> list[Item]:
    """Comments on what the party may read, with None on everything."""
    runs, agreements = select(RunRow.id), None
    if sees is not None:
        own = select(AgreementPartyRow.agreement).where(AgreementPartyRow.party == sees)
        proposed = select(ProposalPartyRow.proposal).where(ProposalPartyRow.party == sees)
        runs = runs.where(RunRow.agreement.in_(own))
        agreements = CommentRow.subject.in_(own) | CommentRow.subject.in_(proposed)
    query = select(CommentRow.subject).distinct()
    if agreements is not None:
        query = query.where(CommentRow.subject.in_(runs) | agreements)
    if until is not None:
        query = query.where(CommentRow.created < until)
    subjects = list((await session.execute(query)).scalars())
    found = await notices.comments(session, subjects, until, _PER_PAGE + 1)
    return [
        Item(
            "comment",
            parse_time(view.created),
            f"{view.author}, {view.organisation}",
            view.body,
            f"{'/runs/' if len(subject) == _RUN else '/agreements/'}{subject}#comments",
        )
        for subject, view in found
    ]


_RUN = 36  # characters of a run's id; an agreement's hash has 64


def _of_records(found: Sequence[Entry]) -> list[Item]:
    return [
        Item(
            f"record-{entry.view.kind}",
            parse_time(entry.view.received),
            ", ".join(entry.signers),
            "",
            _link(entry.view),
        )
        for entry in found
    ]


def _link(view: RecordView) -> str:
    if view.run is not None:
        return f"/runs/{view.run}"
    return f"/agreements/{view.hash}" if view.kind == "agreement" else f"/records/{view.hash}"
