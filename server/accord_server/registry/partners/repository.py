"""Reading partners."""

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.api.membership import Partner
from accord_common.enrolment import DELEGATION, REVOCATION
from accord_common.envelope import Envelope
from accord_common.errors import NotFoundError
from accord_common.fields import format_time
from accord_server.registry.records.lookup import load
from accord_server.registry.tables import MemberRow, PartnerRow, SuspensionRow, TokenRow


async def partner_row(session: AsyncSession, party: str) -> PartnerRow:
    """Return a partner; NotFoundError `unknown-party`."""
    row = await session.get(PartnerRow, party)
    if row is None:
        raise NotFoundError("unknown-party", f"{party} is not enrolled here")
    return row


async def names(session: AsyncSession, ids: Iterable[str]) -> dict[str, str]:
    """Return the names of those partners, by id."""
    query = select(PartnerRow.id, PartnerRow.name).where(PartnerRow.id.in_(set(ids)))
    return {party: name for party, name in (await session.execute(query)).all()}


async def page(session: AsyncSession, after: str | None, limit: int) -> list[Partner]:
    """Return partners by id."""
    query = select(PartnerRow).order_by(PartnerRow.id).limit(limit)
    if after is not None:
        query = query.where(PartnerRow.id > after)
    return await views(session, list((await session.execute(query)).scalars()))


async def holders(session: AsyncSession) -> dict[str, str]:
    """Names of the data holders by id, in the order of names; the first 1,000."""
    query = select(PartnerRow.id, PartnerRow.name).where(PartnerRow.role == "data-holder")
    found = await session.execute(query.order_by(PartnerRow.name).limit(1000))
    return {party: name for party, name in found.all()}


async def heard(session: AsyncSession, ids: Iterable[str]) -> dict[str, datetime]:
    """Return when each of those parties last asked anything; one without a token is not in it."""
    query = select(TokenRow.party, func.max(TokenRow.last_seen)).group_by(TokenRow.party)
    found = await session.execute(query.where(TokenRow.party.in_(set(ids))))
    return {party: moment for party, moment in found.all()}


async def views(session: AsyncSession, rows: list[PartnerRow]) -> list[Partner]:
    """Show partners with status, delegation and when they were last heard from."""
    ids = [row.id for row in rows]
    admitted = set(
        (await session.execute(select(MemberRow.party).where(MemberRow.party.in_(ids)))).scalars()
    )
    seen = await heard(session, ids)
    told = (
        select(TokenRow.party, TokenRow.software)
        .where(TokenRow.party.in_(ids), TokenRow.software.is_not(None))
        .order_by(TokenRow.last_seen)  # the newest stays
    )
    releases = {party: release for party, release in (await session.execute(told)).all()}
    heads = await load(session, [row.delegation for row in rows if row.delegation])
    query_out = select(SuspensionRow.party).where(SuspensionRow.party.in_(ids))
    out = set((await session.execute(query_out)).scalars())

    def head(row: PartnerRow, kind: str) -> Envelope | None:
        found = heads.get(row.delegation) if row.delegation else None
        return found if found is not None and found.kind == kind else None

    def status(party: str) -> str:
        if party in out:
            return "suspended"
        return "approved" if party in admitted else "pending"

    return [
        Partner.model_validate(
            {
                "id": row.id,
                "name": row.name,
                "role": row.role,
                "identity_key": row.identity_key,
                "jurisdiction": row.jurisdiction,
                "contact": row.contact,
                "status": status(row.id),
                "delegation": head(row, DELEGATION),
                "revoked": row.delegation if head(row, REVOCATION) else None,
                "last_seen": format_time(seen[row.id]) if row.id in seen else None,
                "software": releases.get(row.id),
            }
        )
        for row in rows
    ]
