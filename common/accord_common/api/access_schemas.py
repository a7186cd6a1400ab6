"""What the registry takes and gives about persons: accounts, sessions, tokens; see `schemas`.

Guarantees: no answer holds a secret but the one that made it, once.
"""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from accord_common.agreement import Role
from accord_common.api.membership import Secret
from accord_common.api.schemas import Request, View
from accord_common.fields import Id, Name, Positive, Slug, Text, Time

PersonRole = Literal["owner", "coordinator", "steward", "auditor"]
Scope = Literal["read", "audit", "runs", "partners", "people"]
PersonStatus = Literal["invited", "active", "disabled"]
MOST_TOKEN_DAYS = 366
MIN_PASSWORD, MAX_PASSWORD = 12, 128

# Lower case, so that nobody signs in as Ada beside ada; an e-mail address is one.
Login = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._+@-]*$", min_length=3, max_length=100)
]
# Bounded here, judged in `registry.access.passwords`, which says what is wrong with it.
Password = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
Factor = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z -]{6,40}$")]


class PersonRequest(Request):
    """Whom an organisation lets speak for it."""

    login: Login
    name: Name
    role: PersonRole


class PersonView(View):
    """A person; `second_factor` says whether signing in takes one."""

    id: Id
    party: Id
    organisation: Name
    login: Login
    name: Name
    role: PersonRole
    status: PersonStatus
    second_factor: bool
    provider: Annotated[bool, Field(description="an OpenID provider's account is linked")]
    created: Time


class PersonInvitation(View):
    """A one-time code, in a link whose fragment no server is sent; shown once."""

    person: PersonView
    code: Secret
    link: str
    expires: Time


class RoleRequest(Request):
    """A person's new role."""

    role: PersonRole


class ResetRequest(Request):
    """What a reset takes away besides the password."""

    second_factor: bool = False


class PasswordRequest(Request):
    """A password, by the one-time code of an invitation or a reset."""

    code: Secret
    password: Password


class PasswordChange(Request):
    """A new password, by the present one."""

    present: Password
    password: Password


class SignInRequest(Request):
    """A login, its password, and the second factor: a code of the app, or a recovery code."""

    login: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    password: Password
    factor: Factor | None = None


class FactorRequest(Request):
    """A code of the app, or a recovery code."""

    factor: Factor


class FactorSetup(View):
    """The second factor's secret, for an app; shown once, in force once a code of it came."""

    secret: str
    address: Annotated[str, Field(description="otpauth:// address, what a QR code holds")]


class RecoveryCodes(View):
    """Each signs in once in the app's place; shown once."""

    codes: list[str]


class Me(View):
    """Who calls: a party's machine, or a person of it.

    `csrf` goes into `X-CSRF-Token` of every call that changes something, where a cookie signs in.
    `needs` is `second-factor` while only that can be set up or given.
    """

    party: Id
    organisation: Name
    party_role: Role
    person: PersonView | None
    session: Id | None
    scopes: list[Scope] | None
    csrf: str | None
    needs: Literal["second-factor"] | None


class SessionView(View):
    """One browser that is signed in."""

    id: Id
    address: str
    agent: str
    created: Time
    seen: Time
    expires: Time
    current: bool


class TokenRequest(Request):
    """A token to be made for the caller."""

    name: Name
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=5)]
    days: Annotated[int, Field(ge=1, le=MOST_TOKEN_DAYS)]


class TokenView(View):
    """A person's token, without its secret."""

    id: Id
    person: Id
    login: Login
    name: Name
    scopes: list[Scope]
    created: Time
    expires: Time
    last_used: Time | None


class NewToken(View):
    """A token as it was made; the secret is shown once."""

    token: TokenView
    secret: Secret


class AccessEvent(View):
    """Something that concerns who gets in; `actor` did it to `person`."""

    sequence: Positive
    kind: Slug
    party: Id | None
    person: Id | None
    actor: Id | None
    address: str
    detail: Text
    created: Time


class OidcLogin(View):
    """Where a browser goes to sign in with its institution's provider."""

    url: str


class OidcRequest(Request):
    """Begin at the provider; `code` of an invitation links the account there to the person."""

    code: Secret | None = None


class OidcInfo(View):
    """Whether there is a provider, and its name for people."""

    name: Name | None
