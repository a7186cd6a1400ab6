"""A node from a sealed backup: what is in it, what refuses it, and that it begins frozen."""

import shutil
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from accord_client.backup import Contents, back_up, restore
from accord_client.deciding import answer, consider
from accord_client.delivery import deliver
from accord_client.reconciling import (
    answered_elsewhere,
    behind,
    compare,
    compare_run,
    missing,
)
from accord_client.session import Session
from accord_client.stores import Stores, open_stores
from accord_common.envelope import sign
from accord_common.errors import AccordError, ConflictError
from accord_common.fields import now
from accord_common.home import Home
from accord_common.privacy.events import Spend
from accord_common.privacy.filter import Cap
from accord_common.receipts import CONSENT, NODE_RECEIPT, Consent, NodeReceipt
from tests.client.institutions import PASSPHRASE
from tests.client.test_reconciling import Scene

SECRET = "of the backup alone"


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def saved(scene: Scene, name: str = "a.backup") -> Path:
    target = scene.home.path.parent / name
    back_up(scene.home, target, SECRET, now())
    return target


def again(source: Path, path: Path) -> tuple[Home, Contents]:
    return restore(source, path, SECRET, now())


def refusal(source: Path, path: Path, passphrase: str = SECRET) -> str:
    before = sorted(path.parent.iterdir())
    with pytest.raises(AccordError) as caught:
        restore(source, path, passphrase, now())
    assert sorted(path.parent.iterdir()) == before  # nothing half made is left
    return caught.value.code


def test_a_restored_node_has_all_but_rounds_and_begins_frozen(scene: Scene, tmp_path: Path) -> None:
    scene.spend((0, 0))
    datasets = scene.home.path / "datasets"
    (next(datasets.glob("*.json")).with_suffix(".opt-outs")).write_text('["patient 7"]')
    for setting, text in (("network.json", "{}"), ("settings.toml", "cores = 2\n")):
        (scene.home.path / setting).write_text(text)
        (scene.home.path / setting).chmod(0o600)
    source = saved(scene)
    assert stat.S_IMODE(source.stat().st_mode) == 0o600
    assert b"patient 7" not in source.read_bytes() and b"Hospital" not in source.read_bytes()
    home, contents = again(source, tmp_path / "new")
    assert contents.entries == 1 and contents.party == scene.party
    for path in scene.home.path.rglob("*"):
        name = path.relative_to(scene.home.path)
        copy = home.path / name
        if path.is_dir() or name.suffix in {".db", ".db-wal", ".db-shm"}:
            continue
        assert copy.read_bytes() == path.read_bytes(), name
        assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert not (home.path / "rounds.db").exists() and not list(home.path.glob("*-wal"))
    with open_stores(home) as stores:
        frozen = behind(stores)
        assert frozen is not None and frozen.code == "ledger-restored"
        assert contents.made in frozen.message
    with open_stores(home) as stores:  # over a restart
        assert behind(stores) is not None
        compare(stores, scene.registry)
        assert behind(stores) is None
        (run,) = stores.state.runs()
        assert (run.decision, run.code) == ("refuse", "node-restored")
        with pytest.raises(ConflictError, match="run-not-accepted"):
            Session(stores, run.id)


def test_a_restored_node_answers_nothing_before_it_has_compared(scene: Scene) -> None:
    """Its run goes on here as if it had not been left: the freeze holds by itself."""
    with scene.open() as stores:
        stores.state.put("ledger-restored", "2026-01-31T12:00:00Z")
        assert scene.bench.refusal(0, 0).code == "ledger-restored"
        assert scene.bench.charged() == []
        compare(stores, scene.registry)
    scene.spend((0, 0))


def test_a_backup_from_before_a_spend_is_frozen_until_the_gap_is_charged(
    scene: Scene, tmp_path: Path
) -> None:
    source = saved(scene)
    scene.spend((0, 0), (0, 1))
    home, _ = again(source, tmp_path / "new")
    with open_stores(home) as stores:
        compare(stores, scene.registry)
        frozen = behind(stores)
        assert frozen is not None and frozen.code == "ledger-behind"
        assert scene.reconcile(stores) == 2
        assert behind(stores) is None and stores.ledger.length == 2


def test_two_nodes_from_one_backup_are_found_out(scene: Scene, tmp_path: Path) -> None:
    """The first receipt of the second of them shows what its ledger lacks."""
    scene.spend((0, 0))
    shutil.copytree(scene.home.path, tmp_path / "clone")
    scene.spend((0, 1))
    shutil.rmtree(scene.home.path)
    (tmp_path / "clone").rename(scene.home.path)
    scene.spend((0, 2), post=False)
    with scene.open() as stores:
        assert behind(stores) is None
        deliver(stores, scene.registry)
        frozen = behind(stores)
        assert frozen is not None and "second copy" in frozen.hint


def test_two_nodes_from_one_backup_do_not_serve_one_run(scene: Scene) -> None:
    """The registry takes one consent a run; the copy that gave another has no part in it."""
    with scene.open() as stores:
        run = stores.state.runs()[0]
        view = scene.fake.run(run.id)
        assert not answered_elsewhere(stores, view)
        with stores.state._transaction() as db:
            db.execute("DELETE FROM runs")
        assert answered_elsewhere(stores, view)
        given = Consent.from_bytes(scene.fake.stored[0].payload)
        given = given.model_copy(update={"created": "2026-01-31T12:00:00Z"})
        scene.fake.stored[0] = sign(CONSENT, given, stores.key)
        scene.three.accept(stores, scene.manifest)
        assert deliver(stores, scene.registry) == 0 and stores.state.queued() == 0
        (known,) = stores.state.runs()
        assert (known.decision, known.code) == ("refuse", "answered-elsewhere")
        with pytest.raises(ConflictError, match="run-not-accepted"):
            Session(stores, known.id)


def test_two_copies_that_answer_in_the_same_second_do_not_both_serve(scene: Scene) -> None:
    """Both are woken by the same manifest; whose consent is not the registry's leaves the run."""
    moment = now()
    with scene.open() as stores:
        run, consents = stores.state.runs()[0], []
        for _ in range(2):
            with stores.state._transaction() as db:
                db.execute("DELETE FROM runs")
            considered = consider(stores, scene.three.lookup(scene.manifest), run.manifest, moment)
            consents.append(answer(stores, considered, considered.verdict, "ready", moment).head)
        assert consents[0] != consents[1]
        assert not compare_run(stores, scene.registry, scene.fake.run(run.id))
        (known,) = stores.state.runs()
        assert (known.decision, known.code) == ("refuse", "answered-elsewhere")


def test_what_is_wrong_with_a_backup_is_named(scene: Scene, tmp_path: Path) -> None:
    scene.spend((0, 0))
    source, new = saved(scene), tmp_path / "new"
    assert refusal(source, new, "another passphrase") == "wrong-passphrase"
    assert refusal(source, scene.home.path) == "home-exists"
    data = source.read_bytes()
    for changed in (data[:-1], data[: len(data) // 2], data[:-20] + b"x" + data[-19:], data + b"x"):
        source.write_bytes(changed)
        assert refusal(source, new) == "bad-backup"
    source.write_bytes(b"not a backup\n")
    assert refusal(source, new) == "bad-backup"


def test_what_may_not_be_backed_up_is_not(scene: Scene) -> None:
    target = scene.home.path.parent / "b"
    for passphrase, code in ((PASSPHRASE, "same-passphrase"), ("short", "short-passphrase")):
        with pytest.raises(AccordError, match=code):
            back_up(scene.home, target, passphrase, now())
    target.write_text("")
    with pytest.raises(AccordError, match="file-exists"):
        back_up(scene.home, target, SECRET, now())
    target.unlink()
    scene.spend((0, 0))
    (scene.home.path / "outbox.jsonl").write_bytes(b"{}\n")
    with pytest.raises(AccordError):
        back_up(scene.home, target, SECRET, now())
    assert not target.exists() and not list(scene.home.path.glob(".backup.*"))


def test_a_backup_beside_a_daemon_that_spends_is_whole(scene: Scene, tmp_path: Path) -> None:
    """Whatever its queue would post has its entry in the ledger of the same backup."""
    stop = threading.Event()

    def work(stores: Stores) -> None:
        for attempt in range(1, 400):
            if stop.is_set():
                return
            entry, _ = stores.ledger.charge(_again(spend, attempt), [_CAP], now)
            body = receipt.model_copy(update={"ledger": entry, "attempt": attempt})
            stores.state.report(run, 0, attempt, sign(NODE_RECEIPT, body, stores.key))

    scene.spend((0, 0))
    with open_stores(scene.home) as stores:
        run = stores.state.runs()[0].id
        receipt = NodeReceipt.from_bytes(scene.fake.stored[-1].payload)
        spend = receipt.ledger.spend
        with ThreadPoolExecutor(1) as pool:
            working = pool.submit(work, stores)
            sources = [saved(scene, f"{number}") for number in range(2)]
            stop.set()
            working.result()
    lengths = []
    for source in sources:
        home, contents = again(source, tmp_path / f"new-{source.name}")
        with open_stores(home) as stores:
            lengths.append(contents.entries)
            assert stores.ledger.length == contents.entries
            assert missing(stores, []) == []
    assert lengths == sorted(lengths)


_CAP = Cap(epsilon="1000000", delta="0.00001")


def _again(spend: Spend, attempt: int) -> Spend:
    return spend.model_copy(update={"attempt": attempt})
