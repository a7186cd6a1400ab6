"""From a session's cookie, or a person's token, to the caller."""

import hmac
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import delete, select, update

from accord_common.agreement import Role
from accord_common.api.access_schemas import PersonRole, Scope
from accord_common.fields import now
from accord_server.registry.access.credentials import Caller, Person, bad_token, digest_of
from accord_server.registry.access.tables import PersonRow, PersonTokenRow, SessionRow
from accord_server.registry.context import Registry
from accord_server.registry.tables import MemberRow, PartnerRow, SuspensionRow

IDLE = timedelta(hours=1)
LONGEST = timedelta(hours=12)  # a working day; then everybody signs in again
SEEN_EVERY = timedelta(seconds=60)
_SIGN_IN = "Sign in again."
_NEW_TOKEN = "Make another one: accord token create."


async def by_session(registry: Registry, cookie: str) -> Caller:
    """Return whom a browser stands for; AuthError `bad-token` once idle, old or ended."""
    digest, moment = digest_of(cookie), now()
    query = _with_party(SessionRow).where(SessionRow.hash == digest)
    async with registry.database.read() as session:
        found = (await session.execute(query)).one_or_none()
    if found is None or not hmac.compare_digest(found[0].hash, digest):
        raise bad_token(_SIGN_IN)
    row = found[0]
    if ends(row.created, row.seen) <= moment:
        async with registry.database.write() as session:
            await session.execute(delete(SessionRow).where(SessionRow.hash == digest))
        raise bad_token(_SIGN_IN)
    if moment - row.seen >= SEEN_EVERY:
        async with registry.database.write() as session:
            await session.execute(
                update(SessionRow).where(SessionRow.hash == digest).values(seen=moment)
            )
    return _caller(found, digest, _SIGN_IN, ready=row.ready, session=row.id)


async def by_token(registry: Registry, token: str) -> Caller:
    """Return whose token it is; AuthError `bad-token` once expired or revoked."""
    digest, moment = digest_of(token), now()
    query = _with_party(PersonTokenRow).where(PersonTokenRow.hash == digest)
    async with registry.database.read() as session:
        found = (await session.execute(query)).one_or_none()
    if found is None or not hmac.compare_digest(found[0].hash, digest):
        raise bad_token(_NEW_TOKEN)
    row = found[0]
    if row.expires <= moment:
        raise bad_token(_NEW_TOKEN)
    if row.last_used is None or moment - row.last_used >= SEEN_EVERY:
        async with registry.database.write() as session:
            await session.execute(
                update(PersonTokenRow).where(PersonTokenRow.hash == digest).values(last_used=moment)
            )
    scopes = cast(tuple[Scope, ...], tuple(row.scopes))
    return _caller(found, digest, _NEW_TOKEN, ready=True, api_token=row.id, scopes=scopes)


def ends(created: datetime, seen: datetime) -> datetime:
    """When a session ends if nothing more is heard of it."""
    return min(seen + IDLE, created + LONGEST)


def _with_party(table: type[SessionRow] | type[PersonTokenRow]) -> Any:
    return (
        select(table, PersonRow, PartnerRow, MemberRow, SuspensionRow.reason)
        .join(PersonRow, PersonRow.id == table.person)
        .join(PartnerRow, PartnerRow.id == PersonRow.party)
        .outerjoin(MemberRow, MemberRow.party == PartnerRow.id)
        .outerjoin(SuspensionRow, SuspensionRow.party == PartnerRow.id)
    )


def _caller(found: Any, digest: str, hint: str, *, ready: bool, **proof: Any) -> Caller:
    _, row, partner, member, suspended = found
    if row.disabled:
        raise bad_token(hint)
    person = Person(row.id, row.login, row.name, cast(PersonRole, row.role), ready, **proof)
    return Caller(
        partner.id,
        f"{row.name} ({partner.name})",
        cast(Role, partner.role),
        member is not None,
        suspended,
        digest,
        person,
    )
