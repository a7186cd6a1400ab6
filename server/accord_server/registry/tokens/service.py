"""Tokens of persons: made by the person alone, who signed in; never without an end."""

from datetime import datetime, timedelta

from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.api.access_schemas import NewToken, TokenRequest, TokenView
from accord_common.errors import ConflictError, NotFoundError
from accord_common.fields import format_time, new_id
from accord_common.sentences import Sentence, say
from accord_server.registry.access.credentials import (
    PERSON_PREFIX,
    Caller,
    digest_of,
    new_secret,
)
from accord_server.registry.access.events import tell
from accord_server.registry.access.tables import PersonRow, PersonTokenRow

MOST = 50  # of one person


async def make(
    session: AsyncSession, caller: Caller, request: TokenRequest, moment: datetime
) -> NewToken:
    """Make a token of the caller's; ConflictError `too-many-tokens`."""
    assert caller.person is not None  # the table lets no machine here
    person = await session.get_one(PersonRow, caller.person.id)
    query = select(PersonTokenRow).where(PersonTokenRow.person == person.id)
    if len((await session.execute(query)).scalars().all()) >= MOST:
        raise ConflictError(
            "too-many-tokens", f"{MOST} tokens are there", hint="Revoke what is not used."
        )
    secret = PERSON_PREFIX + new_secret()
    row = PersonTokenRow(
        hash=digest_of(secret),
        id=new_id(),
        person=person.id,
        name=request.name,
        scopes=sorted(set(request.scopes)),
        created=moment,
        expires=moment + timedelta(days=request.days),
        last_used=None,
    )
    session.add(row)
    detail = say(Sentence.TOKEN_OF, name=row.name, scopes=", ".join(row.scopes), days=request.days)
    await tell(session, "token-made", moment, person=person, detail=detail)
    return NewToken(token=_view(row, person.login), secret=secret)


async def page(
    session: AsyncSession, caller: Caller, after: str | None, limit: int
) -> list[TokenView]:
    """Return the tokens that the caller looks after, by id."""
    query = _of(caller).order_by(PersonTokenRow.id).limit(limit)
    if after is not None:
        query = query.where(PersonTokenRow.id > after)
    return [_view(row, person.login) for row, person in (await session.execute(query)).all()]


async def revoke(session: AsyncSession, caller: Caller, token: str, moment: datetime) -> None:
    """End a token that the caller looks after; NotFoundError `unknown-token`."""
    query = _of(caller).where(PersonTokenRow.id == token)
    found = (await session.execute(query)).one_or_none()
    if found is None:
        raise NotFoundError("unknown-token", f"there is no token {token} of yours")
    row, person = found
    await session.delete(row)
    await tell(session, "token-revoked", moment, person=person, actor=caller.actor, detail=row.name)


def _of(caller: Caller) -> Select[PersonTokenRow, PersonRow]:
    """A person's own; an owner's and a machine's are the organisation's."""
    query = select(PersonTokenRow, PersonRow).join(PersonRow, PersonRow.id == PersonTokenRow.person)
    if caller.sees is None:
        return query
    if caller.person is not None and caller.person.role != "owner":
        return query.where(PersonRow.id == caller.person.id)
    return query.where(PersonRow.party == caller.party)


def _view(row: PersonTokenRow, login: str) -> TokenView:
    return TokenView.model_validate(
        {
            "id": row.id,
            "person": row.person,
            "login": login,
            "name": row.name,
            "scopes": row.scopes,
            "created": format_time(row.created),
            "expires": format_time(row.expires),
            "last_used": None if row.last_used is None else format_time(row.last_used),
        }
    )
