"""What a run's end, a slow training and a second session leave: no round is decided twice."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from accord_client import halts, serving
from accord_client import node as node_module
from accord_client.contact import RegistryContact
from accord_client.contribution import Contribution
from accord_client.node import Node
from accord_client.registry_sync import refresh
from accord_client.secagg_memory import Begun
from accord_client.session import Session
from accord_common import wire
from accord_common.api.client import RegistryClient
from accord_common.api.schemas import RunView
from accord_common.envelope import sign
from accord_common.errors import ConflictError, FormatError, TransportError
from accord_common.fields import format_time, now
from accord_common.receipts import RESULT, RunResult
from accord_common.rings import Words
from tests.client.institutions import Refused, make_institutions
from tests.client.test_node_session import Bench
from tests.world import make_world

_PATIENCE_S = 30.0


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    three = make_institutions(tmp_path)
    with three.open(three.parties[1]) as stores:
        yield Bench(three, stores, three.manifest())


def finish(bench: Bench) -> wire.Reply:
    result = RunResult(
        previous=bench.manifest.hash,
        manifest=bench.manifest.hash,
        status="completed",
        cause="",
        code="",
        refused={},
        rounds=0,
        model=None,
        epsilon=[],
        created=format_time(now()),
    )
    signed = sign(RESULT, result, bench.three.keys.receipt)
    request = wire.Finish(manifest=bench.manifest.hash, result=signed)
    return wire.decode_reply(bench.session.answer(wire.encode(request), ())[0])


def unmasked(bench: Bench, round_: int = 0, number: int = 0) -> None:
    attempt = bench.uploaded(round_, number)
    bench.aggregator.unmask(bench.session, attempt, bench.confirmed(attempt))


def asked_again(bench: Bench, number: int = 1) -> str:
    with pytest.raises(Refused) as caught:
        bench.aggregator.advertise(bench.session, 0, number)
    return caught.value.code


def kept(bench: Bench) -> Begun:
    data = bench.stores.rounds.kept(bench.run)
    assert data is not None
    return Begun.from_bytes(data)


def state(bench: Bench) -> str:
    run = bench.stores.state.run(bench.run)
    assert run is not None
    return run.state


@contextmanager
def training(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """An attempt whose training lasts as long as the block; then what became of it."""
    inside, go_on, words = threading.Event(), threading.Event(), Contribution.words
    became: list[str] = []

    def slow(self: Contribution, model: Any) -> Words:
        monkeypatch.undo()  # only the first is slow
        inside.set()
        assert go_on.wait(_PATIENCE_S)
        return words(self, model)

    def train(session: Session) -> None:
        try:
            bench.aggregator.train(session, attempt, bench.stores.party)
            became.append("uploaded")
        except Refused as refused:
            became.append(refused.code)

    attempt = bench.shared(0, 0)
    monkeypatch.setattr(Contribution, "words", slow)
    thread = threading.Thread(target=train, args=(bench.session,))
    thread.start()
    assert inside.wait(_PATIENCE_S)
    try:
        yield became
    finally:
        go_on.set()
        thread.join(_PATIENCE_S)


def test_a_node_killed_in_finish_does_not_answer_a_closed_round_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    unmasked(bench)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(type(bench.stores.state), "follow", die)
        finish(bench)
    bench.open()
    assert asked_again(bench) == "round-closed"
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(type(bench.stores.rounds), "erase", die)
        finish(bench)
    assert state(bench) == "completed"
    with pytest.raises(ConflictError, match="run-over"):
        bench.open()


def test_a_full_disk_in_finish_leaves_the_round_closed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    unmasked(bench)
    with monkeypatch.context() as patch:
        patch.setattr(type(bench.stores.state), "follow", full)
        reply = finish(bench)
    assert isinstance(reply, wire.Refusal) and not bench.session.over
    bench.open()
    assert asked_again(bench) == "round-closed"
    assert isinstance(finish(bench), wire.Done)


def test_a_final_state_is_not_left_in_a_race(bench: Bench) -> None:
    memory, over = bench.stores.state, threading.Event()

    def watcher() -> None:
        while not over.is_set():
            for name in ("running", "ready"):
                memory.follow(bench.run, name, now())

    for _ in range(20):
        with memory._transaction() as db:
            db.execute("UPDATE runs SET state = 'ready'")
        over.clear()
        thread = threading.Thread(target=watcher)
        thread.start()
        memory.follow(bench.run, "completed", now())
        over.set()
        thread.join()
        assert state(bench) == "completed"


def test_a_start_erases_the_rounds_of_runs_that_are_over(bench: Bench) -> None:
    bench.uploaded()
    bench.stores.state.follow(bench.run, "stopped", now())
    assert bench.stores.rounds.kept(bench.run) is not None
    daemon = Node(
        bench.stores, cast(RegistryClient, SimpleNamespace(close=lambda: None, runs=list))
    )
    daemon.stop()
    daemon.run()
    assert bench.stores.rounds.kept(bench.run) is None


def test_nothing_leaves_after_a_withdrawal_during_training(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    with training(bench, monkeypatch) as became:
        own = bench.three.actor(bench.stores.party)
        assert halts.keep(bench.stores.agreements, bench.three.world.withdrawal(own)) is not None
    assert became == ["agreement-withdrawn"]
    assert bench.charged() == [(0, 0)]
    assert bench.stores.rounds.kept(bench.run) is None


def test_nothing_leaves_after_a_stop_during_training(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    with training(bench, monkeypatch) as became:
        bench.session.stop("the coordinator asked that the run end")
    assert became == ["run-stopped"]


def test_a_run_that_ended_during_training_leaves_no_shares(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    with training(bench, monkeypatch) as became:
        bench.stores.state.follow(bench.run, "stopped", now())
        bench.stores.rounds.erase(bench.run)
    assert became == ["run-over"]
    assert bench.stores.rounds.kept(bench.run) is None


def test_what_was_erased_is_not_written_again(bench: Bench) -> None:
    """Masked when the run ended, written after it was erased: the store says no."""
    attempt = bench.shared(0, 0)
    bench.stores.rounds.erase(bench.run)
    with pytest.raises(Refused) as caught:
        bench.train(attempt)
    assert caught.value.code == "round-decided"
    assert bench.stores.rounds.kept(bench.run) is None


def test_a_late_write_does_not_undo_a_later_decision(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two sessions of one run, as two processes would have them."""
    with training(bench, monkeypatch) as became:
        bench.open()
        unmasked(bench, 0, 1)
    assert became == ["round-decided"]
    assert (kept(bench).attempt, kept(bench).unmasking is None) == (1, False)
    bench.open()
    assert asked_again(bench, 2) == "round-closed"


class _Line:
    """A link that brings one message, then waits to be closed."""

    def __init__(self, *_: object) -> None:
        self.closed, self.brought = threading.Event(), False

    def receive(self, _: float) -> Any:
        if not self.brought:
            self.brought = True
            return SimpleNamespace(header=b"", bulk=())
        self.closed.wait(_PATIENCE_S)
        raise TransportError("link-closed", "")

    def reply(self, *_: object) -> None:
        pass

    def close(self) -> None:
        self.closed.set()


def test_a_run_has_one_session_until_its_thread_has_ended(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy, done = threading.Event(), threading.Event()

    def answer(*_: object) -> tuple[bytes, tuple[bytes, ...]]:
        busy.set()
        assert done.wait(_PATIENCE_S)
        return b"", ()

    monkeypatch.setattr(node_module, "FleetLink", _Line)
    monkeypatch.setattr(node_module, "endpoint_of", lambda *_: None)
    monkeypatch.setattr(serving, "_LEAVE_WITHIN_S", 0.0)
    monkeypatch.setattr(type(bench.stores.home), "flower_key", lambda _: None)
    monkeypatch.setattr(Session, "answer", answer)
    registry = SimpleNamespace(run=lambda _: SimpleNamespace(state="running"))
    daemon = Node(bench.stores, cast(RegistryClient, registry))
    contact: Any = SimpleNamespace(check=lambda: None)
    daemon._serve(bench.run, contact)
    first = daemon.served[bench.run]
    assert busy.wait(_PATIENCE_S)
    daemon._follow_absent(set())  # an inbox that leaves the run out once
    daemon._serve(bench.run, contact)  # and then lists it again
    assert daemon.served[bench.run] is first
    done.set()
    first.thread.join(_PATIENCE_S)
    daemon._serve(bench.run, contact)
    second = daemon.served[bench.run]
    assert second is not first and not second.left
    daemon._leave(bench.run, "the test is over")
    second.thread.join(_PATIENCE_S)
    assert not daemon.served


def test_a_run_that_is_to_end_is_not_served_from_then_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that comes up after its aggregator's key was revoked does not answer it for a poll."""
    served: list[str] = []
    monkeypatch.setattr(Node, "_serve", lambda _, run, __: served.append(run))
    daemon, contact = Node(bench.stores, cast(RegistryClient, None)), cast(RegistryContact, None)
    told = SimpleNamespace(id=bench.run, state="running", consents=[], stop_requested="revoked")
    daemon._attend(cast(RunView, told), contact)
    assert served == []
    told.stop_requested = None
    daemon._attend(cast(RunView, told), contact)
    assert served == [bench.run]


def test_links_connect_again_when_a_registry_that_was_away_too_long_is_back(bench: Bench) -> None:
    stores, again = bench.stores, threading.Event()
    stores.state.put("registry-seen", "2020-01-01T00:00:00Z")
    daemon = Node(stores, cast(RegistryClient, None))
    served: Any = SimpleNamespace(link=SimpleNamespace(reconnect=again.set))
    daemon.served[bench.run] = served
    contact = RegistryContact(stores, grace_s=900.0)
    daemon._heard(contact)
    assert again.is_set()
    again.clear()
    daemon._heard(contact)
    assert not again.is_set()


def test_r2_of_the_next_round_erases_held_shares_on_disk(bench: Bench) -> None:
    bench.uploaded(0, 0)
    rows = bench.stores.rounds._db.execute("SELECT sealed FROM rounds").fetchall()
    before = bytes(rows[0][0])
    bench.uploaded(1, 0)
    for path in bench.stores.home.path.glob("rounds.db*"):
        assert before[:200] not in path.read_bytes()


class _Registry:
    """Lists withdrawals; the pages given first are lies."""

    def __init__(self, bench: Bench, *lies: list[Any]) -> None:
        own = bench.three.world.withdrawal(bench.three.world.hospitals[0])
        self.lies = list(lies)
        self.truth = SimpleNamespace(sequence=41, hash=own.hash, envelope=own)

    def dataset(self, dataset: str) -> Any:
        return SimpleNamespace(versions=[], profiles=[])

    def records(self, after: int, kind: str) -> list[Any]:
        if kind != "withdrawal":
            return []
        if self.lies:
            return self.lies.pop(0)
        return [self.truth] if after < self.truth.sequence else []


def test_a_false_sequence_number_hides_no_withdrawal_from_the_next_start(bench: Bench) -> None:
    world, agreements = make_world(3), bench.stores.agreements
    known = bench.three.world.agreement_hash
    said = world.withdrawal(world.hospitals[0])
    lie = SimpleNamespace(sequence=2**53 - 1, hash=said.hash, envelope=said)
    registry = _Registry(bench, [lie], [])
    seen = refresh(bench.stores, cast(RegistryClient, registry))
    assert seen == {"withdrawal": lie.sequence, "suspension": 0, "resumption": 0}
    assert not halts.withdrawn(agreements, known)
    seen = refresh(bench.stores, cast(RegistryClient, registry))
    assert seen["withdrawal"] == registry.truth.sequence
    assert halts.withdrawn(agreements, known)
    registry.lies = [[registry.truth], [registry.truth]]  # the same page for ever
    with pytest.raises(FormatError, match="bad-answer"):
        refresh(bench.stores, cast(RegistryClient, registry))
