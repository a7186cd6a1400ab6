"""How a party joins a registry: an invitation, a pinned CA, its own keys.

Guarantees: nothing secret is sent before the registry's CA certificate matched the fingerprint in
the invitation; the identity key never leaves the folder; the enrolment proves possession of it.

Not covered: how the invitation reached the invitee. Whoever reads it first can use it once, which
the coordinator sees before approving.
"""

import base64
import binascii
from typing import Annotated

from pydantic import StringConstraints

from accord_common.agreement import Role
from accord_common.api.client import RegistryClient
from accord_common.api.http import fetch_ca
from accord_common.canonical import canonical_bytes
from accord_common.delegating import check_not_revoked
from accord_common.enrolment import ENROLMENT, Enrolment
from accord_common.envelope import sign
from accord_common.errors import FormatError, PolicyError
from accord_common.fields import Hash, Name, Record, format_time, now
from accord_common.home import Home

PREFIX = "accord-invite:"


class InvitationText(Record):
    """What an invitation string carries."""

    ca: Hash
    code: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{20,100}$")]
    name: Name
    role: Role
    url: Annotated[str, StringConstraints(pattern=r"^https://[^/?#]+$", max_length=300)]


def format_invitation(invitation: InvitationText) -> str:
    """Write an invitation as one line that survives mail and terminals."""
    data = canonical_bytes(invitation.to_json())
    return PREFIX + base64.urlsafe_b64encode(data).decode().rstrip("=")


def parse_invitation(text: str) -> InvitationText:
    """Read an invitation; `bad-invitation` where it is none."""
    body = text.strip().removeprefix(PREFIX)
    try:
        data = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
        return InvitationText.from_bytes(data, max_bytes=4096)
    except (binascii.Error, ValueError, FormatError) as error:
        raise FormatError(
            "bad-invitation",
            "the text is no invitation, or part of it is missing",
            hint=f"Copy the whole line that starts with {PREFIX}",
        ) from error


def enrol(home: Home, invitation: str, passphrase: str) -> Home:
    """Join the registry that the invitation names.

    Raises:
        PolicyError: `wrong-role` where the invitation is for another role than the folder's,
            `key-revoked` where the folder's keys are revoked and not exchanged yet.
        TransportError: `registry-unreachable`.
        VerificationError: `wrong-ca` where the fingerprint differs.
        UsageError: `wrong-passphrase`.
    """
    told = parse_invitation(invitation)
    profile = home.profile
    if told.role != profile.role:
        raise PolicyError(
            "wrong-role", f"the invitation is for a {told.role}, this folder is a {profile.role}"
        )
    check_not_revoked(home)
    identity = home.identity(passphrase)
    network = home.network()
    ca_pem = fetch_ca(told.url, told.ca, network, now())
    enrolment = Enrolment(
        party=profile.party,
        name=profile.name,
        role=profile.role,
        identity_key=profile.identity_key,
        jurisdiction=profile.jurisdiction,
        contact=profile.contact,
        created=format_time(now()),
    )
    with RegistryClient(told.url, ca_pem=ca_pem, token=None, network=network) as client:
        token = client.enrol(told.code, sign(ENROLMENT, enrolment, identity), home.delegation())
    return home.joined(told.url, ca_pem, token.token)
