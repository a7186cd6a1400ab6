"""Reading agreements: proposals that lack signatures, and records."""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.agreement import AGREEMENT, WITHDRAWAL, Agreement, Suspension, Withdrawal
from accord_common.api.schemas import AgreementStatus, AgreementView, Halt
from accord_common.envelope import Envelope
from accord_common.errors import NotFoundError
from accord_server.registry.agreements.status import status_of, suspended_of
from accord_server.registry.records.lookup import load
from accord_server.registry.tables import (
    AgreementPartyRow,
    AgreementRow,
    ProposalPartyRow,
    ProposalRow,
    RecordRow,
)


async def find_proposal(session: AsyncSession, agreement_hash: str) -> ProposalRow | None:
    """Return an agreement that lacks signatures."""
    return await session.get(ProposalRow, agreement_hash)


async def page(
    session: AsyncSession, party: str | None, after: str | None, limit: int, moment: datetime
) -> list[AgreementView]:
    """Return the agreements that name `party`, with None all of them, by hash."""
    signed = select(AgreementPartyRow.agreement)
    open_ = select(ProposalPartyRow.proposal)
    if party is not None:
        signed = signed.where(AgreementPartyRow.party == party)
        open_ = open_.where(ProposalPartyRow.party == party)
    both = signed.union(open_).subquery()
    query = select(both.c[0]).order_by(both.c[0]).limit(limit)
    if after is not None:
        query = query.where(both.c[0] > after)
    hashes = list((await session.execute(query)).scalars())
    return await several(session, hashes, moment)


async def newest(
    session: AsyncSession, party: str | None, before: int | None, limit: int, moment: datetime
) -> list[tuple[int, AgreementView]]:
    """Return fully signed agreements that name `party`, newest first, each with its place."""
    query = select(RecordRow.sequence, RecordRow.hash).where(RecordRow.kind == AGREEMENT)
    if party is not None:
        own = select(AgreementPartyRow.agreement).where(AgreementPartyRow.party == party)
        query = query.where(RecordRow.hash.in_(own))
    if before is not None:
        query = query.where(RecordRow.sequence < before)
    found = await session.execute(query.order_by(RecordRow.sequence.desc()).limit(limit))
    places = {name: place for place, name in found.all()}
    return [(places[view.hash], view) for view in await several(session, list(places), moment)]


async def proposals(
    session: AsyncSession, party: str | None, limit: int, moment: datetime
) -> list[AgreementView]:
    """Return agreements that lack signatures and name `party`, newest first."""
    query = select(ProposalRow.hash).order_by(ProposalRow.created.desc()).limit(limit)
    if party is not None:
        own = select(ProposalPartyRow.proposal).where(ProposalPartyRow.party == party)
        query = query.where(ProposalRow.hash.in_(own))
    return await several(session, list((await session.execute(query)).scalars()), moment)


async def one(
    session: AsyncSession, party: str | None, agreement_hash: str, moment: datetime
) -> AgreementView:
    """Return one agreement; NotFoundError `unknown-agreement` where it does not name `party`."""
    found = await several(session, [agreement_hash], moment)
    if not found or party not in {None, *(item.id for item in found[0].agreement.parties)}:
        raise NotFoundError(
            "unknown-agreement", f"there is no agreement {agreement_hash[:16]} of yours"
        )
    return found[0]


async def to_sign(session: AsyncSession, party: str) -> list[str]:
    """Return the agreements that lack `party`'s signature."""
    query = select(ProposalPartyRow.proposal).where(
        ProposalPartyRow.party == party, ProposalPartyRow.signed.is_(False)
    )
    return sorted((await session.execute(query)).scalars())


async def several(
    session: AsyncSession, hashes: list[str], moment: datetime
) -> list[AgreementView]:
    """Return the agreements of these hashes, whoever asks."""
    rows = {
        row.hash: row
        for row in (
            await session.execute(select(AgreementRow).where(AgreementRow.hash.in_(hashes)))
        ).scalars()
    }
    envelopes = await load(session, rows)
    suspended = await suspended_of(session, rows)
    states: dict[str, AgreementStatus] = {
        name: status_of(row, moment, suspended=name in suspended) for name, row in rows.items()
    }
    halts = await _halts(session, rows)
    proposals = select(ProposalRow).where(ProposalRow.hash.in_(hashes))
    for proposal in (await session.execute(proposals)).scalars():
        envelopes[proposal.hash] = Envelope.from_bytes(proposal.envelope)
        states[proposal.hash] = "proposed"
    return [
        _view(envelopes[name], states[name], halts.get(name, []))
        for name in hashes
        if name in envelopes
    ]


async def _halts(session: AsyncSession, rows: Mapping[str, AgreementRow]) -> dict[str, list[Halt]]:
    """Who withdrew from, or suspends, each agreement: the records that say so."""
    query = select(AgreementPartyRow).where(
        AgreementPartyRow.agreement.in_(rows), AgreementPartyRow.suspended.is_(True)
    )
    named = [row.suspension_head for row in (await session.execute(query)).scalars()]
    named += [row.withdrawal for row in rows.values()]
    found: dict[str, list[Halt]] = {}
    for hash_, envelope in (await load(session, filter(None, named))).items():
        kind: type[Withdrawal | Suspension]
        kind = Withdrawal if envelope.kind == WITHDRAWAL else Suspension
        body = kind.from_bytes(envelope.payload)
        found.setdefault(body.agreement, []).append(
            Halt(
                record=hash_,
                kind="withdrawal" if kind is Withdrawal else "suspension",
                party=body.party,
                reason=body.reason,
                created=body.created,
            )
        )
    return {name: sorted(halts, key=lambda halt: halt.record) for name, halts in found.items()}


def _view(envelope: Envelope, status: AgreementStatus, halts: list[Halt]) -> AgreementView:
    agreement = Agreement.from_bytes(envelope.payload)
    signed = [party.id for party in agreement.parties if party.identity_key in envelope.signers]
    return AgreementView(
        hash=envelope.hash,
        agreement=agreement,
        envelope=envelope,
        status=status,
        signed=signed,
        missing=[party.id for party in agreement.parties if party.id not in signed],
        halts=halts,
    )
