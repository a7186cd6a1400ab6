"""From the provider and back: state, nonce and verifier, and whose account it is.

Guarantees: what comes back counts once, in the browser that went, within ten minutes; an account is
linked by the one-time code of an invitation or reset, to issuer and subject, never by a name or an
e-mail address; an account at the provider is one person's.
"""

import hmac
import secrets
from datetime import datetime, timedelta

from fastapi import Request
from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.errors import AuthError, ConflictError, NotFoundError
from accord_common.fields import now
from accord_common.sentences import Sentence, say
from accord_server.registry.access.credentials import digest_of, new_secret
from accord_server.registry.access.events import tell
from accord_server.registry.access.tables import (
    IdentityRow,
    OidcStateRow,
    PersonCodeRow,
    PersonRow,
)
from accord_server.registry.auth import address_of
from accord_server.registry.context import Registry
from accord_server.registry.oidc.provider import Identity, Provider, refused
from accord_server.registry.people.service import find_code
from accord_server.registry.sessions.service import renewed

BROWSER = "__Host-accord-oidc"
LASTS = timedelta(minutes=10)


def provider_of(registry: Registry) -> Provider:
    """The registry's provider; NotFoundError `no-provider`."""
    if registry.provider is None:
        raise NotFoundError(
            "no-provider",
            "this registry has no OpenID provider",
            hint="Sign in with a password; `oidc` in registry.json sets one up.",
        )
    return registry.provider


async def begin(registry: Registry, code: str | None) -> tuple[str, str]:
    """Return the address at the provider, and the cookie of the browser that goes there."""
    provider = provider_of(registry)
    state, browser, moment = new_secret(), new_secret(), now()
    nonce, verifier = secrets.token_hex(32), secrets.token_urlsafe(64)
    address = await provider.address(state, nonce, verifier)
    async with registry.database.write() as session:
        await session.execute(delete(OidcStateRow).where(OidcStateRow.expires <= moment))
        person = None if code is None else (await find_code(session, code, moment)).id
        session.add(
            OidcStateRow(
                state=digest_of(state),
                browser=digest_of(browser),
                nonce=nonce,
                verifier=verifier,
                person=person,
                code=None if code is None else digest_of(code),
                expires=moment + LASTS,
            )
        )
    return address, browser


async def finish(
    registry: Registry, code: str, state: str, browser: str | None, request: Request
) -> tuple[PersonRow, str]:
    """Return who signed in at the provider, and the cookie of the session.

    Raises:
        AuthError: `provider-refused`, `not-linked`, `bad-code`.
        ConflictError: `already-linked` where the account there is another person's.
    """
    provider, moment, address = provider_of(registry), now(), address_of(request)
    async with registry.database.write() as session:
        row = await session.get(OidcStateRow, digest_of(state))
        if row is not None:
            await session.delete(row)  # used, whatever comes of it
    if row is None or row.expires <= moment:
        raise refused("it was not begun here, or too long ago")
    if browser is None or not hmac.compare_digest(row.browser, digest_of(browser)):
        raise refused("it was begun in another browser")
    identity = await provider.identity(code, row.nonce, row.verifier)
    async with registry.database.write() as session:
        if row.person is not None:
            await _link(session, row, identity, address, moment)
        found = await session.get(IdentityRow, (identity.issuer, identity.subject))
        person = None if found is None else await session.get(PersonRow, found.person)
        if person is not None and not person.disabled:
            wanted = person.totp_on or person.role in registry.settings.second_factor
            ready = identity.several or not wanted
            cookie = await renewed(session, person, request, moment, ready=ready)
            await tell(
                session,
                "signed-in",
                moment,
                person=person,
                address=address,
                detail=say(Sentence.BY_PROVIDER),
            )
            return person, cookie
        await tell(session, "sign-in-failed", moment, person=person, address=address)
    raise AuthError(
        "not-linked",
        "this account of the provider is no person's here",
        hint="An owner of your organisation invites you: accord people invite.",
    )


async def _link(
    session: AsyncSession, row: OidcStateRow, identity: Identity, address: str, moment: datetime
) -> None:
    """Make the provider's account the invited person's; the invitation is used up."""
    code = await session.get(PersonCodeRow, row.code)
    person = None if code is None else await session.get(PersonRow, code.person)
    if code is None or person is None or code.expires <= moment or person.disabled:
        raise AuthError("bad-code", "the invitation was used meanwhile, or has expired")
    found = await session.get(IdentityRow, (identity.issuer, identity.subject))
    if found is not None and found.person != person.id:
        raise ConflictError(
            "already-linked",
            "this account of the provider is another person's here",
            hint="Sign in with your own account there, or ask an owner.",
        )
    await session.execute(delete(IdentityRow).where(IdentityRow.person == person.id))
    await session.execute(delete(PersonCodeRow).where(PersonCodeRow.person == person.id))
    session.add(IdentityRow(issuer=identity.issuer, subject=identity.subject, person=person.id))
    await session.flush()
    await tell(session, "provider-linked", moment, person=person, address=address)
