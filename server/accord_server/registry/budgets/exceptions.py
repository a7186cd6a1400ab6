"""`/v1/exceptions`: everything that does not agree, as one list.

Guarantees: first what records show, in their order (`findings`), then what lasts at the moment of
asking: receipts that nodes owe, nodes that are silent. Each names the records that it follows from.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Select, and_, func, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.api.budget_schemas import ExceptionRow
from accord_common.fields import format_time
from accord_common.sentences import Said, Sentence, joined, say
from accord_server.registry.budgets.tables import FindingRow, OwedReceiptRow
from accord_server.registry.paging import bad_cursor, equal
from accord_server.registry.runs.facts import up_since
from accord_server.registry.tables import (
    OPEN,
    ClosureRow,
    PartnerRow,
    RunRow,
    SiteRow,
    SuspensionRow,
    TokenRow,
)

MISSING, SILENT = "missing-receipt", "silent-node"
# A node posts its receipts itself, and works on for `registry_grace_s` where it cannot.
GRACE = timedelta(seconds=900)

_UUID = "[0-9a-f-]{36}"
_FOUND = re.compile(r"found-([0-9]{16})-([0-9]{4})")
_OWED = re.compile(rf"missing-({_UUID})-({_UUID})-([0-9]{{8}})-([0-9]{{8}})")
_MUTE = re.compile(rf"silent-({_UUID})-({_UUID})")


@dataclass(frozen=True, slots=True)
class Filter:
    """Which exceptions are asked for; None is any."""

    code: str | None = None
    run: str | None = None
    party: str | None = None
    dataset: str | None = None
    reach: str | None = None  # the party whose alone are shown


async def page(
    session: AsyncSession, wanted: Filter, after: str | None, limit: int, moment: datetime
) -> list[ExceptionRow]:
    """Return exceptions behind `after`; UsageError `bad-cursor`."""
    last = None if after is None else after.partition("-")[0]
    if last not in {None, *_SORTS}:
        raise bad_cursor(after or "")
    rows: list[ExceptionRow] = []
    for sort, read in _SORTS.items():
        if len(rows) == limit or (last is not None and sort < last):
            continue  # the page is full, or the pages before had all of these
        start = after if sort == last else None
        rows += await read(session, wanted, start, limit - len(rows), moment)
    return rows


async def _found(
    session: AsyncSession, wanted: Filter, after: str | None, limit: int, _: datetime
) -> list[ExceptionRow]:
    query = (
        select(FindingRow, PartnerRow.name)
        .outerjoin(PartnerRow, PartnerRow.id == FindingRow.party)
        .where(
            *equal(
                (FindingRow.code, wanted.code),
                (FindingRow.run, wanted.run),
                (FindingRow.party, wanted.party),
                (FindingRow.party, wanted.reach),
                (FindingRow.dataset, wanted.dataset),
            )
        )
        .order_by(FindingRow.sequence, FindingRow.place)
        .limit(limit)
    )
    if after is not None:
        place = tuple(int(part) for part in _parts(_FOUND, after))
        query = query.where(tuple_(FindingRow.sequence, FindingRow.place) > place)
    return [
        ExceptionRow(
            id=f"found-{row.sequence:016d}-{row.place:04d}",
            code=row.code,
            message=row.message,
            since=format_time(row.since),
            party=row.party,
            institution=name or "",
            run=row.run,
            dataset=row.dataset,
            agreement=row.agreement,
            records=row.records,
        )
        for row, name in (await session.execute(query)).all()
    ]


async def _missing(
    session: AsyncSession, wanted: Filter, after: str | None, limit: int, moment: datetime
) -> list[ExceptionRow]:
    if wanted.code not in {None, MISSING}:
        return []
    place = (OwedReceiptRow.run, OwedReceiptRow.party, OwedReceiptRow.round, OwedReceiptRow.attempt)
    query = (
        select(OwedReceiptRow, SiteRow, RunRow, PartnerRow.name)
        .join(
            SiteRow,
            and_(SiteRow.run == OwedReceiptRow.run, SiteRow.party == OwedReceiptRow.party),
        )
        .join(RunRow, RunRow.id == OwedReceiptRow.run)
        .join(PartnerRow, PartnerRow.id == OwedReceiptRow.party)
        .where(
            OwedReceiptRow.since < moment - GRACE,
            *equal(
                (OwedReceiptRow.run, wanted.run),
                (OwedReceiptRow.party, wanted.party),
                (OwedReceiptRow.party, wanted.reach),
                (SiteRow.dataset, wanted.dataset),
            ),
        )
        .order_by(*place)
        .limit(limit)
    )
    if after is not None:
        run, party, round_, attempt = _parts(_OWED, after)
        query = query.where(tuple_(*place) > (run, party, int(round_), int(attempt)))
    return [
        ExceptionRow(
            id=f"missing-{row.run}-{row.party}-{row.round:08d}-{row.attempt:08d}",
            code=MISSING,
            message=joined(
                say(Sentence.RECEIPT_OWED, name=name, round=row.round, attempt=row.attempt),
                say(Sentence.NOT_COME),
            ),
            since=format_time(row.since),
            party=row.party,
            institution=name,
            run=row.run,
            dataset=site.dataset,
            agreement=run_row.agreement,
            records=[row.receipt, site.head or run_row.manifest],
        )
        for row, site, run_row, name in (await session.execute(query)).all()
    ]


async def _silent(
    session: AsyncSession, wanted: Filter, after: str | None, limit: int, moment: datetime
) -> list[ExceptionRow]:
    """Sites of open runs that take part, or owe an answer, and were not heard for long."""
    if wanted.code not in {None, SILENT} or await up_since(session, moment) > moment - GRACE:
        return []  # a registry that was away heard nobody
    heard = (
        select(func.max(TokenRow.last_seen)).where(TokenRow.party == SiteRow.party)
    ).scalar_subquery()
    closed = select(ClosureRow.run).where(ClosureRow.run == SiteRow.run).exists()
    shut_out = select(SuspensionRow.party).where(SuspensionRow.party == SiteRow.party).exists()
    query = (
        select(SiteRow, RunRow, PartnerRow.name, heard)
        .join(RunRow, RunRow.id == SiteRow.run)
        .join(PartnerRow, PartnerRow.id == SiteRow.party)
        .where(
            RunRow.state.in_(OPEN),
            RunRow.created < moment - GRACE,
            ~closed,
            ~shut_out,
            or_(SiteRow.decision == "accept", SiteRow.decision.is_(None)),
            or_(heard.is_(None), heard < moment - GRACE),
            *equal(
                (SiteRow.run, wanted.run),
                (SiteRow.party, wanted.party),
                (SiteRow.party, wanted.reach),
                (SiteRow.dataset, wanted.dataset),
            ),
        )
        .order_by(SiteRow.run, SiteRow.party)
        .limit(limit)
    )
    if after is not None:
        query = query.where(tuple_(SiteRow.run, SiteRow.party) > tuple(_parts(_MUTE, after)))
    return [
        ExceptionRow(
            id=f"silent-{site.run}-{site.party}",
            code=SILENT,
            message=_mute(name, seen, decided=site.decision is not None),
            since=format_time(seen or run.created),
            party=site.party,
            institution=name,
            run=site.run,
            dataset=site.dataset,
            agreement=run.agreement,
            records=[site.head or run.manifest],
        )
        for site, run, name, seen in await _heard(session, query)
    ]


def _mute(name: str, seen: datetime | None, *, decided: bool) -> Said:
    if seen is None:
        return say(Sentence.MUTE_NODE if decided else Sentence.MUTE_DEBTOR, name=name)
    sentence = Sentence.SILENT_NODE if decided else Sentence.SILENT_DEBTOR
    return say(sentence, name=name, time=format_time(seen))


async def _heard(
    session: AsyncSession, query: Select[SiteRow, RunRow, str, datetime]
) -> list[tuple[SiteRow, RunRow, str, datetime | None]]:
    """Rows whose last column, a subquery's, may be null."""
    return [(site, run, name, seen) for site, run, name, seen in await session.execute(query)]


def _parts(pattern: re.Pattern[str], after: str) -> Sequence[str]:
    if (found := pattern.fullmatch(after)) is None:
        raise bad_cursor(after)
    return found.groups()


_SORTS = {"found": _found, "missing": _missing, "silent": _silent}  # in the order of their ids
