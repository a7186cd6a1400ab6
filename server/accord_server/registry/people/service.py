"""Letting persons in, changing what they may, and shutting them out.

Guarantees: an account begins with a one-time code that its organisation's owner or machine made,
never with a password of somebody else's choice; nobody changes the own role or shuts the own
account; whoever loses a role, a password or the account loses every session and token with it.
"""

from datetime import datetime, timedelta

from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.api.access_schemas import PersonInvitation, PersonRequest, PersonRole
from accord_common.errors import AuthError, ConflictError, PolicyError
from accord_common.fields import format_time, new_id
from accord_common.sentences import Sentence, say
from accord_server.registry.access import lockout
from accord_server.registry.access.credentials import Caller, digest_of, new_secret
from accord_server.registry.access.events import tell
from accord_server.registry.access.tables import (
    OidcStateRow,
    PersonCodeRow,
    PersonRow,
    PersonTokenRow,
    RecoveryCodeRow,
    SessionRow,
)
from accord_server.registry.people import repository

CODE_DAYS = 7
LINK = "{url}/welcome#{code}"  # what is behind # stays in the browser

# Which roles a party's persons may have, by the party's own. An auditor reads what all have: one of
# a data holder's choice would read the others'.
ROLES: dict[str, frozenset[PersonRole]] = {
    "coordinator": frozenset({"owner", "coordinator", "auditor"}),
    "data-holder": frozenset({"owner", "steward"}),
    "aggregator": frozenset({"owner"}),
    "auditor": frozenset({"owner", "auditor"}),
}


async def invite(
    session: AsyncSession, url: str, caller: Caller, request: PersonRequest, moment: datetime
) -> PersonInvitation:
    """Make an account of the caller's organisation, and the code that opens it.

    Raises:
        PolicyError: `wrong-role` where the organisation has no such persons.
        ConflictError: `login-taken`.
    """
    _require_role(caller, request.role)
    if await repository.by_login(session, request.login) is not None:
        raise ConflictError(
            "login-taken", f"{request.login} is taken", hint="An e-mail address is nobody else's."
        )
    row = PersonRow(
        id=new_id(),
        party=caller.party,
        login=request.login,
        name=request.name,
        role=request.role,
        disabled=False,
        password=None,
        password_changed=moment,
        totp=None,
        totp_on=False,
        totp_step=0,
        created=moment,
    )
    session.add(row)
    await session.flush()
    detail = say(Sentence.INVITED_AS, role=request.role)
    await tell(session, "person-invited", moment, person=row, actor=caller.actor, detail=detail)
    return await _code(session, url, row, moment)


async def change_role(
    session: AsyncSession, caller: Caller, person: str, role: PersonRole, moment: datetime
) -> PersonRow:
    """Give a person another role; again is no change."""
    row = await _other(session, caller, person)
    _require_role(caller, role)
    if row.role != role:
        detail = say(Sentence.ROLE_CHANGED, role=row.role, instead=role)
        row.role = role
        await end_all(session, row.id)
        await tell(session, "role-changed", moment, person=row, actor=caller.actor, detail=detail)
    return row


async def disable(
    session: AsyncSession, caller: Caller, person: str, moment: datetime
) -> PersonRow:
    """Shut an account, and everything that it has open; again is no change."""
    row = await _other(session, caller, person)
    if not row.disabled:
        row.disabled = True
        await end_all(session, row.id)
        await tell(session, "person-disabled", moment, person=row, actor=caller.actor)
    return row


async def enable(session: AsyncSession, caller: Caller, person: str, moment: datetime) -> PersonRow:
    """Open an account again; again is no change."""
    row = await _other(session, caller, person)
    if row.disabled:
        row.disabled = False
        await tell(session, "person-enabled", moment, person=row, actor=caller.actor)
    return row


async def reset(
    session: AsyncSession,
    url: str,
    caller: Caller,
    person: str,
    *,
    second_factor: bool,
    moment: datetime,
) -> PersonInvitation:
    """Take the password away, and the second factor if asked; return the code for a new one."""
    row = await _other(session, caller, person)
    row.password, row.password_changed = None, moment
    if second_factor:
        await drop_factor(session, row)
    await end_all(session, row.id)
    detail = say(Sentence.FACTOR_TOO) if second_factor else ""
    await tell(session, "password-reset", moment, person=row, actor=caller.actor, detail=detail)
    return await _code(session, url, row, moment)


async def find_code(session: AsyncSession, code: str, moment: datetime) -> PersonRow:
    """Return whose one-time code it is; AuthError `bad-code`."""
    found = await session.get(PersonCodeRow, digest_of(code))
    row = None if found is None else await session.get(PersonRow, found.person)
    if found is None or row is None or found.expires <= moment or row.disabled:
        raise AuthError(
            "bad-code",
            "the code is unknown, used or expired",
            hint="Ask your organisation's owner for a new one: accord people reset.",
        )
    return row


async def set_password(
    session: AsyncSession, row: PersonRow, kept: str, address: str, moment: datetime
) -> None:
    """Put a new password in force: one-time codes, sessions and waits end; tokens stay."""
    row.password, row.password_changed = kept, moment
    await session.execute(delete(PersonCodeRow).where(PersonCodeRow.person == row.id))
    await session.execute(delete(SessionRow).where(SessionRow.person == row.id))
    await lockout.forget(session, lockout.keys_of(row.login, row, address, None))
    await tell(session, "password-set", moment, person=row, address=address)


async def drop_factor(session: AsyncSession, row: PersonRow) -> None:
    """Take a person's second factor away; its last step stays used."""
    row.totp, row.totp_on = None, False
    await session.execute(delete(RecoveryCodeRow).where(RecoveryCodeRow.person == row.id))


async def end_all(session: AsyncSession, person: str) -> None:
    """End a person's sessions, tokens, one-time codes, and ways to a provider."""
    for table in (SessionRow, PersonTokenRow, PersonCodeRow, OidcStateRow):
        await session.execute(delete(table).where(table.person == person))


async def _other(session: AsyncSession, caller: Caller, person: str) -> PersonRow:
    row = await repository.require(session, person, caller.sees)
    if caller.person is not None and caller.person.id == row.id:
        raise ConflictError(
            "own-account",
            "nobody does this to the own account",
            hint="Ask another owner, or use your organisation's machine: accord people.",
        )
    return row


async def _code(
    session: AsyncSession, url: str, row: PersonRow, moment: datetime
) -> PersonInvitation:
    code, expires = new_secret(), moment + timedelta(days=CODE_DAYS)
    session.add(PersonCodeRow(code=digest_of(code), person=row.id, expires=expires))
    await session.flush()
    return PersonInvitation(
        person=await repository.view(session, row),
        code=code,
        link=LINK.format(url=url, code=code),
        expires=format_time(expires),
    )


def _require_role(caller: Caller, role: PersonRole) -> None:
    if role not in ROLES[caller.role]:
        raise PolicyError(
            "wrong-role",
            f"a {caller.role} has no {role}",
            hint=f"Its people are: {', '.join(sorted(ROLES[caller.role]))}.",
        )
