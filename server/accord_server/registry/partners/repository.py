"""Reading partners."""

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.api.schemas import Partner
from accord_common.errors import NotFoundError
from accord_common.fields import format_time
from accord_server.registry.records.lookup import load
from accord_server.registry.tables import MemberRow, PartnerRow, TokenRow


async def partner_row(session: AsyncSession, party: str) -> PartnerRow:
    """Return a partner; NotFoundError `unknown-party`."""
    row = await session.get(PartnerRow, party)
    if row is None:
        raise NotFoundError("unknown-party", f"{party} is not enrolled here")
    return row


async def page(session: AsyncSession, after: str | None, limit: int) -> list[Partner]:
    """Return partners by id."""
    query = select(PartnerRow).order_by(PartnerRow.id).limit(limit)
    if after is not None:
        query = query.where(PartnerRow.id > after)
    return await views(session, list((await session.execute(query)).scalars()))


async def views(session: AsyncSession, rows: list[PartnerRow]) -> list[Partner]:
    """Show partners with status, delegation and when they were last heard from."""
    ids = [row.id for row in rows]
    admitted = set(
        (await session.execute(select(MemberRow.party).where(MemberRow.party.in_(ids)))).scalars()
    )
    query = (
        select(TokenRow.party, func.max(TokenRow.last_seen))
        .where(TokenRow.party.in_(ids))
        .group_by(TokenRow.party)
    )
    seen = {party: moment for party, moment in (await session.execute(query)).all()}
    delegations = await load(session, [row.delegation for row in rows if row.delegation])
    return [
        Partner.model_validate(
            {
                "id": row.id,
                "name": row.name,
                "role": row.role,
                "identity_key": row.identity_key,
                "jurisdiction": row.jurisdiction,
                "contact": row.contact,
                "status": "approved" if row.id in admitted else "pending",
                "delegation": delegations.get(row.delegation) if row.delegation else None,
                "last_seen": format_time(seen[row.id]) if row.id in seen else None,
            }
        )
        for row in rows
    ]
