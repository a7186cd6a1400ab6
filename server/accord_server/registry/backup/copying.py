"""Rows from one database into another, whatever the two are."""

from sqlalchemy import delete, func, insert, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from accord_server.registry.access.tables import AttemptRow, OidcStateRow, SessionRow
from accord_server.registry.tables import Base, EventRow, ReleaseRow

# Of the moment: nobody is signed in to a registry that was restored.
_FLEETING = {table.__tablename__ for table in (SessionRow, OidcStateRow, AttemptRow)}
_ROWS = 500  # at once


async def copy_rows(source: AsyncSession, target: AsyncSession) -> None:
    """Copy every table but the fleeting ones.

    The target has this release's schema, and no rows but its release.
    """
    await target.execute(delete(ReleaseRow))
    for table in Base.metadata.sorted_tables:  # those that others refer to first
        if table.name in _FLEETING:
            continue
        found = await source.stream(select(table).order_by(*table.primary_key))
        async for part in found.mappings().partitions(_ROWS):
            await target.execute(insert(table), [dict(row) for row in part])
    if target.get_bind().dialect.name == "postgresql":
        last = (await target.execute(select(func.max(EventRow.sequence)))).scalar_one()
        if last is not None:  # its counter knows nothing of the rows that came with their numbers
            await target.execute(
                text("SELECT setval(pg_get_serial_sequence('events', 'sequence'), :last)"),
                {"last": last},
            )
