"""What keeps a run going: leases, stop requests, lines, inboxes that wake."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TypeVar

import pytest

from accord_common.errors import ConflictError, NotFoundError, PolicyError, VerificationError
from accord_common.fields import new_id, now
from accord_server.registry.runs import endpoints
from tests.server.registry.stack import Stack, run_id
from tests.world import make_actor, model_of

T = TypeVar("T")
PATIENCE_S = 20.0


def ready_run(stack: Stack) -> str:
    manifest = stack.start(stack.offer())
    stack.accept(manifest)
    return run_id(stack, manifest)


def during(wait: Callable[[], T], act: Callable[[], object]) -> tuple[T, float]:
    """Start a long poll, act, and return what the poll gave and how long it took."""
    start = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(wait)
        act()
        return answer.result(PATIENCE_S), time.monotonic() - start


def test_a_run_starts_when_leased_and_one_holder_drives_it(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    aggregator = stack.client(stack.world.aggregator)
    waiting = run_id(stack, stack.start(stack.offer()))
    with pytest.raises(ConflictError) as early:
        aggregator.lease(waiting, "aggregator-1", 60)
    assert early.value.code == "run-not-ready"

    run = ready_run(stack)
    assert [item.id for item in aggregator.runs("ready")] == [run]
    lease = aggregator.lease(run, "aggregator-1", 60)
    assert (lease.fence, lease.holder) == (1, "aggregator-1")
    assert aggregator.runs("ready") == []
    assert [item.id for item in aggregator.runs("running")] == [run]
    assert [item.id for item in aggregator.runs()] == sorted([waiting, run])
    assert aggregator.lease(run, "aggregator-1", 120, fence=1).fence == 1
    with pytest.raises(ConflictError) as other:
        aggregator.lease(run, "aggregator-2", 60)
    assert other.value.code == "leased"
    with monkeypatch.context() as later:
        later.setattr(endpoints, "now", lambda: now() + timedelta(seconds=121))
        assert aggregator.lease(run, "aggregator-2", 60).fence == 2


def test_only_the_newest_process_of_a_folder_renews_its_lease_and_posts(stack: Stack) -> None:
    world, aggregator = stack.world, stack.client(stack.world.aggregator)
    keys = stack.offer()
    manifest = stack.start(keys)
    stack.accept(manifest)
    run = run_id(stack, manifest)
    old = aggregator.lease(run, "aggregator-1", 600).fence
    new = aggregator.lease(run, "aggregator-1", 600).fence  # the same folder: at once
    assert (old, new) == (1, 2)
    receipt = world.aggregator_receipt(keys, manifest, manifest.hash, 0, 0)
    for late in (
        lambda: aggregator.lease(run, "aggregator-1", 600, fence=old),
        lambda: aggregator.post(receipt, fence=old),
    ):
        with pytest.raises(ConflictError) as lost:
            late()
        assert lost.value.code == "lease-lost"
    assert aggregator.post(receipt, fence=new).sequence
    aggregator.lease(run, "aggregator-1", 0, fence=new)  # laid down: anybody may go on
    assert aggregator.lease(run, "aggregator-2", 600).fence == 3


def test_a_run_shows_since_when_a_site_refuses_until_it_takes_part_again(stack: Stack) -> None:
    world, aggregator = stack.world, stack.client(stack.world.aggregator)
    keys = stack.offer()
    manifest = stack.start(keys)
    stack.accept(manifest)
    run, site = run_id(stack, manifest), world.hospitals[0].id
    aggregator.lease(run, "aggregator-1", 60)

    def shown() -> tuple[int, str] | None:
        (refusal,) = [item.refusal for item in aggregator.run(run).consents if item.party == site]
        return None if refusal is None else (refusal.round, refusal.code)

    def receipt(previous: str, attempt: int, refused: dict[str, str], *lost: str) -> str:
        body = world.aggregator_receipt(keys, manifest, previous, 0, attempt, lost, refused)
        return aggregator.post(body).hash

    assert shown() is None
    head = receipt(manifest.hash, 0, {site: "dataset-changed"}, site)
    assert shown() == (0, "dataset-changed")
    assert aggregator.rounds(run)[0].refused == {site: "dataset-changed"}
    head = receipt(head, 1, {}, site)  # lost: it said nothing new
    assert shown() == (0, "dataset-changed")
    with pytest.raises(VerificationError) as stray:
        receipt(head, 2, {new_id(): "budget-exceeded"})
    assert stray.value.code == "not-in-roster"
    head = receipt(head, 2, {})
    assert shown() is None
    refused = {site: "budget-exceeded"}
    end = {"status": "failed", "code": "too-few-nodes", "cause": "one refuses", "rounds": 1}
    aggregator.post(world.result(keys, manifest, head, model_of(1), refused=refused, **end))
    assert shown() == (1, "budget-exceeded")


def test_two_aggregators_that_ask_at_once_get_one_lease(stack: Stack) -> None:
    run = ready_run(stack)
    clients = [stack.client(stack.world.aggregator) for _ in range(6)]

    def ask(number: int) -> bool:
        try:
            clients[number].lease(run, f"aggregator-{number}", 60)
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(ask, range(6))) == 1


def test_a_stop_is_a_request_that_the_aggregator_sees(stack: Stack) -> None:
    run = ready_run(stack)
    aggregator = stack.client(stack.world.aggregator)
    coordinator = stack.client(stack.world.coordinator)
    cursor = aggregator.inbox().cursor
    inbox, _ = during(
        lambda: aggregator.inbox(cursor, PATIENCE_S), lambda: coordinator.stop(run, "wrong data")
    )
    assert [item.stop_requested for item in inbox.runs] == ["wrong data"]
    assert coordinator.stop(run, "another reason").stop_requested == "wrong data"
    assert coordinator.run(run).state == "ready"
    assert coordinator.events(run)[-1].message == "coordinator asks to stop: wrong data"


def test_an_inbox_wakes_for_its_own_changes_only(stack: Stack) -> None:
    world = stack.world
    hospital = stack.client(world.hospitals[0])
    first = hospital.inbox()
    assert first.runs == [] and first.agreements == []
    assert hospital.inbox(first.cursor, 0.05).cursor == first.cursor
    stack.client(world.aggregator).post(world.run_keys().offer)
    assert hospital.inbox(first.cursor, 0.05).cursor == first.cursor
    keys = stack.offer()
    second, took = during(
        lambda: hospital.inbox(first.cursor, PATIENCE_S), lambda: stack.start(keys)
    )
    assert second.cursor > first.cursor and took < PATIENCE_S / 2
    assert [run.state for run in second.runs] == ["awaiting-consent"]
    assert hospital.inbox(0, PATIENCE_S).cursor == second.cursor  # a stale cursor never waits


def test_a_follower_of_events_is_woken(stack: Stack) -> None:
    run = ready_run(stack)
    watcher = stack.client(stack.world.hospitals[0])
    aggregator = stack.client(stack.world.aggregator)
    last = watcher.events(run)[-1].sequence
    lines, took = during(
        lambda: watcher.events(run, last, PATIENCE_S),
        lambda: aggregator.log(run, "info", "round 0 opened"),
    )
    assert [(line.level, line.message, line.party) for line in lines] == [
        ("info", "round 0 opened", stack.world.aggregator.id)
    ]
    assert took < PATIENCE_S / 2
    assert watcher.events(run, lines[-1].sequence) == []


def test_who_is_no_party_learns_nothing_of_a_run(stack: Stack) -> None:
    run = ready_run(stack)
    stranger = make_actor("stranger", "coordinator")
    stack.join(
        stranger, stack.client(stack.world.coordinator).invite("coordinator", "stranger").code
    )
    client = stack.client(stranger)
    assert client.runs() == [] and client.inbox().runs == []
    for call in (
        lambda: client.run(run),
        lambda: client.rounds(run),
        lambda: client.events(run),
        lambda: client.stop(run, "mine now"),
        lambda: client.log(run, "info", "hello"),
    ):
        with pytest.raises(NotFoundError) as error:
            call()
        assert error.value.code == "unknown-run"
    with pytest.raises(NotFoundError):
        stack.client(stack.world.aggregator).lease(new_id(), "aggregator-1", 60)
    second = make_actor("aggregator-2", "aggregator")
    code = stack.client(stack.world.coordinator).invite("aggregator", "aggregator-2").code
    stack.join(second, code)
    with pytest.raises((NotFoundError, PolicyError)):
        stack.client(second).lease(run, "aggregator-2", 60)


def test_writers_at_once_lose_nothing(stack: Stack) -> None:
    world = stack.world
    client = stack.client(world.aggregator)
    before = client.records()[-1].sequence
    offers = [world.run_keys().offer for _ in range(24)]
    barrier = threading.Barrier(8)

    def write(share: list[int]) -> list[int]:
        mine = stack.client(world.aggregator)
        barrier.wait()
        return [mine.post(offers[number]).sequence for number in share]

    with ThreadPoolExecutor(8) as pool:
        places = pool.map(write, [list(range(start, 24, 8)) for start in range(8)])
        sequences = sorted(place for share in places for place in share)
    assert sequences == list(range(before + 1, before + 25))
    assert {item.hash for item in client.records(after=before)} == {item.hash for item in offers}
