"""The database: the append-only table, transactions, projections that follow from records alone."""

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.fields import new_id, now
from accord_server.registry.blocking import BlockingSession, finish
from accord_server.registry.db import Database
from accord_server.registry.engines import sqlite_url
from accord_server.registry.faults import DatabaseFault
from accord_server.registry.projected import PROJECTIONS
from accord_server.registry.setup import rebuild_projections
from accord_server.registry.tables import RecordRow
from tests.catalogued import entry, profile, with_profiles
from tests.server.registry.stack import Stack, complete, run_id
from tests.server.registry.tables import execute, on, rows
from tests.world import model_of


def test_records_cannot_be_changed_or_deleted(stack: Stack, engine: str) -> None:
    before = rows(stack.settings.database, [RecordRow])
    statements = ["UPDATE records SET kind = 'manifest'", "DELETE FROM records"]
    if engine == "postgresql":
        statements.append("TRUNCATE records")
    for statement in statements:
        with pytest.raises(DBAPIError, match="append-only"):
            execute(stack.settings.database, statement)
    assert rows(stack.settings.database, [RecordRow]) == before


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
    unpaid = stack.start(keys := stack.offer())
    stack.accept(unpaid)
    aggregator = stack.client(world.aggregator)
    aggregator.lease(run_id(stack, unpaid), "aggregator-1", 60)
    aggregator.post(world.aggregator_receipt(keys, unpaid, unpaid.hash, 0))
    stack.client(hospital).post(world.withdrawal(hospital))
    head = world.delegations[hospital.id].hash
    stack.client(hospital).post(hospital.delegation(previous=head))
    other = stack.world.hospitals[1]
    stack.world = with_profiles(world.amended(id=new_id()))  # nothing follows a withdrawal
    stack.sign_agreement()
    for record in (declared := entry(stack.world, other), profile(stack.world, other, declared)):
        stack.client(other).post(record)
    before = rows(stack.settings.database, PROJECTIONS)
    runs = stack.client(hospital).runs()
    assert all(before.values()), "every projection has rows"

    count = asyncio.run(rebuild_projections(stack.settings))
    assert count == len(stack.client(hospital).records())
    assert rows(stack.settings.database, PROJECTIONS) == before
    assert stack.client(hospital).runs() == runs
    assert {run.state for run in runs} == {*("completed", "refused", "awaiting-consent", "running")}


def test_what_a_failed_writer_did_is_undone(empty: Stack) -> None:
    async def fail(database: Database) -> list[str]:
        with pytest.raises(ZeroDivisionError):
            async with database.write() as session:
                await _add(session, 1)
                raise ZeroDivisionError
        async with database.write() as session:
            await _add(session, 1)
        async with database.read() as session:
            return list((await session.execute(select(RecordRow.hash))).scalars())

    assert on(empty.settings.database, fail) == ["1"]


def test_a_reader_sees_one_state_while_others_write(empty: Stack) -> None:
    async def race(database: Database) -> tuple[int, int, int]:
        async with database.read() as session:
            before = len((await session.execute(select(RecordRow))).all())
            async with database.write() as writer:
                await _add(writer, 1)
            within = len((await session.execute(select(RecordRow))).all())
        async with database.read() as session:
            return before, within, len((await session.execute(select(RecordRow))).all())

    assert on(empty.settings.database, race) == (0, 0, 1)


def test_an_append_that_waits_for_anything_but_its_session_is_undone(empty: Stack) -> None:
    async def waits(session: AsyncSession) -> None:
        await _add(session, 1)
        await asyncio.sleep(0)

    async def story(database: Database) -> list[str]:
        with pytest.raises(RuntimeError, match="waits for something else"):
            await database.append(lambda session: finish(waits(session)))
        await database.append(lambda session: finish(_add(session, 2)))
        async with database.read() as session:
            return list((await session.execute(select(RecordRow.hash))).scalars())

    assert on(empty.settings.database, story) == ["2"]


def test_an_append_to_a_full_disk_is_named(tmp_path: Path) -> None:
    def fill(session: BlockingSession) -> None:
        session.sync_session.execute(text("PRAGMA max_page_count = 1"))  # no more than it has
        session.sync_session.execute(text("CREATE TABLE big AS SELECT randomblob(100000)"))

    async def story(database: Database) -> None:
        with pytest.raises(DatabaseFault, match=r"\[registry-disk-full\]"):
            await database.append(fill)

    on(sqlite_url(tmp_path / "registry.db"), story)


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "registry.db").write_bytes(b"not a database" * 100)
    with pytest.raises(DatabaseFault) as error:
        on(sqlite_url(tmp_path / "registry.db"), Database.check)
    assert error.value.code == "database-damaged"
    assert str(tmp_path) in error.value.message


async def _add(session: AsyncSession, sequence: int) -> None:
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
