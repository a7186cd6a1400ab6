"""Collecting signatures until an agreement is a record."""

from collections.abc import Iterable

from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.agreement import AGREEMENT, Agreement
from accord_common.envelope import Envelope, join
from accord_common.errors import PolicyError, VerificationError
from accord_common.identity import SigningKey
from accord_server.registry.agreements.repository import find_proposal
from accord_server.registry.records.append import append
from accord_server.registry.records.lookup import find
from accord_server.registry.records.posting import Posting
from accord_server.registry.records.verify_parties import check_version
from accord_server.registry.tables import (
    DatasetRow,
    MemberRow,
    PartnerRow,
    ProposalPartyRow,
    ProposalRow,
)


async def sign(posting: Posting, log_key: SigningKey) -> bool:
    """Add signatures to an agreement; with the last one it becomes a record and so active.

    Returns:
        Whether it is a proposal that nobody knew before.

    Raises:
        PolicyError: `not-a-party` where the caller is none.
        VerificationError: a signature is unknown or wrong, or the terms differ from what the
            registry knows: `wrong-log-key`, `unknown-party`, `unknown-dataset`.
        ConflictError: `forked-chain` where another version follows the same one.
    """
    envelope, session = posting.envelope, posting.session
    if envelope.kind != AGREEMENT:
        raise VerificationError("wrong-kind", f"a {envelope.kind} is no {AGREEMENT}")
    agreement = Agreement.from_bytes(envelope.payload)
    if posting.party not in {party.id for party in agreement.parties}:
        raise PolicyError("not-a-party", "the caller is no party of this agreement")
    envelope.verify(envelope.signers & agreement.keys or agreement.keys)
    if await find(session, envelope.hash) is not None:
        return False
    proposal = await find_proposal(session, envelope.hash)
    unknown = proposal is None
    if proposal is None:
        await _check_terms(session, agreement, log_key)
        await check_version(posting, agreement)
        proposal = ProposalRow(
            hash=envelope.hash, envelope=envelope.to_bytes(), created=posting.moment
        )
        session.add(proposal)
        await session.flush()
    joined = join([Envelope.from_bytes(proposal.envelope), envelope])
    if joined.signers == agreement.keys:
        await session.delete(proposal)
        await session.flush()
        await append(
            Posting(session, posting.runs, joined, posting.party, posting.role, posting.moment)
        )
        return False
    proposal.envelope = joined.to_bytes()
    for party in agreement.parties:
        signed = party.identity_key in joined.signers
        await session.merge(ProposalPartyRow(proposal=proposal.hash, party=party.id, signed=signed))
    return unknown


async def _check_terms(session: AsyncSession, agreement: Agreement, log_key: SigningKey) -> None:
    if agreement.log_key != log_key.public:
        raise VerificationError(
            "wrong-log-key",
            "the agreement names another registry's log key",
            hint="`accord agreement draft` takes it from the registry.",
        )
    for party in agreement.parties:
        row = await session.get(PartnerRow, party.id)
        known = row is not None and await session.get(MemberRow, party.id) is not None
        told = (party.name, party.role, party.identity_key)
        if row is None or not known or told != (row.name, row.role, row.identity_key):
            raise VerificationError(
                "unknown-party",
                f"{party.name!r} is not enrolled and approved with this id, role and key",
                hint="Compare `accord partner list`.",
            )
    for dataset in agreement.datasets:
        found = await session.get(DatasetRow, dataset.id)
        fields = ("owner", "population", "schema_hash", "size", "unit")
        if found is None or _values(found, fields) != _values(dataset, fields):
            raise VerificationError(
                "unknown-dataset",
                f"dataset {dataset.name!r} is not registered by its owner with these terms",
            )


def _values(source: object, fields: Iterable[str]) -> list[object]:
    return [getattr(source, field) for field in fields]
