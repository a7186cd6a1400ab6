"""Reading and finding persons."""

from collections.abc import Iterable, Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.api.access_schemas import PersonView
from accord_common.errors import NotFoundError
from accord_common.fields import format_time
from accord_server.registry.access.tables import IdentityRow, PersonRow
from accord_server.registry.partners import repository as partners


async def require(session: AsyncSession, person: str, sees: str | None) -> PersonRow:
    """Return a person of a party, with None of any; NotFoundError `unknown-person`."""
    row = await session.get(PersonRow, person)
    if row is None or sees not in {None, row.party}:
        raise NotFoundError("unknown-person", f"there is no person {person} of yours")
    return row


async def by_login(session: AsyncSession, login: str) -> PersonRow | None:
    """Return who has a login."""
    query = select(PersonRow).where(PersonRow.login == login)
    return (await session.execute(query)).scalar_one_or_none()


async def names(session: AsyncSession, ids: Iterable[str]) -> dict[str, str]:
    """Return the names of those persons, by id."""
    query = select(PersonRow.id, PersonRow.name).where(PersonRow.id.in_(set(ids)))
    return {person: name for person, name in (await session.execute(query)).all()}


async def page(
    session: AsyncSession, sees: str | None, after: str | None, limit: int
) -> list[PersonView]:
    """Return persons by id; of one party, or with None of all."""
    query = select(PersonRow).order_by(PersonRow.id).limit(limit)
    if sees is not None:
        query = query.where(PersonRow.party == sees)
    if after is not None:
        query = query.where(PersonRow.id > after)
    return await views(session, list((await session.execute(query)).scalars()))


async def view(session: AsyncSession, row: PersonRow) -> PersonView:
    """Show a person."""
    return (await views(session, [row]))[0]


async def views(session: AsyncSession, rows: Sequence[PersonRow]) -> list[PersonView]:
    """Show persons."""
    names = await partners.names(session, [row.party for row in rows])
    linked_query = select(IdentityRow.person).where(
        IdentityRow.person.in_([row.id for row in rows])
    )
    linked = set((await session.execute(linked_query)).scalars())

    def status(row: PersonRow) -> str:
        if row.disabled:
            return "disabled"
        return "active" if row.password is not None or row.id in linked else "invited"

    return [
        PersonView.model_validate(
            {
                "id": row.id,
                "party": row.party,
                "organisation": names[row.party],
                "login": row.login,
                "name": row.name,
                "role": row.role,
                "status": status(row),
                "second_factor": row.totp_on,
                "provider": row.id in linked,
                "created": format_time(row.created),
            }
        )
        for row in rows
    ]
