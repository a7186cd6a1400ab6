"""A run that adapts a public base: what a node fetches, refuses, keeps, and what then travels."""

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
from torch import nn

from accord_client import bases
from accord_client.bases import fetch_base
from accord_client.cli.run import describe
from accord_client.deciding import consider
from accord_client.node import Node
from accord_client.session import Session
from accord_client.stores import Stores
from accord_common.api import schemas
from accord_common.api.client import RegistryClient
from accord_common.api.schemas import RunView
from accord_common.envelope import Envelope
from accord_common.errors import AccordError
from accord_common.fields import now
from accord_common.manifest import Lora, RunManifest, model_hash
from accord_common.models import architectures
from accord_common.models.adaptation import adapt, initial_part
from accord_common.models.flat import get_vector, initial_vector, layout_of, set_vector
from accord_common.privacy.accounting import Tally
from accord_common.receipts import NodeReceipt
from accord_common.secagg.sealing import TAG_BYTES
from tests.client.institutions import Aggregator, Institutions, Refused, make_institutions
from tests.fleet import Certificates

HIDDEN = [5, 4]  # layers 0, 2 and 4: 15 + 24 + 5 numbers
LORA = {"rank": 2, "layers": ["0"]}


def whole(seed: int = 0) -> nn.Module:
    """The architecture with public weights."""
    module = architectures.build("mlp", {"hidden": HIDDEN}, 2, 1)
    set_vector(module, initial_vector(module, seed))
    return module


def base_bytes(seed: int = 0) -> bytes:
    return get_vector(whole(seed)).tobytes()


def adapted(
    three: Institutions,
    *,
    seed: int = 0,
    frozen: tuple[str, ...] = ("0", "2"),
    lora: dict[str, Any] | None = None,
    **changes: Any,
) -> Envelope:
    """A manifest that all nodes accept."""
    module = whole(seed)
    base = layout_of(module)
    adaptation = {
        "base": model_hash(base_bytes(seed)),
        "layout": base.hash,
        "dimension": base.dimension,
        "frozen": list(frozen),
        "lora": lora,
    }
    adapt(module, frozen, None if lora is None else Lora.model_validate(lora))
    layout = layout_of(module)
    return three.manifest(
        hidden=HIDDEN,
        adaptation=adaptation,
        layout=layout.hash,
        dimension=layout.dimension,
        initial_model=model_hash(initial_part(module, 0).tobytes()),
        **changes,
    )


def altered(three: Institutions, manifest: Envelope, **changes: Any) -> Envelope:
    """The same with another adaptation, and the layout, dimension and weights of before."""
    body = RunManifest.from_bytes(manifest.payload)
    assert body.adaptation is not None
    kept = {key: getattr(body, key) for key in ("layout", "dimension", "initial_model")}
    adaptation = body.adaptation.model_dump() | changes
    return three.manifest(hidden=HIDDEN, adaptation=adaptation, **kept)


class Registry:
    """Hands out one content, whatever it is asked for, and counts."""

    def __init__(self, folder: Path) -> None:
        certificates = Certificates.make(folder)
        self.content = b""
        self.asked: list[str] = []
        self.client = RegistryClient(
            "https://registry.test",
            (certificates.folder / "ca.pem").read_bytes(),
            transport=httpx.MockTransport(self._answer),
        )

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.path)
        return httpx.Response(200, content=self.content)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Institutions:
    return make_institutions(tmp_path_factory.mktemp("three"))


@pytest.fixture
def stores(three: Institutions) -> Iterator[Stores]:
    """The first node's, without any base, in no run: another test's would have the dataset."""
    with three.open(three.parties[0]) as stores:
        stores.bases.keep_only(set())
        for run in stores.state.runs():
            stores.state.follow(run.id, "completed", now())
        yield stores


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


def fetch(stores: Stores, registry: Registry, manifest: Envelope) -> None:
    fetch_base(stores, registry.client, RunManifest.from_bytes(manifest.payload))


def kept(stores: Stores) -> set[str]:
    return {path.name for path in stores.bases.folder.glob("*")}


def test_a_base_is_fetched_once_and_is_its_owners_alone(
    three: Institutions, stores: Stores, registry: Registry
) -> None:
    manifest = adapted(three)
    registry.content = base_bytes()
    for _ in range(2):
        fetch(stores, registry, manifest)
    name = model_hash(base_bytes())
    assert registry.asked == [f"/v1/blobs/{name}"]
    path = stores.bases.path(name)
    assert path.read_bytes() == base_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_bytes(base_bytes(1))  # damaged: the hash says so, and it is fetched again
    fetch(stores, registry, manifest)
    assert path.read_bytes() == base_bytes() and len(registry.asked) == 2
    fetch(stores, registry, three.manifest())  # a run that adapts nothing
    assert len(registry.asked) == 2


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (base_bytes(1), "wrong-hash"),
        (base_bytes() + b"\0", "wrong-size"),
        (base_bytes()[:-1], "wrong-hash"),
    ],
)
def test_other_bytes_than_the_manifest_names_are_not_kept(
    three: Institutions, stores: Stores, registry: Registry, content: bytes, code: str
) -> None:
    registry.content = content
    with pytest.raises(AccordError) as caught:
        fetch(stores, registry, adapted(three))
    assert caught.value.code == code
    assert kept(stores) == set()


def test_the_folder_holds_the_bases_of_open_runs_and_the_newest(
    three: Institutions, stores: Stores, registry: Registry
) -> None:
    seeds = (11, 12, 13, 14)
    names = [model_hash(base_bytes(seed)) for seed in seeds]
    runs = []
    for seed in seeds[:3]:
        manifest = adapted(three, seed=seed)
        registry.content = base_bytes(seed)
        fetch(stores, registry, manifest)
        runs.append(three.accept(stores, manifest) if seed != 13 else "")
    assert kept(stores) == set(names[:3])
    stores.state.follow(runs[0], "completed", now())
    registry.content = base_bytes(14)
    fetch(stores, registry, adapted(three, seed=14))
    assert kept(stores) == {names[1], names[3]}


def test_a_part_that_does_not_follow_from_the_architecture_is_refused(
    three: Institutions, stores: Stores
) -> None:
    """The coordinator freezes, adapts or bases otherwise than layout and dimension say."""

    def code(manifest: Envelope) -> str:
        return consider(stores, three.lookup(manifest), manifest.hash, now()).verdict.code

    assert code(adapted(three)) == ""
    manifest = adapted(three, lora=LORA)
    assert code(manifest) == ""
    for change in (
        {"frozen": ["0"]},
        {"frozen": ["2", "4"]},
        {"frozen": ["0", "2", "7"]},
        {"lora": None},
        {"lora": LORA | {"rank": 1}},
        {"lora": LORA | {"layers": ["2"]}},
        {"lora": LORA | {"rank": 60_000}},
    ):
        assert code(altered(three, manifest, **change)) == "layout-does-not-follow", change
    for key, value in (("layout", "ab" * 32), ("dimension", 45), ("dimension", 1 << 27)):
        wrong = altered(three, manifest, **{key: value})
        assert code(wrong) == "base-does-not-follow", (key, value)


def test_the_steward_reads_what_stays_what_travels_and_what_it_costs(
    three: Institutions, stores: Stores
) -> None:
    def told(manifest: Envelope) -> str:
        considered = consider(stores, three.lookup(manifest), manifest.hash, now())
        return " ".join(describe(considered, Tally("add-remove", (("4", "0.1", 9),))).split())

    words = told(adapted(three, lora=LORA))
    base = model_hash(base_bytes())[:16]
    assert f"19 numbers are trained and travel, beside a public base of 44 ({base})" in words
    assert "frozen: 0, 2" in words and "adapters of rank 2 beside 0" in words
    assert "mlp (hidden [5, 4])" in words and "learning rate 0.5" in words
    assert "all sites weigh the same" in words
    cost = re.search(r"costs at most epsilon ([0-9.]+) at delta 0.00001; ([0-9.]+) is spent", words)
    assert cost is not None and 0 < float(cost[2]) < float(cost[1]) < 3
    assert "all of its 44 numbers are trained" in told(three.manifest(hidden=HIDDEN))


def test_another_base_under_an_accepted_run_is_refused(three: Institutions, stores: Stores) -> None:
    first = adapted(three)
    three.accept(stores, first)
    run = RunManifest.from_bytes(first.payload)
    second = adapted(three, seed=1, id=run.id)
    verdict = consider(stores, three.lookup(second), second.hash, now()).verdict
    assert verdict.code == "manifest-changed"


def test_a_node_that_cannot_get_the_base_stays_undecided_and_asks_again(
    three: Institutions, stores: Stores, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dataset that needs no steward: the daemon consents only with the base in its folder."""
    (dataset,) = stores.datasets.all()
    auto = dataset.model_copy(update={"policy": "auto-within-agreement"})
    monkeypatch.setattr(type(stores.datasets), "all", lambda _: [auto])
    manifest = adapted(three, seed=21)
    monkeypatch.setattr(registry.client, "record", three.lookup(manifest))
    run = RunManifest.from_bytes(manifest.payload)
    view = run_view(run, manifest.hash)
    node = Node(stores, registry.client)
    registry.content = base_bytes(22)
    node._undecided.decide(view)
    assert stores.state.run(run.id) is None and kept(stores) == set()
    registry.content = base_bytes(21)
    node._undecided.decide(view)
    decided = stores.state.run(run.id)
    assert decided is not None and decided.decision == "accept"
    assert kept(stores) == {model_hash(base_bytes(21))}


@pytest.mark.parametrize("unfit", ["wrong-size", "too-large", "full-disk"])
def test_an_unfit_base_is_not_fetched_at_every_look(
    three: Institutions,
    stores: Stores,
    registry: Registry,
    monkeypatch: pytest.MonkeyPatch,
    unfit: str,
) -> None:
    @contextmanager
    def full(_: Path) -> Iterator[Any]:
        yield SimpleNamespace(write=write)

    def write(_: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (dataset,) = stores.datasets.all()
    auto = dataset.model_copy(update={"policy": "auto-within-agreement"})
    monkeypatch.setattr(type(stores.datasets), "all", lambda _: [auto])
    if unfit == "too-large":
        monkeypatch.setattr(schemas, "MAX_BLOB_BYTES", 10)
    if unfit == "full-disk":
        monkeypatch.setattr(bases, "replacing", full)
    manifest = adapted(three, seed=31)
    monkeypatch.setattr(registry.client, "record", three.lookup(manifest))
    run = RunManifest.from_bytes(manifest.payload)
    registry.content = base_bytes(31) + (b"\0" if unfit == "wrong-size" else b"")
    node = Node(stores, registry.client)
    for _ in range(2):
        node._undecided.decide(run_view(run, manifest.hash))
    assert len(registry.asked) == 1 and stores.state.run(run.id) is None
    monkeypatch.undo()
    assert kept(stores) == set()


def run_view(run: RunManifest, manifest_hash: str) -> RunView:
    """What a registry says of a run that waits."""
    return RunView(
        id=run.id,
        manifest_hash=manifest_hash,
        agreement=run.agreement,
        aggregator=run.aggregator.party,
        title=run.title,
        state="awaiting-consent",
        cause="",
        code="",
        round=0,
        rounds=run.rounds,
        consents=[],
        epsilon=[],
        model=None,
        metrics={},
        stop_requested=None,
        created=run.created,
        updated=run.created,
    )


@pytest.mark.parametrize(("frozen", "lora"), [(("0", "2"), None), (("4",), LORA)])
def test_a_round_moves_the_trained_part_and_no_more(
    three: Institutions, registry: Registry, frozen: tuple[str, ...], lora: dict[str, Any] | None
) -> None:
    manifest = adapted(three, frozen=frozen, lora=lora)
    body = RunManifest.from_bytes(manifest.payload)
    registry.content = base_bytes()
    start = whole()
    adapt(start, frozen, None if lora is None else Lora.model_validate(lora))
    aggregator = Aggregator(three, manifest, initial_part(start, 0))
    with ExitStack() as stack:
        sessions = {}
        for party in three.parties:
            stores = stack.enter_context(three.open(party))
            fetch(stores, registry, manifest)
            sessions[party] = Session(stores, three.accept(stores, manifest))
        before = aggregator.model
        aggregator.round(sessions, 0)
        assert aggregator.model.shape == (body.dimension,)
        assert np.all(aggregator.model != before)
        while (item := stores.state.next_queued()) is not None:
            last = item.envelope
            stores.state.posted(item, taken=True)
        receipt = NodeReceipt.from_bytes(last.payload)
        assert receipt.upload_bytes == 4 * body.dimension + TAG_BYTES


def test_without_its_base_a_node_refuses_before_it_charges(
    three: Institutions, stores: Stores, registry: Registry
) -> None:
    manifest = adapted(three)
    registry.content = base_bytes()
    fetch(stores, registry, manifest)
    session = Session(stores, three.accept(stores, manifest))
    stores.bases.keep_only(set())
    start = whole()
    adapt(start, ("0", "2"), None)
    aggregator = Aggregator(three, manifest, initial_part(start, 0))
    with pytest.raises(Refused) as refused, ExitStack() as stack:
        sessions = {stores.party: session}
        for party in three.parties[1:]:
            other = stack.enter_context(three.open(party))
            fetch(other, registry, manifest)
            sessions[party] = Session(other, three.accept(other, manifest))
        aggregator.round(sessions, 0)
    assert refused.value.code == "base-missing"
    assert not list(stores.ledger.entries(run=manifest.hash))
