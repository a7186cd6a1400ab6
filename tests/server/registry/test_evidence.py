"""Every column is declared; whoever changes, removes or adds evidence in the database is found."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Table, delete, insert, inspect, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.errors import VerificationError
from accord_common.log.checkpoint import Head
from accord_server.registry.db import Database
from accord_server.registry.evidence import COLUMNS, of_evidence
from accord_server.registry.evidence_check import compare, rebuilt, verify_database
from accord_server.registry.records.verify_log import verify_log
from accord_server.registry.setup import initialise
from accord_server.registry.tables import Base
from tests.catalogued import entry, profile, with_profiles
from tests.postgres import Postgres
from tests.server.registry.audited import finish, owe
from tests.server.registry.stack import opened, settings_in
from tests.world import make_world

TABLES = {table.name: table for table in Base.metadata.sorted_tables}
EVIDENCE = {table: names for table in COLUMNS if (names := of_evidence(table))}
LOG = ("records", "log_nodes")  # verified record by record; all else is compared
CODES = {"damaged-record", "damaged-log", "damaged-projection"}

_UNREFERENCED = {  # whoever changes a database by hand is held up by no foreign key
    "sqlite": "PRAGMA defer_foreign_keys = ON",
    "postgresql": "SET LOCAL session_replication_role = replica",
}

Change = Callable[[AsyncSession], Awaitable[None]]


@dataclass
class Bench:
    """A registry's database to change and to verify; what a change did is undone."""

    database: Database
    runner: asyncio.Runner

    def found(self, change: Change, table: str) -> VerificationError | None:
        """What is found after a change; the whole verification where it is the log's."""
        return self.runner.run(self._found(change, table))

    async def _found(self, change: Change, table: str) -> VerificationError | None:
        async with self._undone() as session:
            untouched = None if table in LOG else await self._rebuilt(session)
            await change(session)
            await session.flush()
            session.expunge_all()
            try:
                if untouched is None:
                    await verify_log(session)
                else:
                    await compare(session, untouched)
            except VerificationError as error:
                return error
            return None

    @asynccontextmanager
    async def _undone(self) -> AsyncIterator[AsyncSession]:
        try:
            async with self.database.write() as session:
                await session.execute(text(_UNREFERENCED[self.database.dialect]))
                yield session
                raise _Undo
        except _Undo:
            pass

    _made: Any = None

    async def _rebuilt(self, session: AsyncSession) -> AsyncSession:
        """One copy for all changes: they leave the records alone."""
        if self._made is None:
            self._made = rebuilt(session)
            self._session = await self._made.__aenter__()
        made: AsyncSession = self._session
        return made

    async def close(self) -> None:
        if self._made is not None:
            await self._made.__aexit__(None, None, None)
        await self.database.close()


class _Undo(Exception):
    pass


@pytest.fixture(
    scope="module",
    params=["sqlite", pytest.param("postgresql", marks=pytest.mark.soak(sample=0))],
)
def bench(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, certificates: Path
) -> Iterator[Bench]:
    """A registry with three runs, a withdrawal, a checkpoint of all of it; without its triggers."""
    if request.param == "sqlite":
        yield from _bench(tmp_path_factory.mktemp("evidence"), certificates, "")
        return
    server: Postgres = request.getfixturevalue("postgres")
    with server.database("template1") as name:
        yield from _bench(tmp_path_factory.mktemp("evidence"), certificates, server.url(name))


def _bench(folder: Path, certificates: Path, url: str) -> Iterator[Bench]:
    settings = settings_in(folder / "registry", certificates, database_url=url)
    invitation = asyncio.run(initialise(settings)).text
    world = with_profiles(make_world(log_key=settings.read_log_key()))
    with opened(settings, invitation, world) as stack:
        stack.join_all()
        stack.register_datasets()
        stack.sign_agreement()
        coordinator = stack.client(world.coordinator)
        finish(stack, Head.of(coordinator.tree.checkpoint()))
        owe(stack)
        stack.start(stack.offer(), rounds=101, max_attempts_total=101)  # a finding: outside terms
        newest = entry(world, world.hospitals[0])
        for record in (newest, profile(world, world.hospitals[0], newest)):
            stack.client(world.hospitals[0]).post(record)
        stack.client(world.hospitals[0]).post(world.withdrawal(world.hospitals[0]))
        coordinator.tree.checkpoint()
    with asyncio.Runner() as runner:
        bench = Bench(Database(settings.database), runner)
        runner.run(_drop_triggers(bench.database))
        yield bench
        runner.run(bench.close())


async def _drop_triggers(database: Database) -> None:
    """Whoever can write the database can do that."""
    events = ("UPDATE", "DELETE") + (("TRUNCATE",) if database.dialect == "postgresql" else ())
    on = " ON records" if database.dialect == "postgresql" else ""
    async with database.write() as session:
        for event in events:
            await session.execute(text(f"DROP TRIGGER records_no_{event}{on}"))


async def _last(session: AsyncSession, table: Table) -> dict[str, Any]:
    query = select(table).order_by(*(key.desc() for key in table.primary_key)).limit(1)
    return dict((await session.execute(query)).mappings().one())


def _at(table: Table, row: dict[str, Any]) -> list[Any]:
    return [key == row[key.name] for key in table.primary_key]


def _other(table: Table, column: str, value: Any) -> Any:
    """Another value of a column's kind."""
    if value is None:
        kind = table.columns[column].type.python_type
        return {int: 7, str: "x"}.get(kind, datetime(2026, 1, 1, tzinfo=UTC))
    match value:
        case bool():
            return not value
        case int():
            return value + 1000
        case str():
            return value[:-1] + ("0" if value[-1] != "0" else "1") if value else "x"
        case bytes():
            return value.replace(b"e", b"f", 1)  # every payload begins with {"
        case list():
            return [*value, {"party": "nobody"}]
        case dict():
            return value | {"more": "1"}
        case _:
            return value.replace(year=value.year + 1)


def test_every_column_is_declared(bench: Bench) -> None:
    async def columns() -> dict[str, set[str]]:
        async with bench.database.read() as session:
            connection = await session.connection()
            return await connection.run_sync(
                lambda sync: {
                    name: {str(column["name"]) for column in inspect(sync).get_columns(name)}
                    for name in inspect(sync).get_table_names()
                }
            )

    there = bench.runner.run(columns())
    assert there == {table: set(names) for table, names in COLUMNS.items()}


def test_a_whole_database_passes(bench: Bench) -> None:
    assert bench.runner.run(verify_database(bench.database)).records > 20


@pytest.mark.parametrize("table", EVIDENCE)
def test_a_change_of_any_column_is_found(bench: Bench, table: str) -> None:
    """The last row's value becomes another of its kind."""
    for column in EVIDENCE[table]:

        async def change(session: AsyncSession, column: str = column) -> None:
            row = await _last(session, TABLES[table])
            other = _other(TABLES[table], column, row[column])
            assert other != row[column]
            await session.execute(
                update(TABLES[table]).where(*_at(TABLES[table], row)).values({column: other})
            )

        named(bench.found(change, table), table, column)


@pytest.mark.parametrize("table", EVIDENCE)
def test_a_missing_row_is_found(bench: Bench, table: str) -> None:
    async def change(session: AsyncSession) -> None:
        row = await _last(session, TABLES[table])
        await session.execute(delete(TABLES[table]).where(*_at(TABLES[table], row)))

    named(bench.found(change, table), table, "deletion")


@pytest.mark.parametrize("table", EVIDENCE)
def test_an_added_row_is_found(bench: Bench, table: str) -> None:
    """A copy of the last row under another key; of a record, behind the last."""

    async def change(session: AsyncSession) -> None:
        row = await _last(session, TABLES[table])
        if table == "records":
            row["sequence"] -= 999  # one behind the last, below
        for column in TABLES[table].columns:
            if column.primary_key or column.unique:
                row[column.name] = _other(TABLES[table], column.name, row[column.name])
        await session.execute(insert(TABLES[table]).values(row))

    named(bench.found(change, table), table, "insertion")


def named(error: VerificationError | None, table: str, what: str) -> None:
    """It was found, and it says where."""
    assert error is not None, f"nobody found {what} in {table}"
    assert error.code in CODES | ({"log-rolled-back"} if what == "deletion" else set()), error
    assert any(word in str(error) for word in (table, "record")), error


def test_a_rolled_back_database_is_found_by_a_checkpoint_alone(bench: Bench) -> None:
    """The last record, its subtrees and its projections are gone alike."""

    async def change(session: AsyncSession) -> None:
        last = (await _last(session, TABLES["records"]))["sequence"]
        records, nodes = TABLES["records"], TABLES["log_nodes"]
        await session.execute(delete(records).where(records.c.sequence == last))
        for node in (await session.execute(select(nodes))).mappings().all():
            if (node["number"] + 1) << node["level"] >= last:
                await session.execute(delete(nodes).where(*_at(nodes, dict(node))))

    async def and_its_checkpoint(session: AsyncSession) -> None:
        last = (await _last(session, TABLES["records"]))["sequence"]
        await change(session)
        checkpoints = TABLES["checkpoints"]
        await session.execute(delete(checkpoints).where(checkpoints.c.size >= last))

    error = bench.found(change, "records")
    assert error is not None and error.code == "log-rolled-back"
    assert bench.found(and_its_checkpoint, "records") is None, "only a copy elsewhere would know"
