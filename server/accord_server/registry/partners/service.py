"""Joining: invite, enrol, approve."""

from datetime import datetime, timedelta

import structlog
from sqlalchemy import delete, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.agreement import Role
from accord_common.api.schemas import EnrolmentRequest, Invitation, InvitationRequest, Token
from accord_common.enrolment import Enrolment, verify_enrolment
from accord_common.errors import AuthError, ConflictError, PolicyError
from accord_common.fields import format_time
from accord_common.joining import InvitationText, format_invitation
from accord_server.registry.auth import TOKEN_PREFIX, digest_of, new_secret
from accord_server.registry.context import Registry
from accord_server.registry.partners.repository import partner_row
from accord_server.registry.records.append import append, store
from accord_server.registry.records.lookup import find
from accord_server.registry.records.posting import Posting
from accord_server.registry.tables import InvitationRow, MemberRow, PartnerRow, TokenRow

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
    await session.execute(delete(TokenRow).where(TokenRow.party == body.party))
    invitation.used, invitation.party = moment, body.party
    approved = await session.get(MemberRow, body.party) is not None
    if invitation.name is None and not approved:
        session.add(MemberRow(party=body.party, approver=None, approved=moment))
        approved = True
    token = TOKEN_PREFIX + new_secret()
    session.add(TokenRow(hash=digest_of(token), party=body.party, created=moment, last_seen=moment))
    _audit.info("enrolled", party=body.party, name=body.name, role=body.role, approved=approved)
    return Token(token=token, party=body.party, status="approved" if approved else "pending")


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
