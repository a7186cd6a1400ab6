"""`/v1/ca.pem` and `/v1/trust`: the authorities while they are exchanged.

The file is read for each request, so a new bundle needs no restart.
"""

from typing import Annotated

from fastapi import APIRouter, Depends
from sqlalchemy import select
from starlette.responses import PlainTextResponse

from accord_common.api.membership import TrustRequest, TrustView
from accord_common.fields import format_time, now
from accord_server.registry.auth import Allow, Caller
from accord_server.registry.context import Registry, registry
from accord_server.registry.paging import AfterId, Limit
from accord_server.registry.tables import MemberRow, PartnerRow, SuspensionRow, TrustRow

router = APIRouter(tags=["trust"])


@router.get("/v1/ca.pem", summary="The certificate authorities", response_class=PlainTextResponse)
async def ca(registry: Annotated[Registry, Depends(registry)]) -> str:
    """The one to pin, once it matched the invitation; with its successor while that follows it."""
    return registry.ca_pem.decode("ascii")


@router.put("/v1/trust", status_code=204, summary="Say which authorities are trusted")
async def tell(
    body: TrustRequest,
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
) -> None:
    """By fingerprint; replaces what the caller said before."""
    async with registry.database.write() as session:
        row = await session.get(TrustRow, caller.party)
        if row is None:
            row = TrustRow(party=caller.party)
            session.add(row)
        row.ca, row.told = sorted(set(body.ca)), now()


@router.get("/v1/trust", summary="Who trusts which authorities")
async def page(
    _: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
    after: AfterId = None,
    limit: Limit = 100,
) -> list[TrustView]:
    """Members by id, but for suspended ones; who has said nothing yet is listed too."""
    query = (
        select(PartnerRow.id, PartnerRow.name)
        .join(MemberRow, MemberRow.party == PartnerRow.id)
        .outerjoin(SuspensionRow, SuspensionRow.party == PartnerRow.id)
        .where(SuspensionRow.party.is_(None))
        .order_by(PartnerRow.id)
        .limit(limit)
    )
    if after is not None:
        query = query.where(PartnerRow.id > after)
    async with registry.database.read() as session:
        names = {party: name for party, name in (await session.execute(query)).all()}
        told = select(TrustRow).where(TrustRow.party.in_(names))
        rows = {row.party: row for row in (await session.execute(told)).scalars()}
    return [_view(party, name, rows.get(party)) for party, name in names.items()]


def _view(party: str, name: str, row: TrustRow | None) -> TrustView:
    if row is None:
        return TrustView(party=party, name=name, ca=[], told=None)
    return TrustView(party=party, name=name, ca=row.ca, told=format_time(row.told))
