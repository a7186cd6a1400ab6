"""Signing in and out.

Guarantees: whoever is not there, shut out, or has no password is answered as a wrong password is,
after as long; a session's cookie is new with every sign-in, second factor and password, and the
one before ends (no fixation).
"""

import re
from datetime import datetime

from fastapi import Request
from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.api.access_schemas import SignInRequest
from accord_common.errors import AuthError
from accord_common.fields import new_id, now
from accord_server.registry.access import lockout, passwords
from accord_server.registry.access.credentials import COOKIE, DEVICE, Caller, digest_of, new_secret
from accord_server.registry.access.events import tell
from accord_server.registry.access.tables import PersonRow, SessionRow
from accord_server.registry.auth import address_of
from accord_server.registry.context import Registry
from accord_server.registry.people import factors, repository
from accord_server.registry.sessions.principals import LONGEST

_LOGIN = re.compile(r"[a-z0-9][a-z0-9._+@-]*")
_AGENT = 200  # characters of what a browser says of itself that are kept


async def sign_in(
    registry: Registry, body: SignInRequest, request: Request
) -> tuple[PersonRow, str]:
    """Return who signed in, and the cookie of the session.

    Raises:
        AuthError: `wrong-credentials`, `second-factor-required`, `wrong-factor`.
        LimitError: `locked`.
    """
    login = body.login.strip().lower()
    if not _LOGIN.fullmatch(login):
        login = ""  # nobody's, and nothing that a database would not take
    row, keys = await _judged(registry, login, body.password, request)
    moment, address = now(), address_of(request)
    wanting = False
    old, renewal = row.password, None
    if old is not None and passwords.outdated(old):  # slow, so not while others wait to write
        renewal = await passwords.hashed(body.password)
    async with registry.database.write() as session:
        row = await session.get_one(PersonRow, row.id)
        right = True
        if row.totp_on and body.factor is None:
            await lockout.forgive(session, keys)
            wanting = True
        elif row.totp_on and body.factor is not None:
            right = await factors.use(session, registry, row, body.factor, address, moment)
        if right and not wanting:
            await lockout.forget(session, keys)
            if renewal is not None and row.password == old:
                row.password = renewal
            ready = row.totp_on or row.role not in registry.settings.second_factor
            cookie = await renewed(session, row, request, moment, ready=ready)
            await tell(session, "signed-in", moment, person=row, address=address)
        elif not right:
            await tell(session, "wrong-factor", moment, person=row, address=address)
    if wanting:
        raise AuthError(
            "second-factor-required",
            "the password is right; a code of the second factor is wanted too",
            hint="Give the code of your app, or a recovery code.",
        )
    if not right:
        raise factors.wrong()
    return row, cookie


async def require_password(
    registry: Registry, caller: Caller, password: str, request: Request
) -> PersonRow:
    """Return the caller's row if the password is theirs; errors as `sign_in`."""
    assert caller.person is not None  # the table lets no machine here
    row, keys = await _judged(registry, caller.person.login, password, request)
    async with registry.database.write() as session:
        await lockout.forget(session, keys)
    return row


async def second_factor(
    registry: Registry, caller: Caller, code: str, request: Request
) -> tuple[PersonRow, str]:
    """Make a session whole that waits for the second factor; returns its new cookie.

    Raises:
        ConflictError: `no-second-factor` where none is in force: one that was begun counts for
            nothing yet, or whoever has the password alone could pass without anybody noticing.
        AuthError: `wrong-factor`.
        LimitError: `locked`.
    """
    async with registry.database.read() as session:
        row = await factors.own_row(session, caller)
    factors.require_in_force(row)
    await factors.check(registry, row, code, request)
    async with registry.database.write() as session:
        cookie = await renewed(session, row, request, now(), ready=True)
        await tell(session, "signed-in", now(), person=row, address=address_of(request))
    return row, cookie


async def renewed(
    session: AsyncSession, row: PersonRow, request: Request, moment: datetime, *, ready: bool
) -> str:
    """End the session that the request came with, if any, and make one; returns its cookie."""
    await session.execute(delete(SessionRow).where(SessionRow.created <= moment - LONGEST))
    if (present := request.cookies.get(COOKIE)) is not None:
        await session.execute(delete(SessionRow).where(SessionRow.hash == digest_of(present)))
    secret = new_secret()
    session.add(
        SessionRow(
            hash=digest_of(secret),
            id=new_id(),
            person=row.id,
            ready=ready,
            address=address_of(request),
            agent="".join(
                letter if letter.isprintable() else "?"
                for letter in request.headers.get("user-agent", "")[:_AGENT]
            ),
            created=moment,
            seen=moment,
        )
    )
    await session.flush()
    return secret


async def _judged(
    registry: Registry, login: str, password: str, request: Request
) -> tuple[PersonRow, list[str]]:
    """Return whose password it is, and what the try was counted for."""
    moment, address = now(), address_of(request)
    async with registry.database.write() as session:
        row = await repository.by_login(session, login)
        device = lockout.known_device(request.cookies.get(DEVICE), row, registry.log_key)
        keys = lockout.keys_of(login, row, address, device)
        if await lockout.charge(session, keys, moment):
            await tell(session, "sign-in-slowed", moment, person=row, address=address)
    kept = None if row is None or row.disabled else row.password
    if await passwords.verified(kept, password) and row is not None:
        return row, keys
    async with registry.database.write() as session:
        await tell(session, "sign-in-failed", moment, person=row, address=address)
    raise AuthError(
        "wrong-credentials",
        "no account has this login and password",
        hint="Try again; an owner of your organisation helps: accord people reset.",
    )
