"""The schema: revisions up and down with rows in them, and what is refused."""

import asyncio
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect

from accord_common.errors import UsageError
from accord_server.registry.db import Database
from accord_server.registry.projected import PROJECTIONS
from accord_server.registry.schema import alembic_config, look
from accord_server.registry.setup import check, initialise, migrate, rebuild_projections
from accord_server.registry.tables import Base, RecordRow
from tests.server.registry.stack import Stack, complete
from tests.server.registry.tables import T, all_tables, execute, on, rows


def within(url: str, work: Callable[[Connection], T]) -> T:
    """Run `work` in one transaction."""

    async def run(database: Database) -> T:
        async with database.write() as session:
            return await (await session.connection()).run_sync(work)

    return on(url, run)


def step(url: str, direction: Callable[..., None], to: str) -> str | None:
    """Go to a revision; return where the database is then."""

    def go(connection: Connection) -> str | None:
        direction(alembic_config(connection), to)
        return MigrationContext.configure(connection).get_current_revision()

    return within(url, go)


def refused(stack: Stack, code: str, *words: str) -> None:
    """Serving is refused, by the process and by a registry that ran before."""
    with pytest.raises(UsageError) as error:
        asyncio.run(check(stack.settings))
    assert error.value.code == code
    for word in words:
        assert word in str(error.value)
    answer = stack.http.get("/readyz")
    assert (answer.status_code, answer.json()["code"]) == (503, code)


def test_revisions_keep_the_records_up_and_down(stack: Stack) -> None:
    url = stack.settings.database
    keys = stack.offer()
    complete(stack, keys, stack.start(keys))
    stack.http.__exit__(None, None, None)
    before = rows(url, [RecordRow, *PROJECTIONS])
    assert (
        within(url, lambda c: compare_metadata(MigrationContext.configure(c), Base.metadata)) == []
    )
    seen = []
    while (at := step(url, command.downgrade, "-1")) is not None:
        seen.append(at)
        if at == "0001":
            break
        assert within(url, look).state == "older"
    assert len(set(seen)) == len(seen) and seen[-1] == "0001"
    for revision in reversed(seen[:-1]):
        assert step(url, command.upgrade, "+1") == revision
    found = asyncio.run(migrate(stack.settings))
    assert (found.state, found.revision) == ("older", seen[0])
    asyncio.run(rebuild_projections(stack.settings))
    assert rows(url, [RecordRow, *PROJECTIONS]) == before


def test_the_first_revision_can_be_undone_and_done_again(empty: Stack) -> None:
    url = empty.settings.database
    assert step(url, command.downgrade, "base") is None
    tables = within(url, lambda connection: inspect(connection).get_table_names())
    assert tables == ["alembic_version"]
    step(url, command.upgrade, "head")
    assert set(rows(url, all_tables()))


def test_a_newer_release_is_named(empty: Stack) -> None:
    execute(
        empty.settings.database,
        "UPDATE alembic_version SET version_num = '9999'",
        "INSERT INTO releases VALUES ('9999', '7.5.0', 0)",
    )
    refused(empty, "wrong-schema", "9999", "7.5.0", version("accord"))
    with pytest.raises(UsageError, match=r"7\.5\.0"):
        asyncio.run(migrate(empty.settings))


def test_an_older_one_is_told_how_to_go_on(empty: Stack) -> None:
    step(empty.settings.database, command.downgrade, "0002")
    refused(empty, "wrong-schema", "0002", "accord registry migrate")
    assert asyncio.run(migrate(empty.settings)).revision == "0002"
    asyncio.run(check(empty.settings))
    assert asyncio.run(migrate(empty.settings)).state == "present"


def test_another_programs_database_is_left_alone(empty: Stack) -> None:
    url = empty.settings.database
    step(url, command.downgrade, "base")
    execute(url, "DROP TABLE alembic_version", "CREATE TABLE patients (id integer)")
    refused(empty, "foreign-database")
    for work in (migrate, initialise):
        with pytest.raises(UsageError, match="foreign-database"):
            asyncio.run(work(empty.settings))
    execute(url, "CREATE TABLE alembic_version (version_num varchar(32))")
    execute(url, "INSERT INTO alembic_version VALUES ('a1b2c3')")  # it uses alembic as well
    refused(empty, "foreign-database")
    names = within(url, lambda connection: inspect(connection).get_table_names())
    assert set(names) == {"patients", "alembic_version"}
    execute(url, "DROP TABLE patients", "DELETE FROM alembic_version")
    refused(empty, "wrong-schema", "empty", "accord registry init")


def test_a_registry_is_made_once_and_a_database_serves_one(stack: Stack, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="registry-exists"):
        asyncio.run(initialise(stack.settings))
    if stack.settings.database_url:
        other = stack.settings.model_copy(update={"home": tmp_path / "other"})
        with pytest.raises(UsageError, match="registry-exists"):
            asyncio.run(initialise(other))
