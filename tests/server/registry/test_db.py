"""The database: revisions, the append-only table, projections that follow from records alone."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, inspect, select, text
from sqlalchemy.exc import DatabaseError
from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.errors import UsageError
from accord_server.registry.db import Database, alembic_config, sqlite_url
from accord_server.registry.setup import initialise, rebuild_projections
from accord_server.registry.tables import PROJECTIONS, Base, RecordRow
from tests.server.registry.stack import Stack, complete, settings_in
from tests.world import model_of

T = TypeVar("T")


def on(url: str, work: Callable[[Database], Awaitable[T]]) -> T:
    """Run `work` on a database in its own event loop."""

    async def run() -> T:
        database = Database(url)
        try:
            return await work(database)
        finally:
            await database.close()

    return asyncio.run(run())


def snapshot(url: str) -> dict[str, list[tuple[Any, ...]]]:
    async def read(database: Database) -> dict[str, list[tuple[Any, ...]]]:
        async with database.read() as session:
            return {
                str(table.__tablename__): [
                    tuple(row)
                    for row in (
                        await session.execute(
                            select(*table.__table__.columns).order_by(*table.__table__.primary_key)
                        )
                    ).all()
                ]
                for table in PROJECTIONS
            }

    return on(url, read)


def test_revisions_give_the_tables_that_the_code_declares_and_can_be_undone() -> None:
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        config = alembic_config(connection)
        command.upgrade(config, "head")
        differences = compare_metadata(MigrationContext.configure(connection), Base.metadata)
        assert differences == []
        command.downgrade(config, "base")
        assert set(inspect(connection).get_table_names()) == {"alembic_version"}
        command.upgrade(config, "head")
    engine.dispose()


def test_a_database_of_a_newer_release_is_refused(tmp_path: Path, certificates: Path) -> None:
    settings = settings_in(tmp_path / "registry", certificates)
    asyncio.run(initialise(settings))

    async def age(database: Database) -> None:
        async with database.write() as session:
            await session.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    on(settings.database, age)
    for work in (lambda database: database.migrate(), lambda database: database.check()):
        with pytest.raises(UsageError) as error:
            on(settings.database, work)
        assert error.value.code == "wrong-schema"


def test_records_cannot_be_changed_or_deleted(stack: Stack) -> None:
    async def tamper(database: Database, statement: str) -> None:
        async with database.write() as session:
            await session.execute(text(statement))

    for statement in ("UPDATE records SET kind = 'manifest'", "DELETE FROM records"):
        with pytest.raises(DatabaseError, match="append-only"):
            on(stack.settings.database, partial(tamper, statement=statement))


def test_rebuilding_gives_the_same_projections(stack: Stack) -> None:
    world = stack.world
    keys = stack.offer()
    manifest = stack.start(keys)
    result = complete(stack, keys, manifest)
    stack.client(world.coordinator).post(world.evaluation(manifest, result, model_of(2)))
    refused = stack.start(stack.offer())
    hospital = world.hospitals[0]
    stack.client(hospital).post(world.consent(hospital, refused, refusal="budget-exceeded"))
    stack.start(stack.offer())
    stack.client(hospital).post(world.withdrawal(hospital))
    head = world.delegations[hospital.id].hash
    stack.client(hospital).post(hospital.delegation(previous=head))
    before = snapshot(stack.settings.database)
    runs = stack.client(hospital).runs()
    assert all(before.values()), "every projection has rows"

    count = asyncio.run(rebuild_projections(stack.settings))
    assert count == len(stack.client(hospital).records())
    assert snapshot(stack.settings.database) == before
    assert stack.client(hospital).runs() == runs
    assert {run.state for run in runs} == {"completed", "refused", "awaiting-consent"}


def test_what_a_failed_writer_did_is_undone(tmp_path: Path) -> None:
    async def fail(database: Database) -> list[str]:
        await database.migrate()
        with pytest.raises(ZeroDivisionError):
            async with database.write() as session:
                await _add(session, 1)
                raise ZeroDivisionError
        async with database.write() as session:
            await _add(session, 1)
        async with database.read() as session:
            return list((await session.execute(select(RecordRow.hash))).scalars())

    assert on(sqlite_url(tmp_path / "registry.db"), fail) == ["1"]


def test_postgresql_has_the_same_guard() -> None:
    from accord_server.registry.db import append_only

    statements = append_only("records", "postgresql")
    assert sum("BEFORE UPDATE" in item or "BEFORE DELETE" in item for item in statements) == 2


async def _add(session: AsyncSession, sequence: int) -> None:
    from accord_common.fields import now

    row = RecordRow(
        sequence=sequence,
        kind="offer",
        hash=str(sequence),
        envelope=b"",
        leaf="",
        run=None,
        received=now(),
    )
    session.add(row)
    await session.flush()
