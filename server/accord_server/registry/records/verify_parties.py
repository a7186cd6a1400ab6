"""Checks of the records about parties and agreements, before they are appended."""

from sqlalchemy import select

from accord_common.agreement import (
    RESUMPTION,
    SUSPENSION,
    Agreement,
    Resumption,
    Suspension,
    Withdrawal,
)
from accord_common.enrolment import (
    DELEGATION,
    REVOCATION,
    Delegation,
    Offer,
    Revocation,
    verify_delegation,
    verify_offer,
    verify_revocation,
)
from accord_common.errors import ConflictError, PolicyError, VerificationError
from accord_common.identity import flower_public_key
from accord_server.registry.partners.repository import partner_row
from accord_server.registry.records.lookup import load_agreement, load_one
from accord_server.registry.records.posting import Posting
from accord_server.registry.tables import AgreementPartyRow, AgreementRow

_HALTED = frozenset({SUSPENSION, RESUMPTION})  # one chain of a party in an agreement
_DELEGATED = frozenset({DELEGATION, REVOCATION})  # one chain: what holds is its newest record


async def delegation(posting: Posting) -> None:
    """The party's identity key signed it, it replaces the newest one, and brings no key back."""
    body = Delegation.from_bytes(posting.envelope.payload)
    posting.require_signer(body.party)
    partner = await partner_row(posting.session, body.party)
    verify_delegation(posting.envelope, identity_key=partner.identity_key, party=partner.id)
    if body.flower_key is not None:
        flower_public_key(body.flower_key)
    elif partner.role == "data-holder":
        raise VerificationError(
            "no-flower-key", f"the delegation of data holder {partner.name} lacks a Flower key"
        )
    body.check_valid_at(posting.moment)
    await posting.require_head(body.previous, partner.delegation, _DELEGATED, None)
    await _require_live_key(posting, body)


async def _require_live_key(posting: Posting, body: Delegation) -> None:
    """Refuse to bring a key back that was exchanged or revoked: PolicyError `key-revoked`."""
    previous, renews = body.previous, True
    while previous is not None:
        envelope = await load_one(posting.session, previous)
        if envelope.kind == REVOCATION:
            renews, previous = False, Revocation.from_bytes(envelope.payload).previous
            continue
        given = Delegation.from_bytes(envelope.payload)
        renews = renews and given.node_key == body.node_key
        if given.node_key == body.node_key and not renews:
            raise PolicyError(
                "key-revoked",
                f"{body.party} has exchanged or revoked key {body.node_key[:16]} before",
                hint="Make new keys: renew --rotate-key.",
            )
        previous = given.previous


async def revocation(posting: Posting) -> None:
    """The party's identity key takes back its newest delegation."""
    body = Revocation.from_bytes(posting.envelope.payload)
    partner = await partner_row(posting.session, body.party)
    verify_revocation(posting.envelope, identity_key=partner.identity_key, party=partner.id)
    await posting.require_head(body.previous, partner.delegation, _DELEGATED, None)


async def withdrawal(posting: Posting) -> None:
    """A party of a fully signed agreement ends its part in it, once."""
    row = await _party_of(posting, Withdrawal.from_bytes(posting.envelope.payload))
    if row.withdrawn:
        raise ConflictError("already-withdrawn", f"{row.party} has withdrawn before")


async def suspension(posting: Posting) -> None:
    """A party of a fully signed agreement halts it; not twice at once."""
    body = Suspension.from_bytes(posting.envelope.payload)
    row = await _party_of(posting, body)
    if row.suspended:
        raise ConflictError(
            "already-suspended",
            f"{row.party} has suspended the agreement before, and not resumed it",
        )
    await posting.require_head(body.previous, row.suspension_head, _HALTED, None)


async def resumption(posting: Posting) -> None:
    """The party that suspended an agreement takes that back."""
    body = Resumption.from_bytes(posting.envelope.payload)
    row = await _party_of(posting, body)
    if not row.suspended:
        raise ConflictError("not-suspended", f"{row.party} does not suspend the agreement")
    await posting.require_head(body.suspension, row.suspension_head, _HALTED, None)


async def _party_of(
    posting: Posting, body: Withdrawal | Suspension | Resumption
) -> AgreementPartyRow:
    """Who speaks, a party of a fully signed agreement, under its identity key."""
    posting.require_signer(body.party)
    if await posting.session.get(AgreementRow, body.agreement) is None:
        raise VerificationError(
            "missing-predecessor", f"agreement {body.agreement[:16]} is not fully signed here"
        )
    agreement = await load_agreement(posting.session, body.agreement)
    posting.envelope.verify([agreement.party(body.party).identity_key])
    row = await posting.session.get(AgreementPartyRow, (body.agreement, body.party))
    assert row is not None  # every party of a stored agreement has one
    return row


async def offer(posting: Posting) -> None:
    """The aggregator's delegated key signed it, under its newest delegation."""
    body = Offer.from_bytes(posting.envelope.payload)
    posting.require_signer(body.party)
    posting.require_role("aggregator")
    partner = await partner_row(posting.session, body.party)
    if body.delegation != partner.delegation:
        raise VerificationError(
            "stale-delegation", f"delegation {body.delegation[:16]} is not the party's newest"
        )
    given = Delegation.from_bytes((await load_one(posting.session, body.delegation)).payload)
    verify_offer(posting.envelope, given, body.delegation)
    given.check_valid_at(posting.moment)


async def agreement(posting: Posting) -> None:
    """All parties signed; it is a first version, or follows the newest one of its id.

    The terms were compared with the registered partners and datasets when it was proposed.
    """
    body = Agreement.from_bytes(posting.envelope.payload)
    posting.envelope.verify(body.keys)
    await check_version(posting, body)


async def check_version(posting: Posting, body: Agreement) -> None:
    """Refuse a version that does not follow the newest, or follows one that somebody has left.

    Raises:
        ConflictError: `forked-chain`.
        VerificationError: `missing-predecessor`, `wrong-predecessor`.
        PolicyError: `agreement-withdrawn`.
    """
    if body.previous is None:
        query = select(AgreementRow.hash).where(AgreementRow.id == body.id).limit(1)
        if (known := (await posting.session.execute(query)).scalar_one_or_none()) is not None:
            raise ConflictError(
                "forked-chain",
                f"agreement {known[:16]} has the id {body.id}; a new one has its own",
            )
        return
    before = await posting.session.get(AgreementRow, body.previous)
    if before is None:
        raise VerificationError(
            "missing-predecessor", f"agreement {body.previous[:16]} is not fully signed here"
        )
    if (before.id, before.version + 1) != (body.id, body.version):
        raise VerificationError(
            "wrong-predecessor",
            f"version {body.version} of {body.id} cannot follow version {before.version} "
            f"of {before.id}",
        )
    if before.superseded_by is not None:
        raise ConflictError(
            "forked-chain", f"version {before.version} is already replaced by another version"
        )
    if before.withdrawal is not None:
        raise PolicyError(
            "agreement-withdrawn",
            f"a party has withdrawn from version {before.version}; no version follows it",
            hint="Begin a new agreement among those who remain: accord agreement amend writes it.",
        )
