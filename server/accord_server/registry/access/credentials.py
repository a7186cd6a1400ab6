"""What a request proves itself with, and whom it then stands for."""

import hashlib
import secrets
from dataclasses import dataclass

from accord_common.agreement import Role
from accord_common.api.access_schemas import PersonRole, Scope
from accord_common.errors import AuthError
from accord_server.registry.access.decisions import HALF, PENDING, column_of

TOKEN_PREFIX = "accord_"  # lets scanners for leaked secrets know one
PERSON_PREFIX = TOKEN_PREFIX + "person_"  # of a person's token
COOKIE = "__Host-accord"  # RFC 6265bis, 4.1.3.2: Secure, of this host alone, for all of it
DEVICE = "__Host-accord-device"  # of a browser that has signed in; see `lockout`
CSRF_HEADER = "X-CSRF-Token"


@dataclass(frozen=True, slots=True)
class Person:
    """The person behind a request; `session` or `api_token` is the id of what it came with."""

    id: str
    login: str
    name: str
    role: PersonRole
    ready: bool  # no second factor is wanting
    session: str | None = None
    api_token: str | None = None
    scopes: tuple[Scope, ...] | None = None  # None: everything that the role may


@dataclass(frozen=True, slots=True)
class Caller:
    """The party behind a request, and the person where it is one's.

    `role` is the party's; `everything` is set where the table lets reach what is not its own.
    """

    party: str
    name: str
    role: Role
    approved: bool
    suspended: str | None
    token: str  # its hash
    person: Person | None = None
    everything: bool = False

    @property
    def sees(self) -> str | None:
        """The party whose things the caller may reach; None is everybody's."""
        return None if self.everything else self.party

    @property
    def actor(self) -> str:
        """Who did it, for lines about it."""
        return self.party if self.person is None else self.person.id

    @property
    def columns(self) -> list[str]:
        """The caller's columns of the table; the least of their cells holds."""
        found = [column_of(self.role, None if self.person is None else self.person.role)]
        if self.suspended is not None or not self.approved:
            found.append(PENDING)
        if self.person is not None and not self.person.ready:
            found[0] = HALF
        return found


def bad_token(hint: str) -> AuthError:
    """What is said of a credential that stands for nobody."""
    return AuthError("bad-token", "the token or session is not known, or has ended", hint=hint)


def csrf_of(cookie: str) -> str:
    """A session's CSRF token: from the cookie, which it does not reveal; nothing is stored."""
    return digest_of(f"csrf:{cookie}")


def new_secret() -> str:
    """Return 256 random bits, URL-safe."""
    return secrets.token_urlsafe(32)


def digest_of(secret: str) -> str:
    """SHA-256 of a secret: enough at rest, since a secret holds 256 random bits."""
    return hashlib.sha256(secret.encode()).hexdigest()
