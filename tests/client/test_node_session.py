"""One run at a node: what it answers, what it spends, what it hides, and what a restart leaves."""

import gc
import itertools
import logging
import os
import sqlite3
import tracemalloc
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog
import torch

from accord_client import halts, outbox
from accord_client.agreements import Agreements
from accord_client.devices import DeviceChoice
from accord_client.limits import Limits
from accord_client.refusals import SILENT
from accord_client.session import Session
from accord_client.stores import Stores
from accord_client.training.train import LocalPlan
from accord_common import wire
from accord_common.agreement import WITHDRAWAL, Withdrawal
from accord_common.envelope import Envelope, sign
from accord_common.errors import AccordError, DataError, PolicyError, TransportError
from accord_common.fields import format_time, now
from accord_common.manifest import RunManifest
from accord_common.privacy.filter import Cap, RdpFilter
from accord_common.receipts import NODE_RECEIPT, RESULT, NodeReceipt, RunResult
from accord_common.secagg.messages import Advertisement, cohort_hash
from accord_server.aggregator.secagg import Attempt
from tests.client.institutions import (
    Aggregator,
    Institutions,
    Refused,
    make_institutions,
    stranger,
    write_table,
)


@pytest.fixture
def three(tmp_path: Path) -> Institutions:
    return make_institutions(tmp_path)


@pytest.fixture
def quiet() -> Iterator[None]:
    """No log lines: pytest keeps them, which a test of memory must not count."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    yield
    structlog.reset_defaults()


class Bench:
    """One node's session under test; its peers only advertise."""

    def __init__(self, three: Institutions, stores: Stores, manifest: Envelope) -> None:
        self.three, self.stores, self.manifest = three, stores, manifest
        self.run = three.accept(stores, manifest)
        self.aggregator = Aggregator.of(three, manifest)
        self.peers = {
            party: stranger(three, manifest, party)
            for party in three.parties
            if party != stores.party
        }
        self.now = now()
        self.silent: TransportError | None = None
        self.session = self.open()

    def open(self) -> Session:
        """A new session over the same folder: what a restart leaves."""
        self.session = Session(
            self.stores, self.run, check_registry=self._check, clock=lambda: self.now
        )
        return self.session

    def cohort(self, round_: int, attempt: int) -> list[Envelope]:
        """R0 with everybody."""
        own = self.aggregator.advertise(self.session, round_, attempt)
        members = {party: peer.advertise(round_, attempt) for party, peer in self.peers.items()}
        members[self.stores.party] = own
        return [members[party] for party in self.three.parties]

    def shared(self, round_: int, number: int) -> Attempt:
        """R0 and R1 with everybody."""
        attempt = self.aggregator.attempt(round_, number)
        for party, envelope in zip(self.three.parties, self.cohort(round_, number), strict=True):
            attempt.advertise(party, envelope)
        cohort = attempt.close_cohort()
        own = self.aggregator.share(self.session, round_, number, cohort)
        attempt.share(self.stores.party, own)
        for party, peer in self.peers.items():
            attempt.share(party, peer.share(round_, number, cohort))
        attempt.close_sharers()
        return attempt

    def train(self, attempt: Attempt) -> wire.UpdateReply:
        return self.aggregator.train(self.session, attempt, self.stores.party)[0]

    def uploaded(self, round_: int = 0, number: int = 0) -> Attempt:
        """R0 to R2 with everybody; the peers add noise."""
        attempt = self.shared(round_, number)
        reply, bulk = self.aggregator.train(self.session, attempt, self.stores.party)
        attempt.fold(self.stores.party, reply.upload, bulk)
        cohort = cohort_hash(attempt.advertised[party] for party in attempt.cohort)
        for party, peer in self.peers.items():
            sealed = attempt.sealed_for(party)
            sharers = peer.open_sharers(
                round_, number, cohort, attempt.sharers, sealed, attempt.model
            )
            words = np.zeros(attempt.manifest.dimension, np.uint32)
            attempt.fold(party, *peer.mask(sharers, words))
        attempt.close_uploads()
        return attempt

    def confirmed(self, attempt: Attempt) -> list[Envelope]:
        """R3 with everybody."""
        own = self.aggregator.confirm(self.session, attempt).envelope
        attempt.confirm(self.stores.party, own)
        for party, peer in self.peers.items():
            envelope = peer.confirm(attempt.round, attempt.attempt, attempt.uploads)
            attempt.confirm(party, envelope)
        return attempt.close_confirmations()

    def serve(self, round_: int, attempt: int) -> wire.UpdateReply:
        return self.train(self.shared(round_, attempt))

    def charged(self) -> list[tuple[int, int]]:
        entries = self.stores.ledger.entries(run=self.manifest.hash)
        return [(entry.spend.round, entry.spend.attempt) for entry, _ in entries]

    def refusal(self, round_: int, attempt: int) -> Refused:
        with pytest.raises(Refused) as caught:
            self.serve(round_, attempt)
        return caught.value

    def _check(self) -> None:
        if self.silent is not None:
            raise self.silent


@pytest.fixture
def bench(three: Institutions) -> Iterator[Bench]:
    with three.open(three.parties[1]) as stores:
        yield Bench(three, stores, three.manifest(software="0.0.9+elsewhere"))


def test_three_nodes_sum_and_learn(three: Institutions) -> None:
    manifest = three.manifest()
    with ExitStack() as stack:
        opened = {party: stack.enter_context(three.open(party)) for party in three.parties}
        sessions = {
            party: Session(stores, three.accept(stores, manifest))
            for party, stores in opened.items()
        }
        aggregator = Aggregator.of(three, manifest)
        start = aggregator.model
        for round_ in range(3):
            aggregator.round(sessions, round_)
        assert np.isfinite(aggregator.model).all() and not np.array_equal(aggregator.model, start)
        for stores in opened.values():
            kinds = [line.kind for line in outbox.lines(stores.outbox.path)]
            assert kinds == ["advertisement", "shares", "upload", "confirmation", "unmasking"] * 3
            assert len(stores.ledger.entries(run=manifest.hash)) == 3


def test_receipts_chain_from_the_consent_and_carry_the_ledger(bench: Bench) -> None:
    bench.serve(0, 0)
    bench.serve(1, 2)
    records = []
    while (item := bench.stores.state.next_queued()) is not None:
        records.append(item.envelope)
        bench.stores.state.posted(item, taken=True)
    consent, *receipts = records
    assert consent.kind == "consent" and len(receipts) == 2
    previous = consent.hash
    for envelope, place in zip(receipts, [(0, 0), (1, 2)], strict=True):
        assert envelope.kind == NODE_RECEIPT
        envelope.verify([bench.stores.key.public])
        receipt = NodeReceipt.from_bytes(envelope.payload)
        assert receipt.previous == previous
        assert (receipt.round, receipt.attempt) == place
        assert (receipt.ledger.spend.round, receipt.ledger.spend.attempt) == place
        previous = envelope.hash


def test_the_update_carries_the_next_key_except_after_the_last_round(bench: Bench) -> None:
    following = bench.serve(0, 0).next
    assert following is not None
    assert following == bench.aggregator.advertise(bench.session, 1, 0)
    assert bench.serve(2, 0).next is None


def test_an_attempt_is_served_once_and_never_out_of_order(bench: Bench) -> None:
    bench.serve(1, 1)
    for round_, attempt in [(1, 1), (1, 0), (0, 4)]:
        assert bench.refusal(round_, attempt).code == "stale-attempt"
    assert bench.charged() == [(1, 1)]


def test_a_repeated_train_message_is_refused_and_not_charged(bench: Bench) -> None:
    attempt = bench.shared(0, 0)
    bench.train(attempt)
    with pytest.raises(Refused) as caught:
        bench.train(attempt)
    assert caught.value.code == "stale-attempt"
    assert bench.charged() == [(0, 0)]


def test_a_restart_forgets_keys_and_repeats_no_attempt(bench: Bench) -> None:
    attempt = bench.shared(0, 0)
    bench.open()
    with pytest.raises(Refused) as caught:
        bench.train(attempt)
    assert caught.value.code == "no-mask-key"
    assert bench.charged() == []
    bench.serve(0, 1)
    bench.open()
    assert bench.refusal(0, 1).code == "stale-attempt"
    bench.serve(0, 2)
    assert bench.charged() == [(0, 1), (0, 2)]


def test_what_the_ledger_holds_counts_even_if_the_state_was_lost(bench: Bench) -> None:
    bench.serve(0, 0)
    path = bench.stores.home.path / "node.db"
    with sqlite3.connect(path) as db:
        db.execute("UPDATE runs SET round = -1, attempt = -1")
    db.close()
    bench.stores.rounds.erase(bench.run)
    bench.open()
    refused = bench.refusal(0, 0)
    assert refused.code == "already-charged"
    assert bench.charged() == [(0, 0)]


def test_attempts_are_bounded_by_the_manifest(bench: Bench) -> None:
    for attempt in range(5):
        bench.serve(0, attempt)
    bench.open()
    assert bench.refusal(1, 0).code == "too-many-attempts"
    assert len(bench.charged()) == 5


def test_no_round_beyond_the_manifest(bench: Bench) -> None:
    assert bench.refusal(3, 0).code == "no-such-round"


@pytest.mark.parametrize(
    ("model", "name", "code"),
    [
        (bytes(4), None, "wrong-length"),
        (None, "ab" * 32, "wrong-model"),
        (np.ones(3, np.float32).tobytes(), None, "wrong-model"),
    ],
)
def test_a_wrong_model_is_refused_before_anything_is_spent(
    bench: Bench, model: bytes | None, name: str | None, code: str
) -> None:
    with pytest.raises(Refused) as caught:
        bench.aggregator.train(
            bench.session, bench.shared(0, 0), bench.stores.party, model=model, name=name
        )
    assert caught.value.code == code
    assert bench.charged() == []


def test_a_model_with_nan_is_refused(bench: Bench) -> None:
    bad = np.array([0, np.nan, 1], np.float32).tobytes()
    with pytest.raises(Refused) as caught:
        bench.aggregator.train(bench.session, bench.shared(1, 0), bench.stores.party, model=bad)
    assert caught.value.code == "model-not-finite"
    assert bench.charged() == []


def test_a_small_or_altered_cohort_is_refused_before_anything_is_spent(bench: Bench) -> None:
    cohort = bench.cohort(0, 0)
    own = bench.three.parties.index(bench.stores.party)
    exchanged = list(cohort)
    exchanged[own] = stranger(bench.three, bench.manifest, bench.stores.party).advertise(0, 0)
    for members, code in [(cohort[:2], "small-cohort"), (exchanged, "altered-advertisement")]:
        with pytest.raises(Refused) as caught:
            bench.aggregator.share(bench.session, 0, 0, members)
        assert caught.value.code == code
    assert bench.charged() == []


def test_a_peers_weak_mask_key_is_refused_before_anything_is_spent(bench: Bench) -> None:
    cohort = bench.cohort(0, 0)
    for party, peer in bench.peers.items():
        place = bench.three.parties.index(party)
        honest = Advertisement.from_bytes(cohort[place].payload)
        weak = honest.model_copy(update={"mask_key": "00" * 32})
        told = [
            *cohort[:place],
            sign(Advertisement.KIND, weak, peer.node_key),
            *cohort[place + 1 :],
        ]
        with pytest.raises(Refused) as caught:
            bench.aggregator.share(bench.session, 0, 0, told)
        assert caught.value.code == "weak-mask-key"
    assert bench.charged() == []


def test_an_attempt_beyond_the_manifest_gets_no_key(bench: Bench) -> None:
    beyond = bench.session.manifest.max_attempts_total
    with pytest.raises(Refused) as caught:
        bench.aggregator.advertise(bench.session, 0, beyond)
    assert caught.value.code == "no-such-attempt"


def test_a_charge_names_the_software_that_runs_here(bench: Bench) -> None:
    bench.serve(0, 0)
    ((entry, _),) = bench.stores.ledger.entries(run=bench.manifest.hash)
    assert entry.spend.code_version == version("accord")


def test_another_runs_message_is_refused(bench: Bench) -> None:
    request = wire.Advertise(manifest="0" * 64, round=0, attempt=0)
    reply = wire.decode_reply(bench.session.answer(wire.encode(request), ())[0])
    assert isinstance(reply, wire.Refusal) and reply.code == "wrong-manifest"


def test_garbage_is_refused_and_noted(bench: Bench) -> None:
    reply = wire.decode_reply(bench.session.answer(b"{}", ())[0])
    assert isinstance(reply, wire.Refusal) and reply.code == "unknown-message"
    (line,) = outbox.lines(bench.stores.outbox.path)
    assert (line.kind, line.to, line.run) == ("refusal", "aggregator", bench.run)


def test_a_withdrawal_ends_the_run_here(bench: Bench) -> None:
    bench.serve(0, 0)
    world, own = bench.three.world, Agreements.of(bench.stores.home)
    other = bench.three.actor(bench.three.parties[0])
    genuine = world.withdrawal(other)
    record = Withdrawal.from_bytes(genuine.payload)
    assert halts.keep(own, sign(WITHDRAWAL, record, world.coordinator.identity)) is None
    bench.serve(0, 1)
    assert halts.keep(own, genuine) == world.agreement_hash
    assert bench.refusal(1, 0).code == "agreement-withdrawn"
    assert bench.charged() == [(0, 0), (0, 1)]


def test_a_new_version_ends_the_run_here(bench: Bench) -> None:
    newer, own = bench.three.world.next_version(), Agreements.of(bench.stores.home)
    # Nobody makes this node take what its steward did not sign.
    assert not own.complete(newer.agreement_envelope)
    bench.serve(0, 0)
    own.sign(newer.agreement, bench.three.actor(bench.stores.party).identity)
    bench.serve(0, 1)  # a version that is not complete replaces nothing
    assert own.complete(newer.agreement_envelope)
    assert bench.refusal(0, 2).code == "agreement-superseded"


@pytest.mark.parametrize(
    ("later", "code"),
    [(timedelta(days=366), "agreement-expired")],
)
def test_what_expires_during_a_run_ends_it_here(bench: Bench, later: timedelta, code: str) -> None:
    bench.serve(0, 0)
    bench.now = now() + later
    assert bench.refusal(1, 0).code == code
    assert bench.charged() == [(0, 0)]


def test_an_expired_delegation_ends_the_run_here(tmp_path: Path) -> None:
    three = make_institutions(tmp_path, delegation_days=30)
    with three.open(three.parties[0]) as stores:
        bench = Bench(three, stores, three.manifest())
        bench.serve(0, 0)
        bench.now = now() + timedelta(days=31)
        assert bench.refusal(1, 0).code == "delegation-expired"


def test_a_stop_and_a_silent_registry_end_attempts(bench: Bench) -> None:
    bench.silent = TransportError("registry-outage", "silent")
    assert bench.refusal(0, 0).code == "registry-outage"
    bench.silent = None
    bench.serve(0, 0)
    bench.session.stop("the coordinator asked")
    assert bench.refusal(1, 0).code == "run-stopped"


def test_a_changed_table_costs_nothing_and_tells_nothing(bench: Bench) -> None:
    table = bench.three.folder / "table-1.csv"
    table.write_text("radius,texture,malignant\nSECRET-CELL,1,0\n")
    refused = bench.refusal(0, 0)
    assert refused.code == "dataset-changed"
    assert "table" not in refused.message and "SECRET" not in refused.message
    assert bench.charged() == []


def test_a_refusal_leaves_though_the_state_takes_no_note_of_it(bench: Bench) -> None:
    """Else the aggregator waits for a node that has said all it will, until the deadline."""
    bench.stores.state._db.execute("PRAGMA query_only = ON")  # what a disk that fails looks like
    (bench.three.folder / "table-1.csv").write_text("radius,texture,malignant\n")
    assert bench.refusal(0, 0).code == "dataset-changed"
    bench.stores.state._db.execute("PRAGMA query_only = OFF")
    assert bench.charged() == []


def test_a_disk_that_takes_nothing_is_known_until_it_does(bench: Bench) -> None:
    bench.stores.state._db.execute("PRAGMA query_only = ON")
    assert bench.refusal(0, 0).code == "state-unwritable"
    assert bench.session.held_back.speechless
    assert bench.session.held_back.passed()
    bench.stores.state._db.execute("PRAGMA query_only = OFF")
    bench.serve(0, 1)
    assert not bench.session.held_back and not bench.session.held_back.speechless


def test_a_device_that_is_gone_costs_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    bench.session = Session(bench.stores, bench.run, limits=Limits(device=DeviceChoice.CUDA))
    assert bench.refusal(0, 0).code == "no-cuda"
    assert bench.charged() == []


def test_a_table_that_breaks_its_contract_is_charged_and_tells_nothing(bench: Bench) -> None:
    """Somebody put the time stamp back: the digest shows it after the charge."""
    table = bench.three.folder / "table-1.csv"
    stat = table.stat()
    text = table.read_text()
    last = "9" if not text.rstrip().endswith("9") else "8"
    table.write_text(text.rstrip()[:-1] + last + "\n")
    os.utime(table, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    refused = bench.refusal(0, 0)
    assert refused.code == "dataset-changed"
    assert str(table) not in refused.message
    assert bench.charged() == [(0, 0)]


def test_training_gets_the_constants_of_the_manifest(
    three: Institutions, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[LocalPlan] = []

    def noted(task: object, module: object, vector: Any, *rest: Any, **_: object) -> Any:
        given.append(rest[1])
        return np.zeros_like(vector)

    monkeypatch.setattr("accord_client.training.train.train_round", noted)
    local = {"steps": 6, "learning_rate": "0.25", "clipping_norm": "1", "clipping": "automatic"}
    manifest = three.manifest(local=local)
    with three.open(three.parties[1]) as stores:
        Bench(three, stores, manifest).serve(0, 0)
    (site,) = {
        (site.sampling_rate, site.noise_multiplier)
        for site in RunManifest.from_bytes(manifest.payload).roster
    }
    size = 200  # as agreed; the table has 60 rows
    assert given == [LocalPlan(6, site[0], size, "1", site[1], "0.25", "automatic")]


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("row 17 has the value 42.0"),
        MemoryError("42 GiB"),
        AccordError("row-17-is-rare", "42"),
        DataError("too-few-rows", "42 rows"),
        PolicyError("label-of-42", "42"),
    ],
)
def test_what_fails_after_the_table_was_opened_tells_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Not even by a code of its own: a task, or a table, could choose among many."""

    def explode(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("accord_client.training.train.train_round", explode)
    refused = bench.refusal(0, 0)
    assert (refused.code, refused.message) == ("node-error", SILENT)
    assert bench.charged() == [(0, 0)]


def test_a_budget_that_ends_with_a_round_refuses_the_next_one_before_it(bench: Bench) -> None:
    """Keys for a round that this node cannot pay would have the others charged for nothing."""
    agreed = bench.three.world.agreement.datasets[0].privacy
    bench.serve(0, 0)
    ((entry, _),) = bench.stores.ledger.entries(run=bench.manifest.hash)
    rule, spends = RdpFilter(Cap(epsilon="0", delta=agreed.delta)), [entry.spend]
    for steps in itertools.count(1):  # leave room for one attempt more, and not for two
        other = entry.spend.model_copy(update={"run": "77" * 32, "steps": steps})
        if rule.epsilon([*spends, other, *spends, *spends]) > float(agreed.epsilon_cap):
            break
    bench.stores.ledger.charge(other, [Cap(epsilon="1000000", delta=agreed.delta)], now)
    reply = bench.train(bench.shared(1, 0))
    assert isinstance(reply.next, wire.Refusal) and reply.next.code == "budget-exceeded"
    run = bench.stores.state.run(bench.run)
    assert run is not None and (run.refused_round, run.refused_code) == (2, "budget-exceeded")
    assert agreed.epsilon_cap in run.refused_reason  # the steward reads all of it
    with pytest.raises(Refused) as caught:
        bench.aggregator.advertise(bench.session, 2, 0)
    assert caught.value.code == "budget-exceeded"
    assert bench.charged() == [(0, 0), (1, 0)]


def test_a_spent_budget_refuses_without_saying_what_was_spent(bench: Bench) -> None:
    """Another run spends on the same people after this one was accepted."""
    entry = bench.stores.ledger
    bench.serve(0, 0)
    (first,) = entry.entries(run=bench.manifest.hash)
    greedy = first[0].spend.model_copy(
        update={"run": "77" * 32, "steps": 1000, "noise_multiplier": "1"}
    )
    entry.charge(greedy, [Cap(epsilon="1000000", delta="0.00001")], now)
    refused = bench.refusal(0, 1)
    assert refused.code == "budget-exceeded"
    assert not any(character.isdigit() for character in refused.message)
    assert bench.charged() == [(0, 0)]


@pytest.mark.parametrize(
    ("file", "table"),
    [
        ("ledger.db", "entries"),
        ("ledger.db", "rules"),
        ("node.db", "runs"),
        ("rounds.db", "rounds"),
    ],
)
def test_a_damaged_file_of_the_node_is_not_named_to_the_aggregator(
    bench: Bench, file: str, table: str
) -> None:
    attempt = bench.shared(0, 0)
    with closing(sqlite3.connect(bench.stores.home.path / file)) as db:
        db.execute(f"DROP TABLE {table}")
    with pytest.raises(Refused) as caught:
        bench.train(attempt)
    told = "ledger-broken" if file == "ledger.db" else "node-error"
    assert (caught.value.code, caught.value.message) == (told, SILENT)


def test_finish_needs_the_receipt_key(bench: Bench) -> None:
    result = RunResult(
        previous=bench.manifest.hash,
        manifest=bench.manifest.hash,
        status="completed",
        cause="",
        code="",
        refused={},
        rounds=3,
        model="ab" * 32,
        epsilon=[],
        created=format_time(now()),
    )
    for key, type_ in [(bench.stores.key, "refusal"), (bench.three.keys.receipt, "done")]:
        request = wire.Finish(manifest=bench.manifest.hash, result=sign(RESULT, result, key))
        reply = wire.decode_reply(bench.session.answer(wire.encode(request), ())[0])
        assert reply.type == type_
    assert bench.session.over
    run = bench.stores.state.run(bench.run)
    assert run is not None and run.state == "completed"


def test_an_updated_table_is_taken_up_in_mid_run(bench: Bench) -> None:
    bench.serve(0, 0)
    write_table(bench.three.folder / "table-1.csv", rows=70, seed=9)
    assert bench.refusal(1, 0).code == "dataset-changed"
    (dataset,) = bench.stores.datasets.all()
    assert bench.stores.datasets.update(dataset, policy=dataset.policy).mark.rows == 70
    bench.serve(1, 1)


def test_a_hundred_rounds_with_two_restarts_spend_what_one_composition_does(
    three: Institutions, quiet: None
) -> None:
    manifest = three.manifest(
        rounds=100, max_attempts_total=103, site={"noise_multiplier": "20"}, hidden=[2000]
    )
    runs = {}
    for party in three.parties:
        with three.open(party) as stores:
            runs[party] = three.accept(stores, manifest)
    aggregator = Aggregator.of(three, manifest)
    memory: list[int] = []
    for first, after in [(0, 30), (30, 65), (65, 100)]:  # a restart between each two
        with ExitStack() as stack:
            sessions = {
                party: Session(stack.enter_context(three.open(party)), run)
                for party, run in runs.items()
            }
            for round_ in range(first, after):
                if round_ == 88:
                    tracemalloc.start()  # slows the rest down
                aggregator.round(sessions, round_)
                if round_ in (89, 99):
                    gc.collect()
                    memory.append(tracemalloc.get_traced_memory()[0])
            tracemalloc.stop()
    # One vector left behind by each node and round would be 30 x 8,001 x 4 bytes.
    assert memory[1] - memory[0] < 300_000  # bytes
    for party in three.parties:
        with three.open(party) as stores:
            spends = [entry.spend for entry, _ in stores.ledger.entries(run=manifest.hash)]
            assert [spend.round for spend in spends] == list(range(100))
            once = [spends[0].model_copy(update={"steps": sum(s.steps for s in spends)})]
            rule = RdpFilter(Cap(epsilon="3", delta="0.00001"), stores.ledger.orders)
            spent = stores.ledger.epsilon(spends[0].population, "0.00001")
            assert spent == pytest.approx(rule.epsilon(once), abs=1e-9)
            stores.ledger.verify({stores.key.public})
            assert outbox.verify(stores.outbox.path, frozenset({stores.key.public})) == 500


def test_the_clock_is_the_nodes(bench: Bench) -> None:
    moment = datetime.fromisoformat("2026-11-22T03:00:00Z")
    bench.now = max(bench.now, moment)
    bench.serve(0, 0)
    (entry, _), *_ = bench.stores.ledger.entries(run=bench.manifest.hash)
    assert entry.recorded == format_time(bench.now)
