"""Backups: of one moment, whole or not there, restored on the other engine, verified first."""

import asyncio
import tarfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import update

from accord_common.envelope import Envelope
from accord_common.errors import AccordError
from accord_common.identity import SigningKey
from accord_common.log.merkle import leaf_hash
from accord_server.registry.backup.restore import restore
from accord_server.registry.backup.take import back_up
from accord_server.registry.db import Database
from accord_server.registry.settings import SETTINGS, Settings
from accord_server.registry.tables import RecordRow
from tests.postgres import Postgres
from tests.server.cli.office import accord
from tests.server.registry.stack import Stack, complete, opened, run_id
from tests.server.registry.tables import execute, on
from tests.world import RunKeys, model_of


def quiet(_: str) -> None:
    return None


def take(stack: Stack, file: Path) -> Path:
    asyncio.run(back_up(stack.settings, file, quiet))
    return file


def put_back(settings: Settings, file: Path, key: SigningKey) -> None:
    asyncio.run(restore(settings, file, key, quiet))


def refuse(code: str, call: Callable[[], object]) -> None:
    with pytest.raises(AccordError) as error:
        call()
    assert error.value.code == code, error.value


@contextmanager
def elsewhere(stack: Stack, tmp_path: Path, postgres: Postgres | None) -> Iterator[Settings]:
    """An empty folder and database: on PostgreSQL where a server is given."""
    changes = {"home": tmp_path / "restored", "database_url": ""}
    if postgres is None:
        yield stack.settings.model_copy(update=changes)
        return
    with postgres.database() as name:
        yield stack.settings.model_copy(update=changes | {"database_url": postgres.url(name)})


@pytest.fixture
def other(
    stack: Stack, engine: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Settings]:
    """Where to restore: on the engine that the stack is not on."""
    server = request.getfixturevalue("postgres") if engine == "sqlite" else None
    with elsewhere(stack, tmp_path, server) as settings:
        yield settings


def half_way(stack: Stack) -> tuple[RunKeys, Envelope, dict[str, str], str]:
    """A run whose first round is over; with the heads of its chains."""
    keys = stack.offer()
    manifest = stack.start(keys)
    heads = stack.accept(manifest)
    aggregator = stack.client(stack.world.aggregator)
    aggregator.lease(run_id(stack, manifest), "aggregator-1", 60)
    head, heads = a_round(stack, keys, manifest, manifest.hash, heads, 0)
    return keys, manifest, heads, head


def a_round(
    stack: Stack,
    keys: RunKeys,
    manifest: Envelope,
    head: str,
    heads: dict[str, str],
    round_: int,
) -> tuple[str, dict[str, str]]:
    world, after = stack.world, {}
    for actor in world.hospitals:
        receipt = world.node_receipt(actor, manifest, heads[actor.id], round_)
        after[actor.id] = stack.client(actor).post(receipt).hash
    receipt = world.aggregator_receipt(keys, manifest, head, round_)
    return stack.client(world.aggregator).post(receipt).hash, after


def test_a_backup_under_load_goes_on_where_it_was_on_the_other_engine(
    stack: Stack, other: Settings, tmp_path: Path
) -> None:
    world = stack.world
    first = stack.offer()
    complete(stack, first, stack.start(first))
    stack.client(world.aggregator).put_blob(b"model 2")
    keys, manifest, heads, head = half_way(stack)
    run = run_id(stack, manifest)
    begun, ended = threading.Event(), threading.Event()

    def write() -> None:
        while not ended.is_set():
            stack.offer()
            stack.client(world.aggregator).log(run, "info", "still here")
            begun.set()

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        assert begun.wait(30)
        file = take(stack, tmp_path / "backup.tar")
        ended.set()
        writing.result(30)
    records = stack.client(world.coordinator).records()
    put_back(other, file, stack.settings.read_log_key())

    with opened(other, "", world) as restored:
        restored.tokens = dict(stack.tokens)
        coordinator = restored.client(world.coordinator)
        found = coordinator.records()
        assert 0 < len(found) < len(records)
        assert found == records[: len(found)]
        runs = {item.id: item for item in coordinator.runs()}
        assert runs.keys() == {item.id for item in stack.client(world.coordinator).runs()}
        assert restored.client(world.hospitals[0]).get_blob(model_of(2)) == b"model 2"

        head, _ = a_round(restored, keys, manifest, head, heads, 1)
        told = [event.message for event in coordinator.events(run)]
        assert len(told) == len(set(event.sequence for event in coordinator.events(run)))
        assert told[-1] == "round 2 completed by 3 nodes"
        restored.client(world.aggregator).post(world.result(keys, manifest, head, model_of(2)))
        assert coordinator.run(run).state == "completed"
        sequences = [item.sequence for item in coordinator.records()]
        assert sequences == list(range(1, len(sequences) + 1))


def test_nothing_is_restored_over_anything_or_for_another(
    stack: Stack, other: Settings, tmp_path: Path
) -> None:
    file = take(stack, tmp_path / "backup.tar")
    key = stack.settings.read_log_key()
    refuse("file-exists", lambda: take(stack, file))
    refuse("registry-exists", lambda: put_back(stack.settings, file, key))
    if stack.settings.database_url:  # another folder, the same database
        taken = stack.settings.model_copy(update={"home": tmp_path / "new"})
        refuse("registry-exists", lambda: put_back(taken, file, key))
    refuse("wrong-log-key", lambda: put_back(other, file, SigningKey.generate()))
    refuse("no-file", lambda: put_back(other, tmp_path / "nowhere", key))
    assert not (other.home / SETTINGS).exists()
    put_back(other, file, key)
    refuse("registry-exists", lambda: put_back(other, file, key))


def test_what_is_damaged_or_forged_is_refused_and_leaves_nothing(
    stack: Stack, other: Settings, tmp_path: Path
) -> None:
    keys = stack.offer()
    complete(stack, keys, stack.start(keys))
    key = stack.settings.read_log_key()
    data = take(stack, tmp_path / "backup.tar").read_bytes()
    bad = tmp_path / "bad.tar"

    def broken(content: bytes) -> None:
        bad.write_bytes(content)
        with pytest.raises(AccordError) as error:
            put_back(other, bad, key)
        assert error.value.code == "damaged-backup"
        assert not (other.home / SETTINGS).exists()
        assert not list(other.home.glob(".*"))

    with tarfile.open(tmp_path / "backup.tar") as tar:
        places = {member.name: member.offset_data for member in tar}
    for place in places.values():
        broken(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    for length in (0, 100, places["registry.db"] + 5000, len(data) - 12_000):
        broken(data[:length])
    with tarfile.open(bad, "w") as tar:
        tar.addfile(tarfile.TarInfo("blobs/../../../escape"))
    broken(bad.read_bytes())

    unguard(stack)
    for statement, code in (
        ("UPDATE runs SET title = 'Another'", "damaged-projections"),
        ("UPDATE records SET received = received + 1000000", "damaged-projections"),
        ("UPDATE records SET leaf = hash", "damaged-record"),
    ):
        execute(stack.settings.database, statement)
        bad.unlink()
        take(stack, bad)
        refuse(code, lambda: put_back(other, bad, key))
        assert not (other.home / SETTINGS).exists()


def test_a_forged_log_is_refused_though_its_own_registry_signed_the_backup(
    stack: Stack, other: Settings, tmp_path: Path
) -> None:
    """Whoever holds the registry's machine cannot put words into another party's mouth."""
    world, keys = stack.world, stack.offer()
    manifest = stack.start(keys)
    result = complete(stack, keys, manifest)
    stack.client(world.coordinator).post(world.evaluation(manifest, result, model_of(2)))
    stack.client(world.hospitals[0]).post(world.withdrawal(world.hospitals[0]))
    unguard(stack)
    key = stack.settings.read_log_key()
    records = stack.client(stack.world.coordinator).records()
    last = {view.kind: view for view in records}
    assert len(last) == 11, "every kind that is stored"
    for number, view in enumerate(last.values()):
        signer, _ = view.envelope.signatures[0]
        others = view.envelope.signatures[1:]
        unsigned = ((signer, bytes(64)), *others)
        forged = Envelope(view.envelope.kind, view.envelope.payload, unsigned)
        rewrite(stack, view.sequence, forged)
        file = take(stack, tmp_path / f"{number}.tar")
        refuse("damaged-record", partial(put_back, other, file, key))
        rewrite(stack, view.sequence, view.envelope)
    execute(stack.settings.database, "DELETE FROM records WHERE sequence = 3")
    file = take(stack, tmp_path / "gap.tar")
    refuse("damaged-record", partial(put_back, other, file, key))


def unguard(stack: Stack) -> None:
    """Take the triggers away, as the database's owner can."""
    if stack.settings.database_url:
        execute(stack.settings.database, "ALTER TABLE records DISABLE TRIGGER ALL")
    else:
        for event in ("UPDATE", "DELETE"):
            execute(stack.settings.database, f"DROP TRIGGER records_no_{event}")


def rewrite(stack: Stack, sequence: int, envelope: Envelope) -> None:
    """Put other bytes in a record's place, with the leaf that they have."""
    data = envelope.to_bytes()

    async def run(database: Database) -> None:
        async with database.write() as session:
            await session.execute(
                update(RecordRow)
                .where(RecordRow.sequence == sequence)
                .values(envelope=data, leaf=leaf_hash(data).hex())
            )

    on(stack.settings.database, run)


def test_an_interrupted_backup_or_restore_leaves_nothing_that_looks_whole(
    stack: Stack, other: Settings, tmp_path: Path
) -> None:
    keys = stack.offer()
    complete(stack, keys, stack.start(keys))
    key = stack.settings.read_log_key()
    folder = tmp_path / "backups"
    folder.mkdir()
    steps: list[str] = []
    asyncio.run(back_up(stack.settings, folder / "whole.tar", steps.append))
    asyncio.run(restore(other, folder / "whole.tar", key, steps.append))
    other_steps = steps[2:]
    assert len(steps) >= 5

    def stopping_at(step: int) -> Callable[[str], None]:
        told = iter(range(step + 1))

        def say(_: str) -> None:
            if next(told) == step:
                raise KeyboardInterrupt

        return say

    for step in range(2):
        with pytest.raises(KeyboardInterrupt):
            asyncio.run(back_up(stack.settings, folder / "cut.tar", stopping_at(step)))
        assert [path.name for path in folder.iterdir()] == ["whole.tar"]
    again = stack.settings.model_copy(update={"home": tmp_path / "again", "database_url": ""})
    for step in range(len(other_steps)):
        with pytest.raises(KeyboardInterrupt):
            asyncio.run(restore(again, folder / "whole.tar", key, stopping_at(step)))
        assert not (again.home / SETTINGS).exists()
    asyncio.run(restore(again, folder / "whole.tar", key, quiet))


def test_a_model_that_is_gone_stops_the_backup(stack: Stack, tmp_path: Path) -> None:
    stack.start(stack.offer())
    (blob,) = stack.settings.blobs.iterdir()
    whole = blob.read_bytes()
    for content in (whole[:-1], whole + b"x", b"x" * len(whole)):
        blob.write_bytes(content)
        refuse("damaged-blob", lambda: take(stack, tmp_path / "backup.tar"))
    blob.unlink()
    refuse("cannot-write", lambda: take(stack, tmp_path / "backup.tar"))
    assert not (tmp_path / "backup.tar").exists()


def test_people_back_up_and_restore_by_two_commands(
    stack: Stack, other: Settings, tmp_path: Path
) -> None:
    file = tmp_path / "backup.tar"
    home = ("--home", stack.settings.home)
    done = accord("registry", "backup", file, *home, "--format", "json")
    assert done.code == 0, done.err
    assert done.json["log_key"] == stack.settings.read_log_key().public
    command = (
        *("registry", "restore", file, "--home", other.home, "--log-key", stack.settings.log_key),
        *("--cert", other.certificate, "--key", other.key, "--ca", other.ca),
        *("--database-url", other.database_url, "--format", "json"),
    )
    done = accord(*command)
    assert done.code == 0, done.err
    assert done.json["records"] == len(stack.client(stack.world.coordinator).records())
    assert (other.home / "log.pem").stat().st_mode & 0o777 == 0o600
    assert accord(*command).error["code"] == "registry-exists"
