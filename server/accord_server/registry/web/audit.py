"""The audit's pages: the log's entries, one record with its proof, what does not agree."""

import asyncio
import json
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Query
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from accord_common.api.schemas import RecordView
from accord_common.errors import AccordError
from accord_common.fields import Hash, Id, now
from accord_common.log.checkpoint import Head
from accord_common.receipts import AGGREGATOR_RECEIPT, RESULT
from accord_server.registry.agreements import repository as agreements
from accord_server.registry.budgets import exceptions
from accord_server.registry.budgets.endpoints import AfterException
from accord_server.registry.log.proving import prove
from accord_server.registry.log.service import checkpoint
from accord_server.registry.records import repository as records
from accord_server.registry.tables import PartnerRow, RunRow
from accord_server.registry.web.visit import Signed

router = APIRouter(include_in_schema=False)

_PER_PAGE, _ODD = 50, 20
KINDS = (
    "enrolment",
    "delegation",
    "revocation",
    "agreement",
    "withdrawal",
    "suspension",
    "resumption",
    "aggregator-offer",
    "dataset-entry",
    "dataset-profile",
    "manifest",
    "consent",
    "node-receipt",
    "aggregator-receipt",
    "result",
    "evaluation",
)
Optional = Annotated[str, Query(max_length=64)]


@dataclass(frozen=True, slots=True)
class Entry:
    """One record, and who signed it, by name where the name is known."""

    view: RecordView
    signers: list[str]


@router.get("/audit")
async def audit(
    visit: Signed,
    kind: Annotated[str, Query(pattern=f"^({'|'.join(KINDS)})?$")] = "",
    run: Annotated[Id | None, Query()] = None,
    agreement: Annotated[Hash | None, Query()] = None,
    before: Annotated[int | None, Query(ge=1, lt=2**53)] = None,
    odd: AfterException = None,
) -> Response:
    """The log's entries, newest first, and whether the log holds.

    `before` and `odd` are where the pages of entries and of exceptions go on.
    """
    head = Head.of(await checkpoint(visit.registry))
    wanted = records.Filter(kind or None, run, agreement)
    async with visit.registry.database.read() as session:
        found = await records.newest(
            session, visit.sees("/v1/records"), before, _PER_PAGE + 1, wanted
        )
        shown = await entries(session, found[:_PER_PAGE])
        named = await agreements.newest(session, visit.sees("/v1/agreements"), None, 200, now())
        reach = exceptions.Filter(reach=visit.sees("/v1/exceptions"))
        differing = await exceptions.page(session, reach, odd, _ODD + 1, now())
    return visit.page(
        "audit.html",
        "/audit",
        live=True,
        head=head,
        log_key=visit.registry.log_key.public,
        standing=visit.registry.watch.look(head.size),
        entries=shown,
        kinds=KINDS,
        kind=kind,
        run=run,
        agreement=agreement,
        agreements=[view for _, view in named],
        before=before,
        older=found[_PER_PAGE - 1].sequence if len(found) > _PER_PAGE else None,
        exceptions=differing[:_ODD],
        more_odd=differing[_ODD - 1].id if len(differing) > _ODD else None,
        odd_from=odd,
    )


@router.get("/records/{record_hash}")
async def record(visit: Signed, record_hash: Hash) -> Response:
    """One record: what it says, who signed it, and the proof that it is in the log."""
    sees = visit.sees("/v1/records/{record_hash}")
    proof = await prove(visit.registry, sees, record_hash)
    async with visit.registry.database.read() as session:
        row = await records.one(session, sees, record_hash)
        assert row is not None  # `prove` found it
        (entry,) = await entries(session, [records.view(row)])
    try:
        head, _ = await asyncio.to_thread(proof.check)
        broken = None
    except AccordError as error:
        head, broken = None, error
    return visit.page(
        "record.html",
        "/audit",
        entry=entry,
        body=json.dumps(_body(entry.view), indent=2, ensure_ascii=False),
        proof=proof,
        head=head,
        broken=broken,
    )


async def entries(session: AsyncSession, found: list[RecordView]) -> list[Entry]:
    """Name who signed: a party by its identity key, else the party that the record says it is."""
    keys = {key for view in found for key in view.envelope.signers}
    bodies = {view.hash: _body(view) for view in found}
    parties = {body["party"] for body in bodies.values() if isinstance(body.get("party"), str)}
    query = select(PartnerRow.identity_key, PartnerRow.id, PartnerRow.name).where(
        PartnerRow.identity_key.in_(keys) | PartnerRow.id.in_(parties)
    )
    by_key: dict[str, str] = {}
    by_id: dict[str, str] = {}
    for key, party, name in await session.execute(query):
        by_key[key], by_id[party] = name, name
    runs = {view.run for view in found if view.run is not None}
    driven = (
        select(RunRow.id, PartnerRow.name)
        .join(PartnerRow, PartnerRow.id == RunRow.aggregator)
        .where(RunRow.id.in_(runs))
    )
    drives = {run: name for run, name in (await session.execute(driven)).all()}
    named = []
    for view in found:
        other = by_id.get(str(bodies[view.hash].get("party")))
        if view.kind in (AGGREGATOR_RECEIPT, RESULT):  # by a key of that run alone
            other = drives.get(view.run or "")
        names = {by_key.get(key) or other or key for key in view.envelope.signers}
        named.append(Entry(view, sorted(names)))
    return named


def _body(view: RecordView) -> dict[str, Any]:
    found = json.loads(view.envelope.payload)
    assert isinstance(found, dict)  # a record is a JSON object (SPEC.md), or was never stored
    return found
