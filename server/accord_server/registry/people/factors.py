"""A person's second factor: setting it up, asking for it, taking it away."""

from datetime import datetime

from fastapi import Request
from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.api.access_schemas import FactorSetup, RecoveryCodes
from accord_common.errors import AuthError, ConflictError, PolicyError
from accord_common.fields import now
from accord_server.registry.access import factor, lockout
from accord_server.registry.access.credentials import COOKIE, DEVICE, Caller, digest_of
from accord_server.registry.access.events import tell
from accord_server.registry.access.tables import PersonRow, RecoveryCodeRow, SessionRow
from accord_server.registry.auth import address_of
from accord_server.registry.context import Registry
from accord_server.registry.people import repository
from accord_server.registry.people.service import drop_factor


async def begin(session: AsyncSession, registry: Registry, caller: Caller) -> FactorSetup:
    """Make a secret; ConflictError `has-second-factor` where one is in force."""
    row = await own_row(session, caller)
    if row.totp_on:
        raise _has()
    secret = factor.new_secret()
    row.totp = factor.seal(secret, row.id, registry.log_key)
    name = registry.settings.url.removeprefix("https://")
    return FactorSetup(
        secret=factor.base32(secret), address=factor.address(secret, row.login, name)
    )


async def finish(
    registry: Registry, caller: Caller, code: str, request: Request
) -> tuple[RecoveryCodes, PersonRow]:
    """Put the secret in force by a code of it; every other session ends.

    Raises:
        ConflictError: `no-second-factor` where none was begun, `has-second-factor`.
        AuthError: `wrong-factor`.
    """
    async with registry.database.read() as session:
        row = await own_row(session, caller)
        if row.totp_on:
            raise _has()
    await check(registry, row, code, request)
    codes = factor.recovery_codes()
    async with registry.database.write() as session:
        row = await own_row(session, caller)
        row.totp_on = True
        await session.execute(delete(RecoveryCodeRow).where(RecoveryCodeRow.person == row.id))
        for made in codes:
            digest = factor.recovery_digest(row.id, made)
            session.add(RecoveryCodeRow(code=digest, person=row.id))
        kept = digest_of(request.cookies.get(COOKIE, ""))
        others = delete(SessionRow).where(SessionRow.person == row.id, SessionRow.hash != kept)
        await session.execute(others)
        await tell(session, "second-factor-on", now(), person=row, address=address_of(request))
    return RecoveryCodes(codes=codes), row


async def drop(registry: Registry, caller: Caller, code: str, request: Request) -> None:
    """Take the second factor away by a code of it.

    Raises:
        ConflictError: `no-second-factor`.
        PolicyError: `second-factor-required` where the role may not do without.
        AuthError: `wrong-factor`.
    """
    async with registry.database.read() as session:
        row = await own_row(session, caller)
    require_in_force(row)
    if row.role in registry.settings.second_factor:
        raise PolicyError(
            "second-factor-required",
            f"here, a person with role {row.role} has a second factor",
            hint="For another device, ask an owner: accord people reset --second-factor.",
        )
    await check(registry, row, code, request)
    async with registry.database.write() as session:
        row = await own_row(session, caller)
        await drop_factor(session, row)
        await tell(session, "second-factor-off", now(), person=row, address=address_of(request))


async def check(registry: Registry, row: PersonRow, code: str, request: Request) -> None:
    """Use up a code of the app, or a recovery code.

    Raises:
        AuthError: `wrong-factor`; a code is right once.
        LimitError: `locked`.
        ConflictError: `no-second-factor`.
    """
    address, moment = address_of(request), now()
    device = lockout.known_device(request.cookies.get(DEVICE), row, registry.log_key)
    keys = lockout.keys_of(row.login, row, address, device)
    async with registry.database.write() as session:
        await lockout.charge(session, keys, moment)
    async with registry.database.write() as session:
        found = await session.get_one(PersonRow, row.id)
        right = await use(session, registry, found, code, address, moment)
        if right:
            await lockout.forget(session, keys)
        else:
            await tell(session, "wrong-factor", moment, person=found, address=address)
    if not right:
        raise wrong()


def require_in_force(row: PersonRow) -> None:
    """Raise ConflictError `no-second-factor` where none was put in force."""
    if not row.totp_on:
        raise _none()


async def own_row(session: AsyncSession, caller: Caller) -> PersonRow:
    """The row of the person who calls."""
    assert caller.person is not None  # the table lets no machine here
    return await repository.require(session, caller.person.id, None)


async def use(
    session: AsyncSession,
    registry: Registry,
    row: PersonRow,
    code: str,
    address: str,
    moment: datetime,
) -> bool:
    """Whether a code is right; it is used up then, in the caller's transaction."""
    if row.totp is None:
        raise _none()
    secret = factor.unseal(row.totp, row.id, registry.log_key)
    step = factor.accepted_step(secret, code, row.totp_step, moment)
    if step is not None:
        row.totp_step = step
        return True
    spare = await session.get(RecoveryCodeRow, factor.recovery_digest(row.id, code))
    if spare is None or not row.totp_on:
        return False
    await session.delete(spare)
    await tell(session, "recovery-code-used", moment, person=row, address=address)
    return True


def wrong() -> AuthError:
    """What is said of a code that is not right."""
    return AuthError(
        "wrong-factor",
        "this is no code of now, or it was used",
        hint="Wait for the next code; check the device's clock; or give a recovery code.",
    )


def _has() -> ConflictError:
    return ConflictError(
        "has-second-factor", "a second factor is in force", hint="Take it away first."
    )


def _none() -> ConflictError:
    return ConflictError(
        "no-second-factor", "there is no second factor", hint="Set one up in your account first."
    )
