"""Who calls, and what `access/decisions.py` lets them.

Guarantees: secrets are 256 random bits and stored as SHA-256 only; a route without a row in the
table keeps the application from starting (`app.py`), so whatever nobody thought of is denied. A
cookie changes something only together with the session's CSRF token, from the registry's own
address; a bearer token in the same request makes the cookie nothing.
"""

import hmac
import re
from dataclasses import replace
from datetime import timedelta
from typing import Annotated, cast
from urllib.parse import urlsplit

from fastapi import Depends, Request
from fastapi.security import APIKeyCookie, HTTPBearer
from fastapi.security.http import HTTPAuthorizationCredentials
from sqlalchemy import bindparam, select, update

from accord_common.agreement import Role
from accord_common.api.http import PRODUCT
from accord_common.errors import AuthError, PolicyError
from accord_common.fields import now
from accord_server.registry.access.credentials import (
    COOKIE,
    CSRF_HEADER,
    PERSON_PREFIX,
    bad_token,
    csrf_of,
    digest_of,
)
from accord_server.registry.access.credentials import Caller as Caller  # routes take both from here
from accord_server.registry.access.decisions import DECISIONS, Row
from accord_server.registry.access.rates import network_of
from accord_server.registry.context import Registry, registry
from accord_server.registry.sessions.principals import by_session, by_token
from accord_server.registry.tables import MemberRow, PartnerRow, SuspensionRow, TokenRow

SEEN_EVERY = timedelta(seconds=15)  # a request writes `last_seen` no more often
_PARTY = (
    select(
        TokenRow.hash,
        TokenRow.last_seen,
        TokenRow.software,
        PartnerRow.id,
        PartnerRow.name,
        PartnerRow.role,
        MemberRow.party,
        SuspensionRow.reason,
    )
    .join(PartnerRow, PartnerRow.id == TokenRow.party)
    .outerjoin(MemberRow, MemberRow.party == TokenRow.party)
    .outerjoin(SuspensionRow, SuspensionRow.party == TokenRow.party)
    .where(TokenRow.hash == bindparam("digest"))
)
_RELEASE = re.compile(rf"{PRODUCT}/([0-9A-Za-z.+\-]{{1,40}})")
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

_bearer = HTTPBearer(
    auto_error=False, description="Token from `POST /v1/enrolments`, or a person's own."
)
_cookie = APIKeyCookie(
    name=COOKIE, auto_error=False, description="From `POST /v1/sessions`; with `X-CSRF-Token`."
)


class Allow:
    """A route's dependency: who calls, if the route's row in the table lets them."""

    async def __call__(
        self,
        request: Request,
        registry: Annotated[Registry, Depends(registry)],
        credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
        cookie: Annotated[str | None, Depends(_cookie)],
    ) -> Caller:
        """Return the caller, or raise AuthError, PolicyError or LimitError."""
        try:
            if credentials is None and cookie is not None:
                caller = await _by_cookie(registry, cookie, request)
            else:
                token = credentials.credentials if credentials else ""
                caller = await identify(registry, token, request.headers.get("user-agent", ""))
        except AuthError:
            registry.strangers.take(network_of(address_of(request)))
            raise
        registry.callers.take(caller.token)
        request.state.party = caller.party
        request.state.person = None if caller.person is None else caller.person.id
        row = DECISIONS[request.method, request.scope["route"].path]
        return decide(caller, row)


def decide(caller: Caller, row: Row) -> Caller:
    """Return the caller with what it may reach; PolicyError says why it may not."""
    cells = {row.cells[column] for column in caller.columns}
    if "-" in cells:
        raise _refusal(caller, row)
    scopes = None if caller.person is None else caller.person.scopes
    if scopes is not None and row.scope not in scopes:
        wanted = f"scope {row.scope!r}" if row.scope else "a session: no token may"
        raise PolicyError(
            "wrong-scope",
            f"the token has {', '.join(scopes)}; this takes {wanted}",
            hint="Make a token with that scope: accord token create."
            if row.scope
            else "Sign in with the browser.",
        )
    return replace(caller, everything=cells == {"all"})


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


async def anyone(request: Request, registry: Annotated[Registry, Depends(registry)]) -> None:
    """Bound how often one address may try at a public door (a dependency)."""
    registry.strangers.take(network_of(address_of(request)))


async def identify(registry: Registry, token: str, agent: str) -> Caller:
    """Return whom a token stands for; AuthError `no-token` or `bad-token`.

    Args:
        registry: this one.
        token: as it was sent.
        agent: what the caller's program says that it is; a party's release is kept for people.
    """
    if not token:
        raise AuthError(
            "no-token",
            "the request carries no bearer token, and no session's cookie",
            hint="Enrol with an invitation first, or sign in.",
        )
    if token.startswith(PERSON_PREFIX):
        return await by_token(registry, token)
    digest = digest_of(token)
    found = await registry.database.glance(_PARTY, {"digest": digest})
    if found is None or not hmac.compare_digest(found[0], digest):
        raise bad_token("Enrol again, with a new invitation.")
    _, last_seen, software, party, name, role, member, suspended = found
    moment = now()
    told = _RELEASE.fullmatch(agent)
    release = told[1] if told else software
    if moment - last_seen >= SEEN_EVERY or release != software:
        values = {"last_seen": moment, "software": release}
        async with registry.database.write() as session:
            await session.execute(update(TokenRow).where(TokenRow.hash == digest).values(**values))
    return Caller(party, name, cast(Role, role), member is not None, suspended, digest)


def require_own_origin(request: Request, url: str, *, always: bool = True) -> None:
    """Refuse what another site's page had the browser send: PolicyError `wrong-origin`.

    Args:
        request: the request.
        url: the registry's address.
        always: whether a request that names no origin is refused too; browsers always do.
    """
    origin = request.headers.get("origin")
    if origin is None and not always:
        return
    if origin is None or _place(origin) != _place(url):
        raise PolicyError(
            "wrong-origin",
            "a request with a cookie comes from the registry's own pages alone",
            hint=f"Open {url}; programs use a token.",
        )


def address_of(request: Request) -> str:
    """Where a request comes from: the peer of the connection, whatever its headers say."""
    return request.client.host[:64] if request.client else ""


async def _by_cookie(registry: Registry, cookie: str, request: Request) -> Caller:
    caller = await by_session(registry, cookie)
    if request.method not in _SAFE:
        require_own_origin(request, registry.settings.url)
        if not hmac.compare_digest(
            request.headers.get(CSRF_HEADER, "").encode(), csrf_of(cookie).encode()
        ):
            raise PolicyError(
                "wrong-csrf-token",
                f"{CSRF_HEADER} is missing, or is another session's",
                hint="Take it from GET /v1/me, and sign in again where that fails.",
            )
    return caller


def _refusal(caller: Caller, row: Row) -> PolicyError:
    require_member(caller)
    if caller.person is not None and not caller.person.ready:
        return PolicyError(
            "second-factor-required",
            "nothing else is allowed before the second factor",
            hint="Set it up, or give a code of it.",
        )
    may = ", ".join(name for name, cell in row.cells.items() if cell != "-")
    who = caller.role if caller.person is None else f"person with role {caller.person.role}"
    return PolicyError("wrong-role", f"a {who} may not; only {may} may")


def _place(url: str) -> tuple[str, str | None, int | None]:
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname, parts.port or {"https": 443}.get(parts.scheme)
    except ValueError:
        return "", None, None
