"""Reading records.

Guarantees: what was signed under an agreement is for its parties: runs, profiles of data, who
withdrew or suspends it, and why. How parties came, delegated and went, what aggregators offer and
what institutions declare of their datasets, is for every member.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Select, and_, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.agreement import AGREEMENT, RESUMPTION, SUSPENSION, WITHDRAWAL
from accord_common.api.schemas import RecordView
from accord_common.catalogue import DATASET_PROFILE
from accord_common.envelope import Envelope
from accord_common.fields import format_time
from accord_server.registry.agreements.tables import HaltRow
from accord_server.registry.datasets.tables import ProfileRow
from accord_server.registry.tables import AgreementPartyRow, RecordRow, RunRow

_HALTS = (WITHDRAWAL, SUSPENSION, RESUMPTION)
_OF_PARTIES = (AGREEMENT, DATASET_PROFILE, *_HALTS)  # beside what is of a run


@dataclass(frozen=True, slots=True)
class Filter:
    """Which records are asked for; None is any. `agreement` is itself, and its runs' records."""

    kind: str | None = None
    run: str | None = None
    agreement: str | None = None


async def page(
    session: AsyncSession,
    party: str | None,
    after: int,
    limit: int,
    kind: str | None,
    run: str | None,
) -> list[RecordView]:
    """Return records behind sequence `after`, in order: a party's, with None all of them."""
    query = _of(party).where(RecordRow.sequence > after).order_by(RecordRow.sequence)
    if kind is not None:
        query = query.where(RecordRow.kind == kind)
    if run is not None:
        query = query.where(RecordRow.run == run)
    return [view(row) for row in (await session.execute(query.limit(limit))).scalars()]


async def newest(
    session: AsyncSession, party: str | None, before: int | None, limit: int, wanted: Filter
) -> list[RecordView]:
    """Return records before sequence `before`, newest first, as `page` does."""
    query = _of(party).order_by(RecordRow.sequence.desc())
    if before is not None:
        query = query.where(RecordRow.sequence < before)
    if wanted.kind is not None:
        query = query.where(RecordRow.kind == wanted.kind)
    if wanted.run is not None:
        query = query.where(RecordRow.run == wanted.run)
    if wanted.agreement is not None:
        runs = select(RunRow.id).where(RunRow.agreement == wanted.agreement)
        query = query.where(or_(RecordRow.run.in_(runs), RecordRow.hash == wanted.agreement))
    return [view(row) for row in (await session.execute(query.limit(limit))).scalars()]


async def notable(
    session: AsyncSession,
    party: str | None,
    until: datetime | None,
    kinds: Collection[str],
    limit: int,
) -> list[RecordView]:
    """Return records of some kinds that came before a moment, newest first, as `page` does."""
    query = _of(party).where(RecordRow.kind.in_(kinds))
    if until is not None:
        query = query.where(RecordRow.received < until)
    rows = await session.execute(query.order_by(RecordRow.sequence.desc()).limit(limit))
    return [view(row) for row in rows.scalars()]


async def one(session: AsyncSession, party: str | None, record_hash: str) -> RecordRow | None:
    """Return a record by hash, if the party may read it; None is whoever may read all."""
    query = _of(party).where(RecordRow.hash == record_hash)
    return (await session.execute(query)).scalar_one_or_none()


async def reads_run(session: AsyncSession, party: str | None, run: str) -> bool:
    """Whether a run is there, and a party may read its records; None is whoever may read all."""
    query = select(RunRow.id).where(RunRow.id == run)
    if party is not None:
        query = query.where(RunRow.agreement.in_(_agreements(party)))
    return (await session.execute(query)).first() is not None


def _agreements(party: str) -> Select[str]:
    return select(AgreementPartyRow.agreement).where(AgreementPartyRow.party == party)


def _of(party: str | None) -> Select[RecordRow]:
    query = select(RecordRow)
    if party is None:
        return query
    agreements = _agreements(party)
    runs = select(RunRow.id).where(RunRow.agreement.in_(agreements))
    halts = select(HaltRow.hash).where(HaltRow.agreement.in_(agreements))
    profiles = select(ProfileRow.hash).where(ProfileRow.agreement.in_(agreements))
    return query.where(
        or_(
            RecordRow.run.in_(runs),
            and_(RecordRow.kind == AGREEMENT, RecordRow.hash.in_(agreements)),
            and_(RecordRow.kind == DATASET_PROFILE, RecordRow.hash.in_(profiles)),
            and_(RecordRow.kind.in_(_HALTS), RecordRow.hash.in_(halts)),
            and_(RecordRow.run.is_(None), RecordRow.kind.not_in(_OF_PARTIES)),
        )
    )


def view(row: RecordRow) -> RecordView:
    """Show a record."""
    return RecordView(
        sequence=row.sequence,
        hash=row.hash,
        kind=row.kind,
        run=row.run,
        received=format_time(row.received),
        leaf=row.leaf,
        envelope=Envelope.from_bytes(row.envelope),
    )
