"""Who calls, and what their role allows.

Guarantees: secrets are 256 random bits and stored as SHA-256 only; a route that states no `Allow`
keeps the application from starting (`app.py`), so whatever nobody thought of is denied; a pending
party may only ask about itself.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, cast

from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from fastapi.security.http import HTTPAuthorizationCredentials
from sqlalchemy import select, update

from accord_common.agreement import Role
from accord_common.errors import AuthError, PolicyError
from accord_common.fields import now
from accord_server.registry.context import Registry, registry
from accord_server.registry.tables import MemberRow, PartnerRow, SuspensionRow, TokenRow

TOKEN_PREFIX = "accord_"  # lets scanners for leaked secrets know one
SEEN_EVERY = timedelta(seconds=15)  # a request writes `last_seen` no more often

_bearer = HTTPBearer(auto_error=False, description="Token from `POST /v1/enrolments`.")


@dataclass(frozen=True, slots=True)
class Caller:
    """The party behind a request."""

    party: str
    name: str
    role: Role
    approved: bool
    suspended: str | None
    token: str  # its hash


class Allow:
    """A route's dependency: the roles that may call it (all of them where none is named)."""

    def __init__(self, *roles: Role, pending: bool = False) -> None:
        self.roles = frozenset(roles)
        self.pending = pending

    async def __call__(
        self,
        request: Request,
        registry: Annotated[Registry, Depends(registry)],
        credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    ) -> Caller:
        """Return the caller, or raise AuthError or PolicyError."""
        caller = await identify(registry, credentials.credentials if credentials else "")
        request.state.party = caller.party
        if not self.pending:
            require_member(caller)
        if self.roles and caller.role not in self.roles:
            raise PolicyError(
                "wrong-role", f"a {caller.role} may not; only {', '.join(sorted(self.roles))} may"
            )
        return caller


def require_member(caller: Caller) -> None:
    """Raise PolicyError `party-suspended` or `pending-approval` for who may not take part now."""
    if caller.suspended is not None:
        raise PolicyError(
            "party-suspended",
            f"{caller.name} is suspended: {caller.suspended}",
            hint="Speak to the coordinator, who ends it with `accord partner readmit`.",
        )
    if not caller.approved:
        raise PolicyError(
            "pending-approval",
            f"{caller.name} is not approved yet",
            hint="Ask the coordinator to run `accord partner approve`.",
        )


async def identify(registry: Registry, token: str) -> Caller:
    """Return whom a token stands for; AuthError `no-token` or `bad-token`."""
    if not token:
        raise AuthError(
            "no-token",
            "the request carries no bearer token",
            hint="Enrol with an invitation first.",
        )
    digest = digest_of(token)
    query = (
        select(TokenRow, PartnerRow, MemberRow, SuspensionRow.reason)
        .join(PartnerRow, PartnerRow.id == TokenRow.party)
        .outerjoin(MemberRow, MemberRow.party == TokenRow.party)
        .outerjoin(SuspensionRow, SuspensionRow.party == TokenRow.party)
        .where(TokenRow.hash == digest)
    )
    async with registry.database.read() as session:
        found = (await session.execute(query)).one_or_none()
    if found is None or not hmac.compare_digest(found[0].hash, digest):
        raise AuthError(
            "bad-token",
            "the bearer token is not known, or has ended",
            hint="Enrol again, with a new invitation.",
        )
    row, partner, member, suspended = found
    moment = now()
    if moment - row.last_seen >= SEEN_EVERY:
        async with registry.database.write() as session:
            await session.execute(
                update(TokenRow).where(TokenRow.hash == digest).values(last_seen=moment)
            )
    role = cast(Role, partner.role)
    return Caller(partner.id, partner.name, role, member is not None, suspended, digest)


def new_secret() -> str:
    """Return 256 random bits, URL-safe."""
    return secrets.token_urlsafe(32)


def digest_of(secret: str) -> str:
    """SHA-256 of a secret: enough at rest, since a secret holds 256 random bits."""
    return hashlib.sha256(secret.encode()).hexdigest()
