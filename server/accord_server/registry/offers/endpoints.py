"""`/v1/offers`: unused offers of aggregators that were heard from lately."""

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Depends
from sqlalchemy import func, select

from accord_common.api.schemas import OfferView
from accord_common.enrolment import Offer
from accord_common.fields import format_time, now
from accord_server.registry.auth import Allow, Caller
from accord_server.registry.context import Registry, registry
from accord_server.registry.paging import Limit
from accord_server.registry.records.lookup import load
from accord_server.registry.tables import OfferRow, PartnerRow, TokenRow

router = APIRouter(tags=["offers"])

LIVE = timedelta(seconds=120)  # an aggregator polls its inbox at least every 30 s


@router.get("/v1/offers", summary="List unused offers")
async def page(
    _: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
    limit: Limit = 100,
) -> list[OfferView]:
    """Offers of live aggregators under their newest delegation, newest first."""
    seen = (
        select(TokenRow.party, func.max(TokenRow.last_seen).label("moment"))
        .group_by(TokenRow.party)
        .subquery()
    )
    query = (
        select(OfferRow, seen.c.moment, PartnerRow.delegation)
        .join(seen, seen.c.party == OfferRow.party)
        .join(PartnerRow, PartnerRow.id == OfferRow.party)
        .where(OfferRow.manifest.is_(None), seen.c.moment >= now() - LIVE)
        .order_by(OfferRow.sequence.desc())
        .limit(limit)
    )
    async with registry.database.read() as session:
        rows = (await session.execute(query)).all()
        envelopes = await load(session, [row.hash for row, _, _ in rows])
    offers = [
        (Offer.from_bytes(envelopes[row.hash].payload), envelopes[row.hash], moment, delegation)
        for row, moment, delegation in rows
    ]
    return [
        OfferView(hash=envelope.hash, offer=offer, envelope=envelope, last_seen=format_time(moment))
        for offer, envelope, moment, delegation in offers
        if offer.delegation == delegation
    ]
