"""A ledger that was set back: what shows it, that it is frozen, and how it pays what it owes."""

import json
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from time import monotonic
from types import SimpleNamespace
from typing import Any, cast

import pytest

from accord_client import node, reconciling
from accord_client.cli import main
from accord_client.consent import Verdict
from accord_client.deciding import answer, consider
from accord_client.delivery import deliver
from accord_client.health import examine
from accord_client.node import Node
from accord_client.secagg_memory import Begun
from accord_client.stores import Stores
from accord_common.api.client import RegistryClient
from accord_common.api.schemas import Info
from accord_common.envelope import Envelope, sign
from accord_common.errors import ConflictError, NotFoundError, PolicyError, TransportError
from accord_common.fields import now
from accord_common.home import Home
from accord_common.manifest import PROTOCOL
from accord_common.receipts import CONSENT, NODE_RECEIPT, Consent, NodeReceipt
from tests.client.institutions import Institutions, make_institutions, stranger
from tests.client.test_node_session import Bench

_DELTA = "0.00001"


class Registry:
    """One node's records and its chain in one run, as the real registry keeps and refuses them."""

    url = "https://registry.test"

    def __init__(self, party: str) -> None:
        self.party = party
        self.stored: list[Envelope] = []
        self.run_id = ""
        self.manifest = ""
        self.delegation: Envelope | None = None  # the party's newest
        self.revocation: Envelope | None = None
        self.known: list[Envelope] = []  # records that are no run's
        self.lies = False  # it says `forked-chain` to whatever comes

    @property
    def head(self) -> str | None:
        return next(
            (e.hash for e in reversed(self.stored) if manifest_of(e) == self.manifest), None
        )

    def post(self, envelope: Envelope) -> None:
        if envelope in self.stored:
            return
        if envelope.kind == NODE_RECEIPT:
            if self.lies or NodeReceipt.from_bytes(envelope.payload).previous != self.head:
                raise ConflictError("forked-chain", "the chain goes on from elsewhere")
        else:
            assert envelope.kind == CONSENT
            if any(
                e.kind == CONSENT and manifest_of(e) == manifest_of(envelope) for e in self.stored
            ):
                raise ConflictError("forked-chain", "this party answered before")
        self.stored.append(envelope)

    def partner(self, party: str) -> Any:
        revoked = None if self.revocation is None else self.revocation.hash
        return SimpleNamespace(delegation=self.delegation, revoked=revoked)

    def run(self, run: str) -> Any:
        if run != self.run_id:
            raise NotFoundError("unknown-run", run)
        site = SimpleNamespace(party=self.party, head=self.head)
        return SimpleNamespace(id=run, consents=[site], state="running")

    def runs(self) -> list[Any]:
        return [self.run(self.run_id)]

    def info(self) -> Info:
        return Info(protocol=PROTOCOL, version="0.1.0", log_key="00" * 32)

    def inbox(self, cursor: int, wait_s: float) -> Any:
        return SimpleNamespace(cursor=cursor, runs=[])

    def record(self, hash_: str) -> Envelope:
        (found,) = (e for e in (*self.stored, *self.known) if e.hash == hash_)
        return found

    def records(self, after: int, kind: str, run: str) -> list[Any]:
        assert run == self.run_id
        numbered = enumerate(self.stored, 1)
        return [
            SimpleNamespace(sequence=number, envelope=envelope)
            for number, envelope in numbered
            if number > after and envelope.kind == kind
        ]

    def close(self) -> None:
        pass

    def __enter__(self) -> "Registry":
        return self

    def __exit__(self, *_: object) -> None:
        pass


def manifest_of(envelope: Envelope) -> str:
    body = NodeReceipt if envelope.kind == NODE_RECEIPT else Consent
    return body.from_bytes(envelope.payload).manifest


class Scene:
    """One node, a copy of its folder from before it spent, and a registry that saw it spend."""

    def __init__(self, folder: Path) -> None:
        self.three: Institutions = make_institutions(folder)
        self.party = self.three.parties[1]
        self.home = self.three.homes[self.party]
        self.fake = Registry(self.party)
        self.registry = cast(RegistryClient, self.fake)
        self.manifest = self.three.manifest()
        self.copy = folder / "copy"
        with self.three.open(self.party) as stores:
            self.bench = Bench(self.three, stores, self.manifest)
            self.fake.run_id, self.fake.manifest = self.bench.run, self.manifest.hash
            deliver(stores, self.registry)
        self.back_up()

    def back_up(self) -> None:
        shutil.rmtree(self.copy, ignore_errors=True)
        shutil.copytree(self.home.path, self.copy)

    def restore(self) -> None:
        shutil.rmtree(self.home.path)
        shutil.copytree(self.copy, self.home.path)
        self.bench.now += timedelta(seconds=1)

    @contextmanager
    def open(self) -> Iterator[Stores]:
        bench = self.bench
        with self.three.open(self.party) as stores:
            bench.stores = stores
            bench.peers = {p: stranger(self.three, self.manifest, p) for p in bench.peers}
            bench.open()
            yield stores

    def spend(self, *places: tuple[int, int], post: bool = True) -> None:
        with self.open() as stores:
            for place in places:
                self.bench.serve(*place)
            if post:
                deliver(stores, self.registry)

    def spent(self, stores: Stores) -> float:
        (dataset,) = stores.datasets.all()
        return stores.ledger.epsilon(dataset.population, _DELTA)

    def reconcile(self, stores: Stores) -> int:
        return reconciling.reconcile(stores, reconciling.chains(stores, self.registry), now)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_a_restored_ledger_is_frozen_until_the_gap_is_charged(scene: Scene) -> None:
    scene.spend((0, 0), (0, 1))
    with scene.open() as stores:
        before = scene.spent(stores)
        reconciling.compare(stores, scene.registry)
        assert reconciling.behind(stores) is None
    scene.restore()
    with scene.open() as stores:
        reconciling.compare(stores, scene.registry)
    with scene.open() as stores:  # over a restart
        frozen = reconciling.behind(stores)
        assert (
            frozen is not None and "entry 1" in frozen.message and "has 0 entries" in frozen.message
        )
        refused = scene.bench.refusal(0, 2)
        assert refused.code == "ledger-behind" and "1" not in refused.message
        assert scene.bench.charged() == []
        considered = consider(
            stores, scene.three.lookup(scene.manifest), scene.manifest.hash, now()
        )
        with pytest.raises(PolicyError) as caught:
            answer(stores, considered, Verdict("accept"), "ready", now())
        assert caught.value.code == "ledger-behind"
        assert scene.reconcile(stores) == 2
        assert scene.spent(stores) == before
        reconciling.compare(stores, scene.registry)
        assert reconciling.behind(stores) is None
        assert scene.reconcile(stores) == 0
        stores.ledger.verify({stores.key.public})
    scene.spend((0, 2))
    with scene.open() as stores:
        assert stores.state.queued() == 0 and scene.bench.charged() == [(0, 2)]
        assert NodeReceipt.from_bytes(scene.fake.stored[-1].payload).attempt == 2


def test_a_forked_receipt_freezes_the_ledger_and_is_kept(scene: Scene) -> None:
    """The same attempts were released again before anybody could compare."""
    scene.spend((0, 0), (0, 1))
    scene.restore()
    scene.spend((0, 0), (0, 1), post=False)
    with scene.open() as stores:
        once = scene.spent(stores)
        assert deliver(stores, scene.registry) == 0
        assert reconciling.behind(stores) is not None and stores.state.queued() == 2
        assert scene.bench.refusal(0, 2).code == "ledger-behind"
        assert scene.reconcile(stores) == 2  # both of either history are paid for
        assert scene.spent(stores) > once and stores.ledger.length == 4
        assert deliver(stores, scene.registry) == 2 and stores.state.queued() == 0
        assert reconciling.behind(stores) is None
    scene.spend((0, 2))
    assert len(scene.fake.stored) == 1 + 2 + 2 + 1


def test_a_forked_chain_without_proof_freezes_nothing_and_holds_up_no_other_run(
    scene: Scene,
) -> None:
    scene.spend((0, 0))
    scene.spend((0, 1), post=False)
    scene.fake.lies = True
    with scene.open() as stores:
        scene.three.accept(stores, scene.three.manifest())
        assert deliver(stores, scene.registry) == 1  # the other run's consent
        assert reconciling.behind(stores) is None and stores.state.queued() == 1
        scene.fake.run_id = ""  # nor where the registry shows no head at all
        assert deliver(stores, scene.registry) == 0
        assert reconciling.behind(stores) is None and stores.state.queued() == 1
        scene.fake.lies = False
        assert deliver(stores, scene.registry) == 1 and stores.state.queued() == 0


def test_a_queued_receipt_shows_a_ledger_set_back_before_it_leaves(scene: Scene) -> None:
    scene.spend((0, 0), post=False)
    with scene.open() as stores:
        before = scene.spent(stores)
    set_ledger_back(scene)
    with scene.open() as stores:
        assert deliver(stores, scene.registry) == 0 and len(scene.fake.stored) == 1
        assert reconciling.behind(stores) is not None
        stores.state.put("ledger-behind", "")
        reconciling.compare(stores, scene.registry)
        assert reconciling.behind(stores) is not None
        assert scene.reconcile(stores) == 1 and scene.spent(stores) == before
        assert deliver(stores, scene.registry) == 1 and reconciling.behind(stores) is None


def test_a_queue_that_is_signed_anew_is_charged_once(scene: Scene) -> None:
    """The registry has another history than the queue, and the ledger has neither."""
    scene.spend((0, 0))
    scene.restore()
    scene.spend((0, 0), post=False)
    set_ledger_back(scene)
    with scene.open() as stores:
        reconciling.compare(stores, scene.registry)
        assert scene.reconcile(stores) == 2 and scene.reconcile(stores) == 0
        assert deliver(stores, scene.registry) == 1 and reconciling.behind(stores) is None
        assert stores.ledger.length == 2 and len(scene.fake.stored) == 3


def set_ledger_back(scene: Scene) -> None:
    shutil.copy(scene.copy / "ledger.db", scene.home.path / "ledger.db")


def daemon_that_ends_as_it_serves(
    stores: Stores, registry: RegistryClient, monkeypatch: pytest.MonkeyPatch
) -> tuple[Node, list[bool], threading.Event]:
    """A daemon; whether it had compared when it served each run; set once it serves."""
    daemon, served, at_it = Node(stores, registry), list[bool](), threading.Event()

    def serve(node: Node, *_: object) -> None:
        served.append(node._compared.is_set())
        at_it.set()
        node.stop()

    monkeypatch.setattr(Node, "_serve", serve)
    return daemon, served, at_it


def test_a_start_compares_before_it_serves(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.spend((0, 0))
    scene.restore()
    runs = scene.fake.runs
    with scene.open() as stores:
        stores.state.follow(scene.bench.run, "ready", now())
        daemon, served, at_it = daemon_that_ends_as_it_serves(stores, scene.registry, monkeypatch)

        def late() -> list[Any]:
            at_it.wait(0.2)  # in vain, unless it serves without
            return runs()

        monkeypatch.setattr(scene.fake, "runs", late)
        daemon.run()
        assert served == [True] and reconciling.behind(stores) is not None


@pytest.mark.parametrize("stopped", [False, True])
def test_a_registry_that_never_answers_holds_up_neither_start_nor_end(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, stopped: bool
) -> None:
    monkeypatch.setattr(node, "_COMPARE_WITHIN_S", 60.0 if stopped else 0.05)
    over = threading.Event()
    with scene.open() as stores:
        stores.state.follow(scene.bench.run, "ready", now())
        daemon, served, _ = daemon_that_ends_as_it_serves(stores, scene.registry, monkeypatch)

        def tar_pit(*_: object) -> Any:
            if stopped:
                daemon.stop()
            over.wait(20.0)
            raise TransportError("registry-unreachable", "at last")

        monkeypatch.setattr(scene.fake, "inbox", tar_pit)
        monkeypatch.setattr(scene.fake, "runs", tar_pit)
        began = monotonic()
        daemon.run()
        over.set()
        assert served == [False] and monotonic() - began < 10.0


def test_a_ledger_set_back_alone_is_found_out(scene: Scene) -> None:
    scene.spend((0, 0))
    set_ledger_back(scene)
    with scene.open() as stores:
        reconciling.compare(stores, scene.registry)
        assert reconciling.behind(stores) is not None


def test_a_memory_set_back_alone_goes_on_from_the_registry(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The ledger lacks nothing, so nothing freezes; receipts follow one that is not the last."""
    scene.spend((0, 0))
    shutil.copy(scene.copy / "node.db", scene.home.path / "node.db")
    scene.spend((0, 1), (0, 2))
    with scene.open() as stores:
        before = scene.spent(stores)
        assert stores.state.queued() == 2 and reconciling.behind(stores) is None
    monkeypatch.setattr(Home, "registry", lambda _: scene.fake)
    line = ["accord-node", "reconcile", "--yes", "--format", "json", "--home", scene.home.path]
    monkeypatch.setattr(sys, "argv", [str(word) for word in line])
    with pytest.raises(SystemExit):
        main()
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told == {"charged": 0, "entries": [], "signed_anew": 2}
    with scene.open() as stores:
        assert deliver(stores, scene.registry) == 2 and stores.state.queued() == 0
        assert scene.spent(stores) == before and len(scene.fake.stored) == 4


def test_a_copy_from_mid_round_loses_its_shares(scene: Scene) -> None:
    scene.spend((0, 0))
    scene.back_up()
    scene.spend((0, 1))
    scene.restore()
    with scene.open() as stores:
        kept = stores.rounds.kept(scene.bench.run)
        assert kept is not None and Begun.from_bytes(kept).shares is not None
        reconciling.compare(stores, scene.registry)
        assert scene.reconcile(stores) == 1
        kept = stores.rounds.kept(scene.bench.run)
        assert kept is not None and Begun.from_bytes(kept).shares is None


def test_only_the_nodes_own_signature_freezes_its_ledger(scene: Scene) -> None:
    scene.spend((0, 0))
    genuine = NodeReceipt.from_bytes(scene.fake.stored[-1].payload)
    later = genuine.ledger.model_copy(update={"sequence": 7})
    false = genuine.model_copy(update={"ledger": later})
    scene.fake.stored.append(sign(NODE_RECEIPT, false, scene.three.world.coordinator.identity))
    with scene.open() as stores:
        reconciling.compare(stores, scene.registry)
        assert reconciling.behind(stores) is None


def test_check_status_and_reconcile_tell_the_steward(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def call(*arguments: str) -> Any:
        line = ["accord-node", *arguments, "--format", "json", "--home", str(scene.home.path)]
        monkeypatch.setattr(sys, "argv", line)
        with pytest.raises(SystemExit):
            main()
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    scene.spend((0, 0))
    scene.restore()
    with scene.open() as stores:
        reconciling.compare(stores, scene.registry)
    (failed,) = [check for check in examine(scene.home) if check.name == "receipts"]
    assert (failed.ok, failed.code) == (False, "ledger-behind") and "reconcile" in failed.remedy
    assert "entry 0" in call("status")["ledger_behind"]
    monkeypatch.setattr(Home, "registry", lambda _: scene.fake)
    told = call("reconcile", "--yes")
    assert told["charged"] == 1 and told["entries"][0]["attempt"] == 0
    assert call("status")["ledger_behind"] is None
    assert call("reconcile", "--yes") == {"charged": 0, "entries": [], "signed_anew": 0}
