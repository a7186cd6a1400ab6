"""`access_events`: who got in, who did not, and who let them.

Guarantees: a line is written in the transaction of what it tells, and in the log too. No line
holds a login that does not exist: people type passwords there.
"""

from datetime import datetime

import structlog
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.api.access_schemas import AccessEvent
from accord_common.fields import format_time
from accord_server.registry.access.tables import AccessEventRow, PersonRow

_audit = structlog.get_logger("accord.audit")


async def tell(
    session: AsyncSession,
    kind: str,
    moment: datetime,
    *,
    person: PersonRow | None = None,
    actor: str | None = None,
    address: str = "",
    detail: str = "",
) -> None:
    """Add a line: `actor`, a person or a party, did `kind` to `person`; None is the person."""
    last = (await session.execute(select(func.max(AccessEventRow.sequence)))).scalar_one()
    row = AccessEventRow(
        sequence=(last or 0) + 1,  # writers take turns
        kind=kind,
        party=None if person is None else person.party,
        person=None if person is None else person.id,
        actor=actor if actor is not None or person is None else person.id,
        address=address,
        detail=detail,
        created=moment,
    )
    session.add(row)
    await session.flush()
    _audit.info(
        kind, party=row.party, person=row.person, actor=row.actor, address=address, detail=detail
    )


async def page(
    session: AsyncSession, party: str | None, after: int, limit: int
) -> list[AccessEvent]:
    """Return lines behind sequence `after`; of one party, or with None of all."""
    query = select(AccessEventRow).where(AccessEventRow.sequence > after)
    if party is not None:
        query = query.where(AccessEventRow.party == party)
    rows = await session.execute(query.order_by(AccessEventRow.sequence).limit(limit))
    return [_view(row) for row in rows.scalars()]


async def newest(
    session: AsyncSession, party: str | None, before: int | None, limit: int
) -> list[AccessEvent]:
    """Return lines before sequence `before`, newest first, as `page` does."""
    query = select(AccessEventRow)
    if before is not None:
        query = query.where(AccessEventRow.sequence < before)
    if party is not None:
        query = query.where(AccessEventRow.party == party)
    rows = await session.execute(query.order_by(AccessEventRow.sequence.desc()).limit(limit))
    return [_view(row) for row in rows.scalars()]


def _view(row: AccessEventRow) -> AccessEvent:
    return AccessEvent.model_validate(
        {
            "sequence": row.sequence,
            "kind": row.kind,
            "party": row.party,
            "person": row.person,
            "actor": row.actor,
            "address": row.address,
            "detail": row.detail,
            "created": format_time(row.created),
        }
    )
