"""The aggregator's process against a real registry: offers, leases, deliveries, refusals, stops."""

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path

import httpx
import numpy as np
import pytest
from starlette.requests import Request

from accord_client.secagg import NodeSecAgg
from accord_common import wire
from accord_common.api.client import RegistryClient
from accord_common.api.schemas import FINAL_STATES, RunView
from accord_common.canonical import sha256_hex
from accord_common.chain import VerifiedRun, fetch_result, fetch_run
from accord_common.envelope import Envelope
from accord_common.errors import AccordError, ConflictError, PolicyError
from accord_common.home import Home, Profile
from accord_common.manifest import SecAgg
from accord_common.terms import required_bound
from accord_common.vectors import scale_for
from accord_server.aggregator import registry_client
from accord_server.aggregator.locking import lock
from accord_server.aggregator.offers import Endpoint
from accord_server.aggregator.service import Service
from accord_server.aggregator.transport import InProcessTransport, Transport
from accord_server.registry.errors import problem
from tests.server.registry.stack import URL, InProcess, Stack
from tests.simulator import Answer, Fault, SimNode, refuses
from tests.world import INITIAL_MODEL, RunKeys

_FAILED = HTTPStatus.INTERNAL_SERVER_ERROR
ENDPOINT = Endpoint("127.0.0.1:9092", "ab" * 32)
ELSEWHERE = Endpoint("127.0.0.1:1", "ab" * 32)


class Line(httpx.BaseTransport):
    """The aggregator's line to the registry, which a test can cut."""

    def __init__(self, inner: InProcess) -> None:
        self.inner = inner
        self.down = threading.Event()
        self._under_way = 0
        self._changed = threading.Condition()
        self.failing = 0  # how many of the next records it answers with one of these, in turn
        self.errors = (
            AccordError("internal-error", "the registry failed"),
            PolicyError("party-suspended", "for now"),
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if self.down.is_set():
            raise httpx.ConnectError("line cut", request=request)
        if self.failing and (request.method, request.url.path) == ("POST", "/v1/records"):
            if b"aggregator-receipt" in request.read():
                self.failing -= 1
                asked = Request({"type": "http", "headers": []})
                failure = problem(asked, self.errors[self.failing % 2], _FAILED)
                return httpx.Response(500, content=bytes(failure.body), request=request)
        with self._counted():
            return self.inner.handle_request(request)

    def cut(self) -> None:
        """Let nothing more through, and return when nothing is under way."""
        self.down.set()
        with self._changed:
            assert self._changed.wait_for(lambda: not self._under_way, 60)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        with self._changed:
            self._under_way += 1
        try:
            yield
        finally:
            with self._changed:
                self._under_way -= 1
                self._changed.notify_all()


class Site:
    """One aggregator, its line, and its nodes' faults by (index, type, round, attempt)."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.stack = stack
        self.line = Line(InProcess(stack.http))
        self.home = home_of(stack, folder)
        self.faults: dict[tuple[int, str, int, int], Fault] = {}

    def service(self) -> Service:
        token = self.stack.tokens[self.stack.world.aggregator.id]
        ca_pem = self.stack.settings.ca.read_bytes()
        client = RegistryClient(URL, ca_pem, token, transport=self.line)
        return Service(self.home, client, ENDPOINT, self._open)

    @contextmanager
    def serving(self) -> Iterator[Service]:
        service = self.service()
        service.publish()
        thread = threading.Thread(target=service.serve)
        thread.start()
        try:
            yield service
        finally:
            service.terminate()
            thread.join(20)
            assert not thread.is_alive()
            for other in threading.enumerate():  # a long poll that the registry still answers
                if other.name == "inbox":
                    other.join(5)

    def _open(self, run: VerifiedRun, folder: Path) -> Transport:
        peers = {party: delegation.node_key for party, delegation in run.delegations.items()}
        nodes = {}
        for index, actor in enumerate(self.stack.world.hospitals):
            secagg = NodeSecAgg(run.manifest, run.manifest_hash, actor.id, actor.node, peers)
            faults = {key[1:]: fault for key, fault in self.faults.items() if key[0] == index}
            nodes[actor.id] = SimNode(actor.id, secagg, run.manifest.secagg.scale, faults)
        return InProcessTransport(nodes)

    def start(self, *, accept: bool = True, **changes: object) -> Envelope:
        """The coordinator takes the newest offer for a run, and every site accepts."""
        offer, *_ = self.stack.client(self.stack.world.coordinator).offers()
        receipt = self.stack.world.run_keys().receipt
        changes = {"secagg": required(self.stack), "deadlines": quick()} | changes
        manifest = self.stack.start(RunKeys(receipt, offer.envelope), **changes)
        if accept:
            self.stack.accept(manifest)
        return manifest

    def finished(self, manifest: Envelope, looks: int = 8) -> RunView:
        """Wait for the run's end as the coordinator sees it."""
        client = self.stack.client(self.stack.world.coordinator)
        cursor = 0
        for _ in range(looks):
            (view,) = [run for run in client.runs() if run.manifest_hash == manifest.hash]
            if view.state in FINAL_STATES:
                return view
            cursor = client.inbox(cursor, 2.0).cursor
        raise AssertionError(f"the run is still {view.state}")


def quick() -> dict[str, int]:
    return {"advertise_s": 2, "update_s": 5, "rejoin_s": 1}


def required(stack: Stack) -> SecAgg:
    """The secure-aggregation numbers that follow from the world's agreement."""
    body = stack.world.manifest_body(stack.world.run_keys())
    bound = required_bound(stack.world.agreement, body)
    n = len(body.roster)
    return body.secagg.model_copy(update={"bound": bound, "scale": scale_for(bound, n)})


def home_of(stack: Stack, folder: Path) -> Home:
    """The aggregator's folder, as `accord aggregator init` and `enroll` leave it."""
    actor = stack.world.aggregator
    folder.mkdir(mode=0o700)
    (folder / "node.pem").write_bytes(actor.node.to_pem())
    (folder / "delegation.json").write_bytes(stack.world.delegations[actor.id].to_bytes())
    profile = Profile(
        party=actor.id,
        name=actor.name,
        role="aggregator",
        jurisdiction="DE",
        contact=actor.name,
        identity_key=actor.identity.public,
        registry_url=URL,
    )
    (folder / "profile.json").write_bytes(profile.to_bytes())
    return Home.open(folder)


@pytest.fixture
def site(stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setattr(registry_client, "WAIT_S", 0.5)
    return Site(stack, tmp_path / "aggregator")


def result_envelope(site: Site, manifest: Envelope) -> Envelope:
    client = site.stack.client(site.stack.world.coordinator)
    (view,) = [run for run in client.runs() if run.manifest_hash == manifest.hash]
    (record,) = client.records(kind="result", run=view.id)
    return record.envelope


def test_a_run_of_another_protocol_is_refused_by_name(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An aggregator of a newer release, and a run that an older one planned."""
    monkeypatch.setattr("accord_common.terms.PROTOCOL", 2)
    with site.serving():
        view = site.finished(site.start())
    assert (view.state, view.code) == ("failed", "protocol-mismatch")
    assert "protocol 1" in view.cause and "2" in view.cause


def test_a_run_is_driven_from_ready_to_a_result_that_verifies(site: Site) -> None:
    client = site.stack.client(site.stack.world.coordinator)
    with site.serving():
        manifest = site.start()
        view = site.finished(manifest)
        (fresh,) = client.offers()
    assert (view.state, view.round, view.code) == ("completed", 2, "")
    assert fresh.hash != client.record(manifest.hash).hash
    assert view.model is not None
    model = np.frombuffer(client.get_blob(view.model), np.float32)
    assert model.shape == (3,)
    assert sha256_hex(model.tobytes()) == view.model != sha256_hex(INITIAL_MODEL)
    run = fetch_run(client.record, manifest.hash)
    found = fetch_result(client.record, result_envelope(site, manifest).hash, run)
    assert [receipt.outcome for receipt in found.receipts] == ["completed", "completed"]
    assert {row.attempts for row in found.result.epsilon} == {2}


def test_a_second_run_uses_a_second_offer(site: Site) -> None:
    with site.serving():
        first = site.start()
        assert site.finished(first).state == "completed"
        second = site.start()
        assert site.finished(second).state == "completed"


def test_rounds_go_on_while_the_registry_is_away(site: Site) -> None:
    done = threading.Event()

    def cuts(node: SimNode, request: wire.Request, answer: Answer) -> Answer:
        site.line.down.set()
        return answer

    def last(node: SimNode, request: wire.Request, answer: Answer) -> Answer:
        done.set()
        return answer

    site.faults[0, "train", 0, 0] = cuts
    site.faults[2, "train", 1, 0] = last
    with site.serving():
        manifest = site.start()
        assert done.wait(20)  # both rounds, without a word from the registry
        client = site.stack.client(site.stack.world.coordinator)
        assert [run.state for run in client.runs()] == ["running"]
        site.line.down.clear()
        view = site.finished(manifest)
    assert (view.state, view.round) == ("completed", 2)


def test_what_was_not_delivered_goes_out_after_a_restart(site: Site) -> None:
    done = threading.Event()

    def cuts(node: SimNode, request: wire.Request, answer: Answer) -> Answer:
        site.line.down.set()
        done.set()
        return answer

    site.faults[2, "train", 1, 0] = cuts
    with site.serving():
        manifest = site.start()
        assert done.wait(20)
    site.line.down.clear()
    with site.serving():
        view = site.finished(manifest)
    assert view.state == "completed"


def test_a_run_against_the_agreement_never_starts(site: Site) -> None:
    with site.serving():
        manifest = site.start(rounds=101, max_attempts_total=101)
        view = site.finished(manifest)
    assert (view.state, view.code, view.round) == ("failed", "too-many-rounds", 0)


def test_a_stop_ends_the_run(site: Site) -> None:
    begun = threading.Event()

    def hangs(node: SimNode, request: wire.Request, answer: Answer) -> Answer:
        begun.set()
        return None

    site.faults[0, "train", 0, 0] = hangs
    with site.serving():
        manifest = site.start(deadlines=quick() | {"update_s": 60})
        assert begun.wait(20)
        client = site.stack.client(site.stack.world.coordinator)
        (run,) = client.runs()
        client.stop(run.id, "wrong schema")
        view = site.finished(manifest)
    assert (view.state, view.code) == ("stopped", "stop-requested")
    assert view.cause == "wrong schema"


def test_a_refusing_node_fails_the_run_by_name(site: Site) -> None:
    site.faults[1, "train", 1, 0] = refuses("budget-exceeded")
    with site.serving():
        view = site.finished(site.start())
    assert (view.state, view.code, view.round) == ("failed", "too-few-nodes", 1)
    assert "hospital-2: refused for budget-exceeded [budget-exceeded]" in view.cause


def test_sigterm_leaves_the_run_for_the_next_process(site: Site) -> None:
    begun = threading.Event()

    def hangs(node: SimNode, request: wire.Request, answer: Answer) -> Answer:
        begun.set()
        return None

    site.faults[0, "train", 1, 0] = hangs
    with site.serving():
        manifest = site.start(deadlines=quick() | {"update_s": 60})
        assert begun.wait(20)
    site.faults.clear()
    with site.serving():
        view = site.finished(manifest)
    assert (view.state, view.round) == ("completed", 2)
    rounds = site.stack.client(site.stack.world.coordinator).rounds(view.id)
    assert [(r.round, r.attempt, r.outcome) for r in rounds] == [
        (0, 0, "completed"),
        (1, 0, "aborted"),
        (1, 1, "completed"),
    ]


def test_one_process_serves_a_home(site: Site) -> None:
    held = lock(site.home)
    with pytest.raises(ConflictError, match="already-running"):
        lock(site.home)
    os.close(held)
    os.close(lock(site.home))


def test_an_unused_offer_is_kept_over_restarts(site: Site) -> None:
    first = site.service().publish()
    assert site.service().publish() == first
    moved = Service(site.home, site.service().client, ELSEWHERE, site._open).publish()
    assert moved != first
    assert site.service().publish() not in (first, moved)  # the newest must be the right one


def test_keys_serve_one_manifest(site: Site) -> None:
    service = site.service()
    offer = service.publish()
    keys = service._offers.claim(offer, "01" * 32)
    assert keys is not None
    again = service._offers.claim(offer, "01" * 32)
    assert again is not None and again.receipt.public == keys.receipt.public
    assert service._offers.claim(offer, "02" * 32) is None
    assert service._offers.claim("03" * 32, "01" * 32) is None
    modes = {path.stat().st_mode & 0o777 for path in (site.home.path / "offers" / offer).iterdir()}
    assert modes == {0o600}


def test_a_stop_ends_a_run_that_waits_for_consents(site: Site) -> None:
    client = site.stack.client(site.stack.world.coordinator)
    with site.serving():
        manifest = site.start(accept=False)
        (run,) = client.runs()
        client.stop(run.id, "nobody answers")
        view = site.finished(manifest)
    assert (view.state, view.code, view.cause) == ("stopped", "stop-requested", "nobody answers")
    assert result_envelope(site, manifest).hash


def test_a_damaged_checkpoint_ends_its_run_and_no_other(site: Site) -> None:
    site.faults[0, "train", 1, 0] = lambda node, request, answer: begun.set()
    begun = threading.Event()
    with site.serving():
        manifest = site.start(deadlines=quick() | {"update_s": 60})
        assert begun.wait(20)
    (checkpoint,) = site.home.path.glob("runs/*/checkpoints/*.safetensors")
    checkpoint.write_bytes(b"\0" * checkpoint.stat().st_size)
    site.faults.clear()
    with site.serving():
        broken = site.finished(manifest)
        other = site.finished(site.start())
    assert (broken.state, broken.code, broken.round) == ("failed", "checkpoint-altered", 1)
    assert {row.epsilon != "0" for row in broken.epsilon} == {True}
    assert other.state == "completed"


def test_a_damaged_journal_is_told_and_stops_no_other_run(site: Site) -> None:
    site.faults[0, "train", 1, 0] = lambda node, request, answer: begun.set()
    begun = threading.Event()
    with site.serving():
        first = site.start(deadlines=quick() | {"update_s": 60})
        assert begun.wait(20)
    (journal,) = site.home.path.glob("runs/*/journal")
    journal.write_bytes(b"{}\n" + journal.read_bytes())
    site.faults.clear()
    with site.serving():
        assert site.finished(site.start()).state == "completed"
    client = site.stack.client(site.stack.world.coordinator)
    (view,) = [run for run in client.runs() if run.manifest_hash == first.hash]
    assert "[journal-damaged]" in client.events(view.id)[-1].message


def test_a_full_disk_holds_a_run_up_and_charges_nobody(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, offset: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    client = site.stack.client(site.stack.world.coordinator)
    with monkeypatch.context() as disk:
        disk.setattr(os, "posix_fallocate", full)
        with site.serving():
            manifest = site.start()
            (run,) = client.runs()
            told = [line.message for line in client.events(run.id, after=0)]
            while not any("No space left" in line for line in told):
                after = client.events(run.id)[-1].sequence
                told += [line.message for line in client.events(run.id, after, wait_s=5)]
            disk.undo()
            view = site.finished(manifest)
    assert (view.state, view.round) == ("completed", 2)
    assert all(row.attempt == 0 for row in client.rounds(run.id))


def test_an_internal_error_of_the_registry_loses_no_receipt(site: Site) -> None:
    site.line.failing = 3
    with site.serving():
        view = site.finished(site.start())
    assert (view.state, view.round) == ("completed", 2)
    assert site.line.failing == 0
