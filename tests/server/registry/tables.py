"""Looking into a registry's database behind its back."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

from sqlalchemy import select, text

from accord_server.registry.db import Database
from accord_server.registry.tables import Base

T = TypeVar("T")
Rows = dict[str, list[tuple[Any, ...]]]


def on(url: str, work: Callable[[Database], Awaitable[T]]) -> T:
    """Run `work` on a database in its own event loop."""

    async def run() -> T:
        database = Database(url)
        try:
            return await work(database)
        finally:
            await database.close()

    return asyncio.run(run())


def execute(url: str, *statements: str) -> None:
    """Run statements in one transaction."""

    async def run(database: Database) -> None:
        async with database.write() as session:
            for statement in statements:
                await session.execute(text(statement))

    on(url, run)


def rows(url: str, tables: Iterable[type[Base]]) -> Rows:
    """Every row of some tables, by primary key."""

    async def read(database: Database) -> Rows:
        async with database.read() as session:
            found: Rows = {}
            for table in tables:
                query = select(*table.__table__.columns).order_by(*table.__table__.primary_key)
                answer = await session.execute(query)
                found[str(table.__tablename__)] = [tuple(row) for row in answer.all()]
            return found

    return on(url, read)


def all_tables() -> list[type[Base]]:
    return [mapper.class_ for mapper in Base.registry.mappers]


def everything(url: str) -> str:
    """All that the database holds, as text."""
    found = rows(url, all_tables())
    assert any(found.values())
    return repr(found)
