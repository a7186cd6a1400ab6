"""Appends that wait together: one commit, each its own answer, nobody undone by a neighbour."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.api.schemas import Stored
from accord_common.envelope import Envelope
from accord_common.errors import AccordError, ConflictError
from accord_common.fields import now
from accord_common.receipts import NODE_RECEIPT
from accord_server.registry.budgets.tables import OwedReceiptRow
from accord_server.registry.changes import EVERYTHING, run_topic
from accord_server.registry.context import Registry
from accord_server.registry.db import Database
from accord_server.registry.evidence_check import compare, rebuilt
from accord_server.registry.faults import DatabaseFault
from accord_server.registry.records.append import append
from accord_server.registry.records.lookup import RunCache
from accord_server.registry.records.posting import Posting
from accord_server.registry.records.prefetch import Wanted
from accord_server.registry.turns import Turns
from tests.server.registry.persons import on_sqlite
from tests.server.registry.stack import Stack, run_id
from tests.server.registry.tables import rows
from tests.server.registry.test_budgets import WEAK
from tests.world import INITIAL_MODEL, Actor

Work = Callable[[AsyncSession], Awaitable[Stored]]


@pytest.fixture
def receipts(stack: Stack) -> list[tuple[Actor, Envelope]]:
    """Each node's first receipt of a run that has started."""
    manifest = stack.start(stack.offer())
    heads = stack.accept(manifest)
    stack.client(stack.world.aggregator).lease(run_id(stack, manifest), "aggregator-1", 60)
    return [
        (actor, stack.world.node_receipt(actor, manifest, heads[actor.id], 0))
        for actor in stack.world.hospitals
    ]


def work_of(actor: Actor, receipt: Envelope, runs: RunCache | None = None) -> Work:
    async def work(session: AsyncSession) -> Stored:
        posting = Posting(session, runs or RunCache(), receipt, actor.id, actor.role, now())
        return (await append(posting))[0]

    return work


async def failing(_: AsyncSession) -> Stored:
    raise RuntimeError("a fault")


@contextmanager
def commits(database: Database, fail: bool = False) -> Iterator[list[None]]:
    """Count a database's commits; the first one may fail."""
    seen: list[None] = []

    def note(_: object) -> None:
        seen.append(None)
        if fail and len(seen) == 1:
            raise RuntimeError("the disk is gone")

    engine = database._appending
    event.listen(engine, "commit", note)
    yield seen
    event.remove(engine, "commit", note)


def together(
    stack: Stack, works: list[Work], *, fail: bool = False
) -> tuple[list[Stored | BaseException], int]:
    """Have all works wait at once; what each was answered, and how many commits there were."""

    async def story() -> tuple[list[Stored | BaseException], int]:
        database = stack.settings.open_database()
        try:
            turns = Turns(database)
            with commits(database, fail) as seen:
                each = [turns.do(work) for work in works]
                return await asyncio.gather(*each, return_exceptions=True), len(seen)
        finally:
            await database.close()

    return asyncio.run(story())


def places(stack: Stack, receipts: list[tuple[Actor, Envelope]]) -> list[int]:
    views = stack.client(stack.world.coordinator).records(kind=NODE_RECEIPT)
    found = {view.hash: view.sequence for view in views}
    return [found[receipt.hash] for _, receipt in receipts]


def test_a_refusal_undoes_itself_and_nobody_else(
    stack: Stack, receipts: list[tuple[Actor, Envelope]]
) -> None:
    (one, first), (two, second), _ = receipts
    forked = stack.world.node_receipt(one, manifest_of(stack), first.hash, 1, 0)
    works = [work_of(one, first), work_of(one, first), work_of(two, second)]
    answers, count = together(stack, [works[0], refused(works[2]), *works[1:]])
    assert count == 3  # the rest, each alone
    stored, refusal, again, other = answers
    assert isinstance(refusal, ConflictError) and refusal.code == "refused"
    assert stored == again
    assert isinstance(stored, Stored) and isinstance(other, Stored)
    assert other.sequence == stored.sequence + 1
    assert places(stack, receipts[:2]) == [stored.sequence, other.sequence]
    assert stack.client(one).post(forked).sequence == other.sequence + 1  # the tree goes on


def manifest_of(stack: Stack) -> Envelope:
    client = stack.client(stack.world.coordinator)
    return client.record(client.runs()[0].manifest_hash)


def refused(work: Work) -> Work:
    """Work that writes all that it would, and is refused at its end."""

    async def then(session: AsyncSession) -> Stored:
        await work(session)
        raise ConflictError("refused", "at the end")

    return then


def test_appends_that_wait_together_share_a_commit_and_see_each_other(
    stack: Stack, receipts: list[tuple[Actor, Envelope]]
) -> None:
    works = [work_of(*each) for each in receipts]
    answers, count = together(stack, [*works, works[0]])
    assert count == 1
    found = places(stack, receipts)
    assert [one.sequence for one in answers if isinstance(one, Stored)] == [*found, found[0]]
    assert found == list(range(found[0], found[0] + 3))


def test_a_fault_is_its_own_callers_alone(
    stack: Stack, receipts: list[tuple[Actor, Envelope]]
) -> None:
    works = [work_of(*each) for each in receipts]
    answers, count = together(stack, [works[0], failing, *works[1:]])
    assert isinstance(answers.pop(1), RuntimeError)
    assert [one.sequence for one in answers if isinstance(one, Stored)] == places(stack, receipts)
    assert count == 3  # each alone


def test_a_commit_that_fails_answers_nobody_and_each_is_done_again(
    stack: Stack, receipts: list[tuple[Actor, Envelope]]
) -> None:
    answers, count = together(stack, [work_of(*each) for each in receipts], fail=True)
    found = places(stack, receipts)
    assert [one.sequence for one in answers if isinstance(one, Stored)] == found
    assert found == list(range(found[0], found[0] + 3))
    assert count == 4


@on_sqlite
def test_a_commit_whose_answer_was_lost_wakes_who_waits(
    stack: Stack, receipts: list[tuple[Actor, Envelope]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same record again is no news, so nobody would hear of it."""
    registry: Registry = stack.app.state.registry
    append_whole = registry.database.append

    async def lost(work: Callable[..., None]) -> None:
        await append_whole(work)
        raise DatabaseFault("database-unreachable", "the connection is gone")

    actor, receipt = receipts[0]
    (run,) = stack.client(stack.world.coordinator).runs()
    topics = [run_topic(run.id), EVERYTHING]
    before = [registry.changes.version(topic) for topic in topics]
    with monkeypatch.context() as cut:
        cut.setattr(registry.database, "append", lost)
        # Not the client's post, which tries again for as long as it takes.
        told = stack.http.post(
            "/v1/records",
            json={"envelope": json.loads(receipt.to_bytes())},
            headers={"Authorization": f"Bearer {stack.tokens[actor.id]}"},
        )
        assert told.json()["code"] == "database-unreachable"
    after = [registry.changes.version(topic) for topic in topics]
    assert all(new > old for new, old in zip(after, before, strict=True))
    assert stack.client(actor).post(receipt).hash == receipt.hash  # it was kept
    assert registry.changes.version(topics[0]) == after[0]


def test_a_run_that_was_undone_is_remembered_by_nobody(stack: Stack) -> None:
    """A consent that waited with its manifest, whose commit failed, finds no run afterwards."""
    manifest = stack.world.manifest(stack.offer())
    coordinator, holder = stack.world.coordinator, stack.world.hospitals[0]
    consent = stack.world.consent(holder, manifest)
    stack.client(coordinator).put_blob(INITIAL_MODEL)
    runs = RunCache()

    def of(actor: Actor, record: Envelope) -> Work:
        async def work(session: AsyncSession) -> Stored:
            posting = Posting(session, runs, record, actor.id, actor.role, now())
            return (await append(posting))[0]

        return work

    async def never(session: AsyncSession) -> Stored:
        if tried:
            raise RuntimeError("gone")
        await of(coordinator, manifest)(session)
        tried.append(None)
        return await of(holder, consent)(session)

    tried: list[None] = []
    answers, _ = together(stack, [never, failing])
    assert all(isinstance(one, RuntimeError) for one in answers), answers
    (answer,), _ = together(stack, [of(holder, consent)])
    assert isinstance(answer, AccordError) and answer.code == "missing-predecessor"


def test_an_append_asks_little_of_the_database(
    stack: Stack, receipts: list[tuple[Actor, Envelope]]
) -> None:
    registry = stack.app.state.registry
    assert isinstance(registry, Registry)
    engine = registry.database._appending
    statements: list[str] = []

    def note(_: object, __: object, statement: str, *___: object) -> None:
        statements.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    actor, receipt = receipts[0]
    stack.client(actor).post(receipt)
    event.remove(engine, "before_cursor_execute", note)
    assert len(statements) <= 13, "\n".join(statements)


def test_a_group_of_appends_asks_no_more_than_one(
    stack: Stack, receipts: list[tuple[Actor, Envelope]]
) -> None:
    async def story() -> list[str]:
        database, statements = stack.settings.open_database(), list[str]()
        try:
            turns, runs = Turns(database), RunCache()
            (actor, first), *rest = receipts
            await turns.do(work_of(actor, first, runs), Wanted.of(first, actor.id))

            def note(_: object, __: object, statement: str, *___: object) -> None:
                statements.append(statement)

            event.listen(database._appending, "before_cursor_execute", note)
            each = [turns.do(work_of(*one, runs), Wanted.of(one[1], one[0].id)) for one in rest]
            await asyncio.gather(*each)
        finally:
            await database.close()
        return statements

    statements = asyncio.run(story())
    assert len(statements) <= 11, "\n".join(statements)


def test_what_is_read_ahead_for_a_group_shows_what_each_alone_would(stack: Stack) -> None:
    """Repeated attempts and entries, an owed receipt and a cap, all within one transaction."""
    world = stack.world
    keys = stack.offer()
    manifest = stack.start(keys, **WEAK)
    heads = stack.accept(manifest)
    stack.client(world.aggregator).lease(run_id(stack, manifest), "aggregator-1", 60)
    one, two, owing = world.hospitals
    posts: list[tuple[Actor, Envelope]] = []
    for round_, attempt, entry in ((0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 0, 2), (1, 1, 3)):
        receipt = world.node_receipt(one, manifest, heads[one.id], round_, attempt, entry)
        heads[one.id] = receipt.hash
        posts.append((one, receipt))
    posts.append((two, world.node_receipt(two, manifest, heads[two.id], 0)))
    posts.append((world.aggregator, world.aggregator_receipt(keys, manifest, manifest.hash, 0)))
    posts.append((owing, world.node_receipt(owing, manifest, heads[owing.id], 0)))

    async def story() -> int:
        database = stack.settings.open_database()
        try:
            turns, runs = Turns(database), RunCache()
            with commits(database) as seen:
                each = [
                    turns.do(work_of(*post, runs), Wanted.of(post[1], post[0].id)) for post in posts
                ]
                await asyncio.gather(*each)
            async with database.read() as session, rebuilt(session) as made:
                await compare(session, made)  # with what the records make one by one
        finally:
            await database.close()
        return len(seen)

    assert asyncio.run(story()) == 1
    client = stack.client(world.coordinator)
    shown = [(found.code, found.records[0]) for found in client.exceptions()]
    hashes = [receipt.hash for _, receipt in posts]
    assert shown == [
        ("over-spend", hashes[1]),
        ("ledger-repeats", hashes[2]),
        ("repeated-attempt", hashes[3]),
    ]
    assert [one.number for one in client.spends(dataset=one.dataset)] == [1, 2, 3, 3, 4]
    assert rows(stack.settings.database, [OwedReceiptRow]) == {"owed_receipts": []}
