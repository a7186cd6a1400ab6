"""From records to projections: what each record changes.

Guarantees: a function of the record, its place and its time of arrival alone, so replaying
`records` in order gives the same rows. Nothing is verified here: records were before appending.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.agreement import (
    AGREEMENT,
    RESUMPTION,
    SUSPENSION,
    WITHDRAWAL,
    Agreement,
    Resumption,
    Suspension,
    Withdrawal,
)
from accord_common.catalogue import DATASET_ENTRY, DATASET_PROFILE
from accord_common.enrolment import (
    DELEGATION,
    ENROLMENT,
    OFFER,
    REVOCATION,
    Delegation,
    Enrolment,
    Offer,
    Revocation,
)
from accord_common.envelope import Envelope
from accord_common.fields import parse_time
from accord_common.manifest import MANIFEST, RunManifest
from accord_common.receipts import (
    AGGREGATOR_RECEIPT,
    CONSENT,
    EVALUATION,
    NODE_RECEIPT,
    RESULT,
    AggregatorReceipt,
    Consent,
    Evaluation,
    NodeReceipt,
    RunResult,
)
from accord_server.registry.agreements.tables import HaltRow
from accord_server.registry.budgets import projections as budgets
from accord_server.registry.datasets import projections as datasets
from accord_server.registry.records.bodies import body_of
from accord_server.registry.records.lookup import load_one, run_row
from accord_server.registry.tables import (
    OPEN,
    AgreementPartyRow,
    AgreementRow,
    OfferRow,
    PartnerRow,
    RecordRow,
    RoundRow,
    RunRow,
    SiteRow,
)

_Project = Callable[[AsyncSession, RecordRow, Envelope], Awaitable[None]]


async def project(session: AsyncSession, row: RecordRow, envelope: Envelope) -> None:
    """Apply one record; its caller flushes."""
    await _BY_KIND[row.kind](session, row, envelope)
    await budgets.project(session, row, envelope)


async def _enrolment(session: AsyncSession, _: RecordRow, envelope: Envelope) -> None:
    body = Enrolment.from_bytes(envelope.payload)
    partner = await session.get(PartnerRow, body.party)
    if partner is None:
        partner = PartnerRow(
            id=body.party, name=body.name, role=body.role, identity_key=body.identity_key
        )
        session.add(partner)
    partner.jurisdiction, partner.contact = body.jurisdiction, body.contact


async def _delegation(session: AsyncSession, row: RecordRow, envelope: Envelope) -> None:
    body = Delegation.from_bytes(envelope.payload)
    before = None if body.previous is None else await load_one(session, body.previous)
    if before is not None and before.kind == DELEGATION:
        if Delegation.from_bytes(before.payload).node_key != body.node_key:
            await _bar_sites(session, body.party)
    await session.execute(
        update(PartnerRow).where(PartnerRow.id == body.party).values(delegation=row.hash)
    )


async def _revocation(session: AsyncSession, row: RecordRow, envelope: Envelope) -> None:
    body = Revocation.from_bytes(envelope.payload)
    await _bar_sites(session, body.party)
    who = await session.get(PartnerRow, body.party)
    assert who is not None
    who.delegation = row.hash
    reason = f"{who.name} has revoked its aggregator's key"
    await _stop_runs(session, row, RunRow.aggregator == body.party, reason)


async def _bar_sites(session: AsyncSession, party: str) -> None:
    """Every manifest so far names a key of the party's that no longer holds."""
    await session.execute(update(SiteRow).where(SiteRow.party == party).values(revoked=True))


async def _agreement(session: AsyncSession, row: RecordRow, envelope: Envelope) -> None:
    body = Agreement.from_bytes(envelope.payload)
    session.add(
        AgreementRow(
            hash=row.hash,
            id=body.id,
            version=body.version,
            valid_from=parse_time(body.valid_from),
            valid_until=parse_time(body.valid_until),
        )
    )
    await session.flush()
    session.add_all(
        AgreementPartyRow(agreement=row.hash, party=party.id, withdrawn=False, suspended=False)
        for party in body.parties
    )
    if body.previous is not None:
        await session.execute(
            update(AgreementRow)
            .where(AgreementRow.hash == body.previous)
            .values(superseded_by=row.hash, superseded_from=parse_time(body.valid_from))
        )


async def _withdrawal(session: AsyncSession, row: RecordRow, envelope: Envelope) -> None:
    body = Withdrawal.from_bytes(envelope.payload)
    agreement = await session.get(AgreementRow, body.agreement)
    party = await session.get(AgreementPartyRow, (body.agreement, body.party))
    assert agreement is not None and party is not None
    agreement.withdrawal = agreement.withdrawal or row.hash
    party.withdrawn = True
    session.add(HaltRow(hash=row.hash, agreement=body.agreement))
    await _halt_runs(session, row, body, "withdrew from the agreement")


async def _suspension(session: AsyncSession, row: RecordRow, envelope: Envelope) -> None:
    body = Suspension.from_bytes(envelope.payload)
    party = await session.get(AgreementPartyRow, (body.agreement, body.party))
    assert party is not None
    party.suspended, party.suspension_head = True, row.hash
    session.add(HaltRow(hash=row.hash, agreement=body.agreement))
    await _halt_runs(session, row, body, "suspended the agreement")


async def _resumption(session: AsyncSession, row: RecordRow, envelope: Envelope) -> None:
    body = Resumption.from_bytes(envelope.payload)
    party = await session.get(AgreementPartyRow, (body.agreement, body.party))
    assert party is not None
    party.suspended, party.suspension_head = False, row.hash
    session.add(HaltRow(hash=row.hash, agreement=body.agreement))


async def _halt_runs(
    session: AsyncSession, row: RecordRow, body: Withdrawal | Suspension, did: str
) -> None:
    """Mark the runs that are open now; it stays when a suspension is taken back."""
    who = await session.get(PartnerRow, body.party)
    name = who.name if who else body.party
    await _stop_runs(
        session, row, RunRow.agreement == body.agreement, f"{name} {did}: {body.reason}"
    )


async def _stop_runs(
    session: AsyncSession, row: RecordRow, which: ColumnElement[bool], reason: str
) -> None:
    """Have open runs end: nodes leave them, and the registry closes those that nobody ends."""
    query = select(RunRow).where(which, RunRow.state.in_(OPEN), RunRow.withdrawn.is_(None))
    for run in (await session.execute(query)).scalars():
        run.withdrawn = reason[:4000]
        run.updated = row.received


async def _offer(session: AsyncSession, row: RecordRow, envelope: Envelope) -> None:
    body = Offer.from_bytes(envelope.payload)
    session.add(OfferRow(hash=row.hash, sequence=row.sequence, party=body.party))


async def _manifest(session: AsyncSession, row: RecordRow, envelope: Envelope) -> None:
    body = RunManifest.from_bytes(envelope.payload)
    session.add(
        RunRow(
            id=body.id,
            manifest=row.hash,
            agreement=body.agreement,
            aggregator=body.aggregator.party,
            title=body.title,
            state="awaiting-consent",
            cause="",
            code="",
            round=0,
            rounds=body.rounds,
            initial_model=body.initial_model,
            base=None if body.adaptation is None else body.adaptation.base,
            epsilon=[],
            metrics={},
            head=row.hash,
            timed_from=row.received,
            created=row.received,
            updated=row.received,
        )
    )
    await session.flush()
    session.add_all(
        SiteRow(
            run=body.id, party=site.party, dataset=site.dataset, code="", reason="", revoked=False
        )
        for site in body.roster
    )
    await session.execute(
        update(OfferRow).where(OfferRow.hash == body.aggregator.offer).values(manifest=row.hash)
    )


async def _consent(session: AsyncSession, row: RecordRow, envelope: Envelope) -> None:
    body = Consent.from_bytes(envelope.payload)
    run = await _run_of(session, row)
    site = await session.get(SiteRow, (run.id, body.party))
    assert site is not None
    site.decision, site.code, site.reason, site.head = (
        body.decision,
        body.code,
        body.reason,
        row.hash,
    )
    await session.flush()
    run.updated = run.timed_from = row.received
    if body.decision == "refuse" and run.state == "awaiting-consent":
        run.state, run.code, run.cause = "refused", body.code, body.reason
    query = select(SiteRow.party).where(SiteRow.run == run.id, SiteRow.decision.is_(None))
    if run.state == "awaiting-consent" and not (await session.execute(query)).first():
        run.state = "ready"


async def _node_receipt(session: AsyncSession, row: RecordRow, envelope: Envelope) -> None:
    body = body_of(NodeReceipt, envelope)
    run = await _run_of(session, row)
    site = await session.get(SiteRow, (run.id, body.party))
    assert site is not None
    site.head, run.updated = row.hash, row.received


async def _aggregator_receipt(session: AsyncSession, row: RecordRow, envelope: Envelope) -> None:
    body = body_of(AggregatorReceipt, envelope)
    run = await _run_of(session, row)
    query = (
        select(RoundRow.number)
        .where(RoundRow.run == run.id)
        .order_by(RoundRow.number.desc())
        .limit(1)
    )
    last = (await session.execute(query)).scalar_one_or_none() or 0
    session.add(
        RoundRow(
            run=run.id,
            number=last + 1,
            round=body.round,
            attempt=body.attempt,
            outcome=body.outcome,
            cohort=body.cohort,
            lost=body.lost,
            refused=body.refused,
            model_after=body.model_after,
            started=run.timed_from,
            ended=row.received,
        )
    )
    if body.model_after is not None:
        run.round, run.model = body.round + 1, body.model_after
    took_part = [] if body.outcome == "aborted" else body.cohort
    await _refusals(session, run, body.round, body.refused, took_part)
    run.head, run.updated, run.timed_from = row.hash, row.received, row.received


async def _result(session: AsyncSession, row: RecordRow, envelope: Envelope) -> None:
    body = RunResult.from_bytes(envelope.payload)
    run = await _run_of(session, row)
    run.state, run.cause, run.code, run.model = body.status, body.cause, body.code, body.model
    run.epsilon = [item.model_dump() for item in body.epsilon]
    await _refusals(session, run, body.rounds, body.refused, [])
    run.head = run.result = row.hash
    run.updated = row.received


async def _evaluation(session: AsyncSession, row: RecordRow, envelope: Envelope) -> None:
    body = Evaluation.from_bytes(envelope.payload)
    run = await _run_of(session, row)
    run.metrics, run.updated = dict(sorted(body.metrics.items())), row.received


async def _refusals(
    session: AsyncSession,
    run: RunRow,
    round_: int,
    refused: Mapping[str, str],
    took_part: Collection[str],
) -> None:
    """Note since which round a site has refused; over once it is in a sum again."""
    sites = (await session.execute(select(SiteRow).where(SiteRow.run == run.id))).scalars()
    for site in sites:
        if site.party in refused:
            since = round_ if site.refused_round is None else site.refused_round
            site.refused_round, site.refused_code = since, refused[site.party]
        elif site.party in took_part:
            site.refused_round = site.refused_code = None


async def _run_of(session: AsyncSession, row: RecordRow) -> RunRow:
    assert row.run is not None
    return await run_row(session, row.run)


_BY_KIND: dict[str, _Project] = {
    ENROLMENT: _enrolment,
    DELEGATION: _delegation,
    REVOCATION: _revocation,
    AGREEMENT: _agreement,
    WITHDRAWAL: _withdrawal,
    SUSPENSION: _suspension,
    RESUMPTION: _resumption,
    OFFER: _offer,
    DATASET_ENTRY: datasets.entry,
    DATASET_PROFILE: datasets.profile,
    MANIFEST: _manifest,
    CONSENT: _consent,
    NODE_RECEIPT: _node_receipt,
    AGGREGATOR_RECEIPT: _aggregator_receipt,
    RESULT: _result,
    EVALUATION: _evaluation,
}
