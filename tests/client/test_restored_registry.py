"""The registry comes back from last night's backup: a node gives it what it lacks."""

import threading
from types import SimpleNamespace
from typing import Any, cast

import pytest

from accord_client import node
from accord_client.delivery import deliver, recall
from accord_client.link import FleetLink
from accord_client.node import Node
from accord_client.queueing import require_turn
from accord_common.api.client import RegistryClient
from accord_common.api.schemas import Info, RunView
from accord_common.envelope import Envelope
from accord_common.errors import ConflictError, VerificationError
from accord_common.fields import new_id
from accord_common.manifest import PROTOCOL
from accord_common.pausing import Pause
from accord_common.receipts import NODE_RECEIPT, NodeReceipt
from tests.client.test_reconciling import Registry, Scene


class Older(Registry):
    """It can be set back, and says what a registry says then."""

    leased = True

    def post(self, envelope: Envelope) -> None:
        if envelope.kind == NODE_RECEIPT:
            if not self.leased:
                raise ConflictError("run-not-running", "no aggregator has leased it")
            previous = NodeReceipt.from_bytes(envelope.payload).previous
            if previous not in {stored.hash for stored in self.stored}:
                raise VerificationError("missing-predecessor", "it is not stored here")
        super().post(envelope)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """A consent and two receipts have been posted; each test leaves it as whole as it was."""
    found = Scene(tmp_path_factory.mktemp("scene"))
    found.fake.__class__ = Older
    found.spend((0, 0), (0, 1))
    return found


def view(scene: Scene) -> RunView:
    return cast(RunView, scene.fake.run(scene.bench.run))


def test_the_next_receipt_brings_the_lost_ones_along(scene: Scene) -> None:
    had = list(scene.fake.stored)
    scene.fake.stored = had[:1]  # the consent
    scene.spend((0, 2), post=False)
    with scene.open() as stores:
        assert deliver(stores, scene.registry) == 4  # the consent again: it changes nothing
        assert scene.fake.stored[:3] == had and len(scene.fake.stored) == 4
        assert stores.state.queued() == 0
        lines = stores.outbox.path.read_text().splitlines()
        assert len(lines) >= 4 + 2  # what leaves again has its line again


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_what_a_run_shows_no_more_is_sent_again_though_nothing_waits(
    scene: Scene, kept: int
) -> None:
    """The consent too: without it the run would wait for this site until it ends."""
    had = list(scene.fake.stored)
    lacks = len(had) - kept
    scene.fake.stored = had[:kept]
    with scene.open() as stores:
        recall(stores, scene.registry, view(scene))
        assert stores.state.queued() == lacks
        assert deliver(stores, scene.registry) == lacks and scene.fake.stored == had
        recall(stores, scene.registry, view(scene))
        assert stores.state.queued() == 0


def test_a_registry_that_has_more_than_this_node_lacks_nothing(scene: Scene) -> None:
    """Its head is none of this folder's, which is an older copy: nothing is sent, at any look."""
    newer = SimpleNamespace(party=scene.party, head="ff" * 32)
    registry = SimpleNamespace(run=lambda run: SimpleNamespace(id=run, consents=[newer]))
    with scene.open() as stores:
        recall(stores, cast(RegistryClient, registry), registry.run(scene.bench.run))
        assert stores.state.queued() == 0


def test_receipts_wait_until_the_aggregator_has_the_run_again(scene: Scene) -> None:
    scene.spend((0, 3), post=False)
    fake = cast(Older, scene.fake)
    fake.leased = False
    with scene.open() as stores:
        assert deliver(stores, scene.registry) == 0 and stores.state.queued() == 1
        fake.leased = True
        assert deliver(stores, scene.registry) == 1


def test_a_registry_of_another_protocol_is_asked_for_nothing_else(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once it has been upgraded, the node finds out by itself."""
    upgraded, heard = threading.Event(), threading.Event()
    told: list[str] = []
    monkeypatch.setattr(node, "_MOST_PAUSE_S", 0.05)
    monkeypatch.setattr(Pause, "after", lambda _, event, error, **__: told.append(error.code))

    def info() -> Info:
        if len(told) == 2:
            upgraded.set()
        number = PROTOCOL + (not upgraded.is_set())
        return Info(protocol=number, version="9.9.9", log_key="00" * 32)

    def inbox(cursor: int, _: float) -> Any:
        assert upgraded.is_set()
        daemon.stop()
        heard.set()
        return SimpleNamespace(cursor=cursor, runs=[])

    monkeypatch.setattr(scene.fake, "info", info)
    monkeypatch.setattr(scene.fake, "inbox", inbox)
    monkeypatch.setattr(scene.fake, "records", lambda *_, **__: [])  # withdrawals
    nothing = SimpleNamespace(versions=[], profiles=[])
    monkeypatch.setattr(scene.fake, "dataset", lambda _: nothing, raising=False)
    monkeypatch.setattr(Node, "_serve", lambda *_: None)
    monkeypatch.setattr(node, "follow", lambda *_: None)  # the log is the other tests'
    with scene.open() as stores:
        daemon = Node(stores, scene.registry)
        daemon.run()
        assert heard.wait(10) and set(told[:2]) == {"protocol-differs"}


def test_a_registry_that_lies_about_predecessors_is_believed_once(scene: Scene) -> None:
    def lie(envelope: Envelope) -> None:
        if envelope.kind == NODE_RECEIPT:
            raise VerificationError("missing-predecessor", "no")

    with scene.open() as stores:
        assert stores.state.recall(scene.bench.run, scene.fake.stored[0].hash)
        registry = cast(RegistryClient, SimpleNamespace(post=lie))
        assert deliver(stores, registry) == 1  # the consent, again
        assert stores.state.queued() == 0


def test_a_run_that_the_registry_forgot_holds_up_no_other(scene: Scene) -> None:
    with scene.open() as stores:
        run = stores.state.run(scene.bench.run)
        assert run is not None
        with pytest.raises(ConflictError):
            require_turn(stores, new_id(), run.dataset, None)
        left: list[str] = []
        daemon = Node(stores, cast(RegistryClient, scene.fake))
        served: Any = SimpleNamespace(link=cast(FleetLink, None), leave=left.append)
        daemon.served[run.id] = served
        scene.fake.run_id = ""
        for _ in range(2):
            daemon._follow_absent(set())
        forgotten = stores.state.run(run.id)
        assert forgotten is not None and forgotten.code == "run-forgotten" and len(left) == 1
        require_turn(stores, new_id(), run.dataset, None)
