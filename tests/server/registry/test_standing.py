"""No state is ever silent: what a run waits for is shown at once, and each wait has an end."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.api.client import RegistryClient
from accord_common.api.schemas import RunView
from accord_common.envelope import Envelope
from accord_common.errors import AccordError, ConflictError
from accord_common.fields import now, parse_time
from accord_server.registry.db import Database
from accord_server.registry.runs import endpoints, inbox
from accord_server.registry.runs.reconciler import sweep
from accord_server.registry.setup import rebuild_projections
from accord_server.registry.tables import PulseRow
from tests.server.registry.stack import Stack, complete, run_id
from tests.world import RunKeys, model_of

MINUTE, HOUR, DAY = 60, 3600, 86_400


class Time:
    """A registry that has served without a gap, looked at some seconds from now."""

    def __init__(self, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stack = stack
        self.start = now()
        self._monkeypatch = monkeypatch

    def at(self, seconds: float) -> datetime:
        return self.start + timedelta(seconds=seconds)

    @contextmanager
    def being(self, seconds: float, *, gap: bool = False) -> Iterator[RegistryClient]:
        """Every request comes then; with a gap, the registry has been away all that time."""
        moment = self.at(seconds)
        asyncio.run(self._write(None if gap else moment))
        with self._monkeypatch.context() as clock:
            clock.setattr(endpoints, "now", lambda: moment)
            clock.setattr(inbox, "now", lambda: moment)
            yield self.stack.client(self.stack.world.coordinator)

    def sweep(self, seconds: float, *, gap: bool = False) -> set[str]:
        """Look after all runs then, as another replica would; return who was woken."""
        moment = self.at(seconds)
        return asyncio.run(self._sweep(moment, gap))

    def view(self, run: str, seconds: float) -> RunView:
        with self.being(seconds) as client:
            return client.run(run)

    def trouble(self, run: str, seconds: float) -> str | None:
        standing = self.view(run, seconds).standing
        return None if standing is None else standing.code

    async def _write(self, last: datetime | None) -> None:
        database = Database(self.stack.settings.database)
        async with database.write() as session:
            await self._pulse(session, last)
        await database.close()

    async def _sweep(self, moment: datetime, gap: bool) -> set[str]:
        database = Database(self.stack.settings.database)
        async with database.write() as session:
            await self._pulse(session, None if gap else moment)
            topics = await sweep(session, self.stack.settings, moment)
        await database.close()
        return topics

    async def _pulse(self, session: AsyncSession, last: datetime | None) -> None:
        since = self.start - timedelta(hours=2)
        await session.merge(PulseRow(id=1, since=since, last=last or self.start))
        await session.flush()


@pytest.fixture
def time(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Time:
    return Time(stack, monkeypatch)


@pytest.fixture
def keys(stack: Stack) -> RunKeys:
    return stack.offer()


@pytest.fixture
def manifest(stack: Stack, keys: RunKeys) -> Envelope:
    return stack.start(keys)


@pytest.fixture
def run(stack: Stack, manifest: Envelope) -> str:
    return run_id(stack, manifest)


def messages(stack: Stack, run: str) -> list[str]:
    lines = stack.client(stack.world.coordinator).events(run)
    return [line.message for line in lines if line.party is None]


def end(view: RunView) -> tuple[str, str, bool]:
    return view.state, view.code, view.unsigned


def test_sites_that_do_not_answer_are_named_and_end_the_run(
    stack: Stack, time: Time, manifest: Envelope, run: str
) -> None:
    first, *others = stack.world.hospitals
    stack.client(first).post(stack.world.consent(first, manifest))
    shown = time.view(run, 1).standing
    assert shown is not None and shown.code == "awaiting-consent"
    assert shown.message.startswith("no answer from hospital-2, hospital-3; otherwise it ends at")
    assert time.sweep(7 * DAY - HOUR) == set()
    assert time.view(run, 7 * DAY - HOUR).state == "awaiting-consent"
    assert time.sweep(7 * DAY + HOUR)
    view = time.view(run, 7 * DAY + HOUR)
    assert end(view) == ("failed", "consent-timeout", True)
    assert view.cause == "no answer from hospital-2, hospital-3 within 7 days"
    assert view.standing is None
    with pytest.raises(ConflictError) as late:
        stack.client(others[0]).post(stack.world.consent(others[0], manifest))
    assert late.value.code == "run-not-waiting"
    coordinator = stack.client(stack.world.coordinator)
    assert [item.id for item in coordinator.runs("failed")] == [run]
    assert coordinator.runs("awaiting-consent") == []
    assert coordinator.inbox().runs == stack.client(first).inbox().runs == []


def test_a_registry_that_was_away_gives_sites_an_hour(time: Time, run: str) -> None:
    back = 30 * DAY
    assert time.sweep(back, gap=True) == set()
    assert time.view(run, back + HOUR / 2).state == "awaiting-consent"


def test_a_run_that_nobody_begins_says_so_and_fails(
    stack: Stack, time: Time, manifest: Envelope, run: str
) -> None:
    stack.accept(manifest)
    assert time.trouble(run, 1) is None
    assert time.trouble(run, 2 * MINUTE) == "aggregator-missing"
    assert time.sweep(2 * MINUTE) and not time.sweep(2 * MINUTE + 1)  # told once
    assert messages(stack, run)[-1].startswith("no word from the aggregator; otherwise it ends at")
    assert not time.sweep(DAY - MINUTE)
    assert time.sweep(DAY + MINUTE)
    assert end(time.view(run, DAY + MINUTE)) == ("failed", "aggregator-missing", True)


def test_a_run_behind_another_waits_as_long_as_that_takes(
    stack: Stack, time: Time, manifest: Envelope, run: str
) -> None:
    stack.accept(manifest)
    second = stack.start(stack.offer())
    stack.accept(second)
    aggregator = stack.client(stack.world.aggregator)
    with time.being(2 * DAY):
        aggregator.lease(run_id(stack, second), "aggregator-1", 900)
    assert time.sweep(2 * DAY + 5)
    assert time.trouble(run, 2 * DAY + 5) == "queued"
    assert time.view(run, 2 * DAY + 5).state == "ready"


def test_a_dead_aggregator_shows_within_a_minute_and_fails_the_run_a_day_later(
    stack: Stack, time: Time, manifest: Envelope, run: str
) -> None:
    stack.accept(manifest)
    aggregator = stack.client(stack.world.aggregator)
    with time.being(0):
        fence = aggregator.lease(run, "aggregator-1", 900).fence
    assert time.trouble(run, MINUTE - 5) is None
    silent = time.view(run, MINUTE + 5).standing
    assert silent is not None and silent.code == "aggregator-silent"
    assert parse_time(silent.since) <= time.at(0)
    assert time.trouble(run, 901) == "stalled"
    assert time.sweep(901) and messages(stack, run)[-1].startswith("no aggregator; the run goes on")
    with time.being(1000):  # it was only rebooted
        assert aggregator.lease(run, "aggregator-1", 900, fence=fence).fence == fence
    assert time.sweep(1010) and messages(stack, run)[-1] == "the run goes on"
    assert time.trouble(run, 1010) is None
    assert time.sweep(1000 + DAY + 1)
    view = time.view(run, 1000 + DAY + 1)
    assert end(view) == ("failed", "aggregator-gone", True)
    assert "0 of 2 rounds are complete" in view.cause


def test_the_registrys_own_absence_counts_against_no_aggregator(
    stack: Stack, time: Time, manifest: Envelope, run: str
) -> None:
    stack.accept(manifest)
    with time.being(0):
        stack.client(stack.world.aggregator).lease(run, "aggregator-1", 900)
    with time.being(3 * DAY, gap=True) as client:
        standing = client.run(run).standing
    assert standing is None  # nobody could be heard; that is no finding yet
    assert time.sweep(3 * DAY, gap=True) == set()
    assert time.view(run, 3 * DAY + 1).state == "running"


def test_a_lease_says_for_whom_a_run_waits(
    stack: Stack, time: Time, manifest: Envelope, run: str
) -> None:
    stack.accept(manifest)
    aggregator = stack.client(stack.world.aggregator)
    with time.being(0):
        fence = aggregator.lease(run, "aggregator-1", 900, waiting="hospital-2").fence
    with time.being(10):
        aggregator.lease(run, "aggregator-1", 900, fence, waiting="hospital-2, hospital-3")
    shown = time.view(run, 12).standing
    assert shown is not None and shown.code == "waiting-for-nodes"
    assert shown.message == "waits for hospital-2, hospital-3"
    assert abs((parse_time(shown.since) - time.at(0)).total_seconds()) < 2
    with time.being(20):
        aggregator.lease(run, "aggregator-1", 900, fence)
    assert time.trouble(run, 21) is None


@pytest.mark.parametrize("leased", [False, True])
def test_a_stop_that_no_aggregator_heeds_ends_the_run(
    stack: Stack, time: Time, manifest: Envelope, run: str, leased: bool
) -> None:
    if leased:
        stack.accept(manifest)
        with time.being(0):
            stack.client(stack.world.aggregator).lease(run, "aggregator-1", 900)
    with time.being(10) as client:
        stopped = client.stop(run, "wrong data")
    assert stopped.standing is not None and stopped.standing.code == "stopping"
    assert time.sweep(30) == set()
    assert time.sweep(2 * MINUTE)
    view = time.view(run, 2 * MINUTE)
    assert (view.state, view.code, view.cause, view.unsigned) == (
        ("stopped", "stop-requested", "wrong data", True)
    )
    with pytest.raises(ConflictError) as over:
        stack.client(stack.world.coordinator).stop(run, "again")
    assert over.value.code == "run-over"


def test_a_live_aggregator_ends_a_stopped_run_itself(
    stack: Stack, time: Time, manifest: Envelope, run: str
) -> None:
    stack.accept(manifest)
    aggregator = stack.client(stack.world.aggregator)
    with time.being(0) as client:
        fence = aggregator.lease(run, "aggregator-1", 900).fence
        client.stop(run, "wrong data")
    with time.being(50):
        aggregator.lease(run, "aggregator-1", 900, fence=fence)
    time.sweep(100)
    assert time.view(run, 100).state == "running"


def test_a_late_aggregator_signs_what_the_registry_found_and_nothing_else(
    stack: Stack, time: Time, keys: RunKeys, manifest: Envelope, run: str
) -> None:
    world, aggregator = stack.world, stack.client(stack.world.aggregator)
    heads = stack.accept(manifest)
    with time.being(0):
        aggregator.lease(run, "aggregator-1", 900)
    time.sweep(2 * DAY)
    (closed,) = aggregator.inbox().runs
    assert end(closed) == ("failed", "aggregator-gone", True)
    with pytest.raises(ConflictError, match="run-over"):
        aggregator.lease(run, "aggregator-1", 900)
    for actor in world.hospitals:  # what was spent and done is still told
        stack.client(actor).post(world.node_receipt(actor, manifest, heads[actor.id], 0))
    head = aggregator.post(world.aggregator_receipt(keys, manifest, manifest.hash, 0)).hash
    model = aggregator.run(run).model
    told = {"rounds": 1, "cause": closed.cause}
    for status, code in (("completed", ""), ("stopped", "stop-requested"), ("failed", "other")):
        with pytest.raises(AccordError) as refused:
            aggregator.post(world.result(keys, manifest, head, model, status=status, code=code))
        assert refused.value.code == "run-over"
    signed = {"status": "failed", "code": "aggregator-gone"} | told
    aggregator.post(world.result(keys, manifest, head, model, **signed))
    assert end(aggregator.run(run)) == ("failed", "aggregator-gone", False)
    assert aggregator.inbox().runs == []
    rows = stack.client(world.coordinator).budgets(run=run)
    assert {row.attempts for row in rows} == {1}


def test_replicas_that_look_at_once_end_a_run_once(stack: Stack, time: Time, run: str) -> None:
    with ThreadPoolExecutor(4) as replicas:
        woken = list(replicas.map(lambda _: time.sweep(8 * DAY), range(4)))
    assert sum(bool(topics) for topics in woken) == 1
    ends = [line for line in messages(stack, run) if line.startswith("the registry ends the run")]
    assert len(ends) == 1 and "[consent-timeout]" in ends[0]


def test_an_end_that_nobody_can_sign_leaves_the_inbox_but_not_the_list(
    stack: Stack, time: Time, run: str
) -> None:
    """An aggregator that lost its keys never signs it."""
    time.sweep(8 * DAY)
    aggregator = stack.client(stack.world.aggregator)
    for day, listed in ((37, [run]), (39, [])):
        with time.being(day * DAY):
            assert [view.id for view in aggregator.inbox().runs] == listed
    assert time.view(run, 39 * DAY).unsigned


def test_what_the_registry_ended_stays_so_over_a_rebuild(
    stack: Stack, time: Time, run: str
) -> None:
    time.sweep(8 * DAY)
    before = time.view(run, 8 * DAY)
    assert before.unsigned
    asyncio.run(rebuild_projections(stack.settings))
    assert time.sweep(9 * DAY) == set()
    assert time.view(run, 8 * DAY) == before


def test_a_run_shows_whose_model_it_goes_on_from(stack: Stack, keys: RunKeys) -> None:
    first = stack.start(keys)
    complete(stack, keys, first)
    client = stack.client(stack.world.coordinator)
    earlier = run_id(stack, first)
    assert client.run(earlier).continues is None
    stack.client(stack.world.aggregator).put_blob(b"model 1")
    later = run_id(stack, stack.start(stack.offer(), initial_model=model_of(1)))
    continues = client.run(later).continues
    assert continues is not None and (continues.run, continues.rounds) == (earlier, 1)
