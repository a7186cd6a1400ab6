"""Joining: invite, enrol, approve."""

from datetime import datetime, timedelta

import structlog
from sqlalchemy import delete, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.agreement import Role
from accord_common.api.membership import EnrolmentRequest, Invitation, InvitationRequest, Token
from accord_common.api.schemas import Stored
from accord_common.enrolment import (
    DELEGATION,
    REVOCATION,
    Delegation,
    Enrolment,
    Revocation,
    verify_enrolment,
)
from accord_common.envelope import Envelope
from accord_common.errors import AuthError, ConflictError, PolicyError, VerificationError
from accord_common.fields import format_time
from accord_common.joining import InvitationText, format_invitation
from accord_server.registry.access.credentials import TOKEN_PREFIX, digest_of, new_secret
from accord_server.registry.context import Registry
from accord_server.registry.partners.repository import partner_row
from accord_server.registry.records.announce import LEFT_OUT, announce, tell_of_barred
from accord_server.registry.records.append import append, store
from accord_server.registry.records.lookup import find
from accord_server.registry.records.posting import Posting
from accord_server.registry.tables import (
    InvitationRow,
    MemberRow,
    PartnerRow,
    SuspensionRow,
    TokenRow,
)

INVITATION_DAYS = 7
FIRST_NAME = "coordinator"  # shown in the first invitation; the invitee names itself

_audit = structlog.get_logger("accord.audit")


def invite(
    session: AsyncSession,
    url: str,
    ca_fingerprint: str,
    request: InvitationRequest | None,
    inviter: str | None,
    moment: datetime,
) -> Invitation:
    """Make a one-time invitation; without a request, the first coordinator's."""
    code = new_secret()
    role: Role = request.role if request else "coordinator"
    name = request.name if request else None
    expires = moment + timedelta(days=INVITATION_DAYS)
    session.add(
        InvitationRow(
            code=digest_of(code),
            role=role,
            name=name,
            inviter=inviter,
            created=moment,
            expires=expires,
        )
    )
    _audit.info("invited", role=role, name=name, inviter=inviter)
    text = InvitationText(ca=ca_fingerprint, code=code, name=name or FIRST_NAME, role=role, url=url)
    return Invitation(code=code, text=format_invitation(text), expires=format_time(expires))


async def enrol(
    registry: Registry, session: AsyncSession, request: EnrolmentRequest, moment: datetime
) -> Token:
    """Use an invitation up: store the enrolment and the delegation, and give a token.

    A party that lost its token joins again: a new invitation, a newly signed enrolment with the
    same id, name, role and key. Its former tokens end.

    Raises:
        AuthError: `bad-invitation` where the code is unknown, used or expired.
        PolicyError: `wrong-role`, `wrong-name`.
        ConflictError: `already-enrolled`, `record-exists` for an enrolment used before.
        VerificationError: a signature does not hold, or the parts name different parties.
    """
    invitation = await session.get(InvitationRow, digest_of(request.code))
    if invitation is None or invitation.used is not None or invitation.expires < moment:
        raise AuthError(
            "bad-invitation",
            "the invitation is unknown, used or expired",
            hint="Ask the coordinator for a new one.",
        )
    body = verify_enrolment(request.enrolment)
    _check_invited(body, invitation)
    await _check_own(session, body)
    if await find(session, request.enrolment.hash) is not None:
        raise ConflictError("record-exists", "this enrolment was used before; sign a new one")
    await store(Posting(session, registry.runs, request.enrolment, body.party, body.role, moment))
    if request.delegation is not None:
        posting = Posting(session, registry.runs, request.delegation, body.party, body.role, moment)
        await append(posting)
    await end_tokens(session, body.party)
    invitation.used, invitation.party = moment, body.party
    approved = await session.get(MemberRow, body.party) is not None
    if invitation.name is None and not approved:
        session.add(MemberRow(party=body.party, approver=None, approved=moment))
        approved = True
    token = TOKEN_PREFIX + new_secret()
    session.add(TokenRow(hash=digest_of(token), party=body.party, created=moment, last_seen=moment))
    _audit.info("enrolled", party=body.party, name=body.name, role=body.role, approved=approved)
    return Token(token=token, party=body.party, status="approved" if approved else "pending")


async def revoke(
    registry: Registry, session: AsyncSession, envelope: Envelope, moment: datetime
) -> tuple[Stored, set[str]]:
    """Store a revocation and end the party's tokens; returns also the topics to wake.

    Raises:
        VerificationError: the signature does not hold, `wrong-kind`.
        ConflictError: `forked-chain` where it does not take back the newest delegation.
    """
    if envelope.kind != REVOCATION:
        raise VerificationError("wrong-kind", f"a {envelope.kind} is no {REVOCATION}")
    party = await partner_row(session, Revocation.from_bytes(envelope.payload).party)
    posting = Posting(session, registry.runs, envelope, party.id, party.role, moment)
    stored, row = await append(posting)
    if row is None:
        return stored, set()  # tokens of a later enrolment stay
    await end_tokens(session, party.id)
    _audit.info("revoked", party=party.id, name=party.name)
    return stored, await announce(posting, None)


async def exchanges_key(session: AsyncSession, envelope: Envelope) -> bool:
    """Whether a record would put another node key in the place of the one that holds now."""
    if envelope.kind != DELEGATION:
        return False
    body = Delegation.from_bytes(envelope.payload)
    before = None if body.previous is None else await find(session, body.previous)
    if before is None or before.kind != DELEGATION:
        return False
    old = Delegation.from_bytes(Envelope.from_bytes(before.envelope).payload)
    return old.node_key != body.node_key


async def end_tokens(session: AsyncSession, party: str, *, but: str | None = None) -> None:
    """End a party's tokens, but for one, by its hash."""
    query = delete(TokenRow).where(TokenRow.party == party)
    await session.execute(query if but is None else query.where(TokenRow.hash != but))


async def suspend(
    session: AsyncSession, party: str, reason: str, coordinator: str, moment: datetime
) -> set[str]:
    """Shut a party out; again replaces the reason. Returns the topics to wake.

    Raises:
        NotFoundError: `unknown-party`.
        ConflictError: `own-party`.
    """
    row = await partner_row(session, party)
    if party == coordinator:
        raise ConflictError("own-party", "a coordinator cannot suspend itself")
    found = await session.get(SuspensionRow, party)
    if found is None:
        found = SuspensionRow(party=party, coordinator=coordinator, created=moment)
        session.add(found)
    found.reason = reason
    await session.flush()
    _audit.info("suspended", party=party, name=row.name, coordinator=coordinator, reason=reason)
    return await tell_of_barred(session, party, LEFT_OUT, moment)


async def readmit(
    session: AsyncSession, party: str, coordinator: str, moment: datetime
) -> set[str]:
    """End a suspension; without one, nothing changes. Returns the topics to wake.

    Raises:
        NotFoundError: `unknown-party`.
    """
    row = await partner_row(session, party)
    topics = await tell_of_barred(session, party, "was readmitted, after", moment)
    await session.execute(delete(SuspensionRow).where(SuspensionRow.party == party))
    _audit.info("readmitted", party=party, name=row.name, coordinator=coordinator)
    return topics


async def approve(session: AsyncSession, party: str, approver: str, moment: datetime) -> None:
    """Admit a party; again is no change. NotFoundError `unknown-party`."""
    row = await partner_row(session, party)
    if await session.get(MemberRow, party) is None:
        session.add(MemberRow(party=party, approver=approver, approved=moment))
        _audit.info("approved", party=party, name=row.name, approver=approver)


def _check_invited(body: Enrolment, invitation: InvitationRow) -> None:
    if body.role != invitation.role:
        raise PolicyError(
            "wrong-role", f"the invitation is for a {invitation.role}, not for a {body.role}"
        )
    if invitation.name is not None and body.name != invitation.name:
        raise PolicyError(
            "wrong-name",
            f"the invitation is for {invitation.name!r}, not for {body.name!r}",
            hint="Use the name in the invitation, or ask for another one.",
        )


async def _check_own(session: AsyncSession, body: Enrolment) -> None:
    query = select(PartnerRow).where(
        or_(
            PartnerRow.id == body.party,
            PartnerRow.name == body.name,
            PartnerRow.identity_key == body.identity_key,
        )
    )
    own = (body.party, body.name, body.role, body.identity_key)
    for row in (await session.execute(query)).scalars():
        if own == (row.id, row.name, row.role, row.identity_key):
            continue
        raise ConflictError(
            "already-enrolled",
            f"a party with the id, name or key of {body.name!r} is enrolled",
            hint="Choose another name; keys and ids are never used twice.",
        )
