"""What the registry takes and gives about who is a member, as models; see `schemas`."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from accord_common.agreement import Country, Role
from accord_common.api.schemas import Request, View
from accord_common.api.wire import WireEnvelope
from accord_common.fields import (
    Hash,
    Id,
    Name,
    PublicKey,
    Text,
    Time,
)

Secret = Annotated[str, StringConstraints(min_length=16, max_length=128)]
PartnerStatus = Literal["pending", "approved", "suspended"]

SHUT_OUT = frozenset({"party-suspended", "pending-approval"})
"""Codes of refusals that the coordinator can end: what was refused is kept, and sent again."""


class InvitationRequest(Request):
    """Whom the coordinator invites."""

    role: Role
    name: Name


class Invitation(View):
    """A one-time secret and the text that carries it; shown once, stored only as a hash."""

    code: Secret
    text: str
    expires: Time


class EnrolmentRequest(Request):
    """A party joins: invitation code, its own statement, and its daemon's delegation if any."""

    code: Secret
    enrolment: WireEnvelope
    delegation: WireEnvelope | None = None


class Token(View):
    """The caller's bearer token; shown once, stored only as a hash."""

    token: Secret
    party: Id
    status: PartnerStatus


class Partner(View):
    """An enrolled party; `delegation` is its newest, `last_seen` to about 15 s.

    `software` is the release that its machine says it has; null where it has said nothing.
    `revoked` is the revocation, by hash, where the party has taken its last delegation back.
    """

    id: Id
    name: Name
    role: Role
    identity_key: PublicKey
    jurisdiction: Country
    contact: Name
    status: PartnerStatus
    delegation: WireEnvelope | None
    revoked: Hash | None
    last_seen: Time | None
    software: str | None = None


class TrustRequest(Request):
    """The authorities that the caller trusts, by fingerprint."""

    ca: Annotated[list[Hash], Field(min_length=1, max_length=8)]


class TrustView(View):
    """What a member has said; empty and null where it has said nothing yet."""

    party: Id
    name: Name
    ca: list[Hash]
    told: Time | None


class SuspensionRequest(Request):
    """Why a party is shut out for now; its members can read it."""

    reason: Annotated[Text, Field(min_length=1)]
