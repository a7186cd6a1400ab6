"""A node among others: real processes, TLS, registry and aggregator, seen from the node's script.

One federation of two institutions serves all tests of this file, in order.
"""

import json
import os
import shutil
import signal
import sqlite3
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file
from sklearn.datasets import load_digits

from accord_client.lock import running_pid
from accord_common.home import Home
from accord_common.receipts import NODE_RECEIPT, NodeReceipt
from accord_common.secagg.sealing import TAG_BYTES
from accord_server.demo.federation import Federation
from accord_server.demo.processes import Actor, CommandFailed
from tests.canaries import found_in, unpacked
from tests.federations import follow, plan, running, synthetic_table, terms

PATIENCE_S = 60.0
MLP = {"name": "mlp", "hidden": [16, 8]}  # 10 inputs; layers 0, 2, 4: 176 + 136 + 9 numbers
SHAPES = {
    "0.weight": (16, 10),
    "0.bias": (16,),
    "2.weight": (8, 16),
    "2.bias": (8,),
    "4.weight": (1, 8),
    "4.bias": (1,),
}


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    folder = tmp_path_factory.mktemp("federation") / "f"
    permitted = terms()["privacy"] | {"non_private": True}
    with running(folder, nodes=2, debug=True, policy="ask", privacy=permitted) as federation:
        yield federation


def until(true: Callable[[], bool]) -> None:
    """Wait for something that another process does."""
    deadline, turn = time.monotonic() + PATIENCE_S, threading.Event()
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        turn.wait(0.01)


def folder(node: Actor) -> Path:
    return node.home / "accord"


def read(node: Actor, file: str, sql: str) -> list[Any]:
    """Look into a node's database beside its running daemon."""
    with closing(sqlite3.connect(f"file:{folder(node)}/{file}?mode=ro", uri=True)) as db:
        return db.execute(sql).fetchall()


def charges(node: Actor) -> list[Any]:
    """(run, round, attempt) of each ledger entry."""
    return read(node, "ledger.db", "SELECT run, round, attempt FROM entries ORDER BY sequence")


def queued(node: Actor) -> int:
    """How many records the registry has yet to get."""
    return int(read(node, "node.db", "SELECT count(*) FROM queue")[0][0])


def refused(federation: Federation, node: Actor, *arguments: str) -> str:
    """The code with which a verb ends."""
    with pytest.raises(CommandFailed) as caught:
        federation.at(node, *arguments)
    return caught.value.code


def begin(federation: Federation, *options: str, **changes: Any) -> str:
    """Start a run, if every daemon is up: otherwise nobody would ever end it."""
    assert all(running_pid(folder(node)) for node in federation.nodes)
    return federation.start_run(plan(federation, **changes), *options)


def decide_alone(federation: Federation) -> None:
    """Have nodes decide by the checks from now on."""
    for node in federation.nodes:
        federation.at(node, "dataset", "update", "tumours", "--policy", "auto-within-agreement")


def sent(federation: Federation, node: Actor, run: str) -> list[dict[str, Any]]:
    lines = federation.at(node, "outbox", "list", "--last", "0")
    return [line for line in lines if line["run"] == run]


def uploaded(federation: Federation, run: str) -> list[int]:
    """Sealed bytes of each upload of a run."""
    with Home.open(federation.coordinator.home / "accord").registry() as client:
        records = client.records(kind=NODE_RECEIPT, run=run)
        receipts = [NodeReceipt.from_bytes(record.envelope.payload) for record in records]
    return [receipt.upload_bytes for receipt in receipts]


def test_the_check_finds_all_well(federation: Federation) -> None:
    told = federation.at(federation.nodes[0], "check")
    assert told["ok"], told
    assert {check["name"] for check in told["checks"]} >= {"registry", "clock", "membership"}


def test_a_second_daemon_is_refused(federation: Federation) -> None:
    node = federation.nodes[0]
    assert refused(federation, node, "start") == "already-running"
    told = federation.at(node, "status")
    assert (told["running"], told["pid"]) == (True, federation.services.pid(node))


def test_a_wrong_table_registers_nothing_anywhere(federation: Federation) -> None:
    node = federation.nodes[0]
    wrong = node.home / "wrong.csv"
    wrong.write_text((node.home / "tumours.csv").read_text().replace("x3", "y3", 1))
    schema = node.home / "tumours.yaml"
    with pytest.raises(CommandFailed) as caught:
        federation.at(
            node, "dataset", "add", wrong, "--schema", schema, "--name", "w", "--size", "200"
        )
    assert caught.value.code == "missing-column"
    assert [item["name"] for item in federation.at(node, "dataset", "list")] == ["tumours"]
    registered = federation.at(node, "agreement", "show", federation.agreement)
    assert federation.at(node, "agreement", "show", federation.agreement[:8]) == registered
    assert "w" not in [dataset["name"] for dataset in registered["agreement"]["datasets"]]


@pytest.mark.soak(sample=0, full=1)
def test_a_killed_node_repeats_and_loses_nothing(federation: Federation) -> None:
    """SIGKILL between the charge and the sending, then a restart: the next attempt goes on."""
    node, other = federation.nodes
    before = len(charges(node))
    run = begin(federation, steps=1500, noise_multiplier="60", rounds=2)
    with ThreadPoolExecutor(1) as stewards:
        stewards.submit(federation.approve, run)
        until(lambda: len(charges(node)) > before)
        federation.services.kill(node)
    assert not federation.at(node, "status")["running"]
    assert [line["kind"] for line in sent(federation, node, run)] == [
        "consent",
        "advertisement",
        "shares",
    ]
    assert [place[1:] for place in charges(node)[before:]] == [(0, 0)]
    federation.start_node(node)
    end = follow(federation, run)[-1]
    assert (end["state"], end["rounds"]) == ("completed", 2)
    served = [place[1:] for place in charges(node)[before:]]
    assert served[0] == (0, 0) and len(set(served)) == len(served)
    assert [round_ for round_, _ in served] == [0, 0, 1]
    uploads = [line for line in sent(federation, node, run) if line["kind"] == "upload"]
    assert [(line["round"], line["attempt"]) for line in uploads] == served[1:]
    assert len(charges(other)) >= len(uploads)
    assert federation.at(node, "check")["ok"]


def test_the_steward_refuses(federation: Federation) -> None:
    node = federation.nodes[0]
    run = begin(federation)
    assert refused(federation, node, "compare", run) == "run-not-over"
    offered = federation.at(node, "budget", "forecast", run[-12:])  # known by the registry alone
    assert offered["allowed"] and float(offered["forecasts"][0]["needs"]) > 0
    told = federation.at(node, "refuse", run[-12:], "--reason", "not before the audit")
    assert told["run"] == run
    assert told["code"] == "steward-refused"
    end = follow(federation, run)[-1]
    assert end["state"] == "refused"
    assert refused(federation, node, "approve", run, "--yes") == "already-decided"
    assert refused(federation, node, "compare", run) == "no-model"


@pytest.mark.soak(sample=0, full=1)
def test_a_run_goes_on_while_the_registry_is_down(federation: Federation) -> None:
    """Receipts wait in the node's queue; the registry gets them when it is back."""
    node = federation.nodes[0]
    run = begin(federation, steps=1000, noise_multiplier="60", rounds=4)
    before = len(charges(node))
    with ThreadPoolExecutor(1) as stewards:
        stewards.submit(federation.approve, run)
        until(lambda: len(charges(node)) > before)
    federation.services.kill(federation.registry)
    until(lambda: len(charges(node)) == before + 4)
    until(lambda: queued(node) > 0)
    home = federation.registry.home / "registry"
    federation.services.start(federation.registry, "registry", "start", "--home", home)
    until(lambda: queued(node) == 0)
    assert follow(federation, run)[-1]["state"] == "completed"


@pytest.mark.soak(sample=0, full=1)
def test_a_head_on_a_base_that_was_brought_in_words_of_16_bits(
    federation: Federation, tmp_path: Path
) -> None:
    """The base is fetched when the steward approves; its layers leave as they came."""
    random = np.random.default_rng(8)
    base = {name: random.normal(0, 0.4, size).astype(np.float32) for name, size in SHAPES.items()}
    save_file(base, tmp_path / "base.safetensors")
    rows, out = tmp_path / "public.csv", tmp_path / "model.safetensors"
    rows.write_text(synthetic_table(99))
    adapt = {"base": str(tmp_path / "base.safetensors"), "freeze": ["0", "2"]}
    run = begin(federation, architecture=MLP, adapt=adapt, ring_bits=16, rounds=2)
    federation.approve(run)
    end = follow(federation, run, "--holdout", rows)[-1]
    assert end["state"] == "completed" and 0 <= end["metrics"]["auc"] <= 1
    assert uploaded(federation, run) == 4 * [2 * 9 + TAG_BYTES]
    federation.office("model", "download", run, "--out", out)
    model = load_file(out)
    for name, array in base.items():
        assert np.array_equal(model[name], array) == (name[0] != "4"), name


def test_a_dataset_that_needs_no_steward_decides_by_the_checks_alone(
    federation: Federation,
) -> None:
    decide_alone(federation)
    run = begin(federation)
    assert follow(federation, run)[-1]["state"] == "completed"
    run = begin(federation, "--anyway", rounds=900, steps=20, noise_multiplier="0.5")
    refused = follow(federation, run)[-1]
    assert refused["state"] == "refused"
    (told,) = (
        item for item in federation.at(federation.nodes[0], "status")["runs"] if item["id"] == run
    )
    assert (told["decision"], told["code"]) == ("refuse", "budget-exceeded")


@pytest.mark.soak(sample=0, full=1)
def test_what_privacy_cost_and_whether_joining_paid_is_found_at_the_node(
    federation: Federation, tmp_path: Path
) -> None:
    """Nothing is charged, and nothing leaves."""
    node, other = federation.nodes
    decide_alone(federation)
    federation.at(node, "dataset", "update", "tumours", "--validation", "0.3")
    short = {"rounds": 2, "steps": 20, "sampling_rate": "0.5", "spare_attempts": 0}
    private = begin(federation, noise_multiplier="4", **short)
    assert follow(federation, private)[-1]["state"] == "completed"
    exposed = begin(
        federation, noise_multiplier=None, privacy={"mode": "none"}, weights="size", **short
    )
    end = follow(federation, exposed)[-1]
    assert end["state"] == "completed"
    assert set(end["epsilon"].values()) == {"infinity"}
    charged, left = charges(node), federation.at(node, "outbox", "list", "--last", "0")
    told = federation.at(node, "compare", private, exposed[-12:], "--repeats", "2", "--private")
    assert told["training_rows"] + told["validation_rows"] == 120
    assert [(model["kind"], model["privacy"]) for model in told["models"]] == [
        ("federated", "dp"),
        ("local", "none"),
        ("local", "dp"),
        ("federated", "none"),
    ]
    joined = told["models"][3]["metrics"]["auc"]
    assert joined["low"] <= joined["value"] <= joined["high"] and joined["value"] > 0.8
    assert [item["question"] for item in told["differences"]] == 2 * ["privacy"] + 3 * ["joining"]
    out = tmp_path / "exposed.safetensors"
    federation.office("model", "download", exposed, "--out", out)
    scored = federation.at(node, "evaluate", out, "--dataset", "tumours")
    assert (scored["verified"], scored["run"]) == (True, exposed)
    assert scored["validation_rows"] == told["validation_rows"]
    assert scored["metrics"]["auc"]["value"] == joined["value"]
    assert scored == federation.at(node, "evaluate", exposed[-12:], "--dataset", "tumours")
    assert charges(node) == charged
    assert federation.at(node, "outbox", "list", "--last", "0") == left
    assert refused(federation, other, "compare", private) == "no-validation-rows"
    (budget,) = federation.at(node, "budget", "show")["budgets"]
    assert budget["non_private"] == 2 and 0 < float(budget["spent"])
    (row,) = [
        row
        for row in federation.office("budget", "show", "--run", exposed)
        if row["name"] == f"{node.name}/tumours"
    ]
    assert (row["attempts"], row["non_private"], row["epsilon"]) == (2, 2, None)


@pytest.mark.soak(sample=0, full=1)
def test_adapters_on_a_fresh_base_in_words_of_64_bits(
    federation: Federation, tmp_path: Path
) -> None:
    """The base is fetched by the daemon, once, and the former run's goes; nothing else moves."""
    decide_alone(federation)
    adapt = {"freeze": ["2", "4"], "lora": {"rank": 2, "layers": ["0"]}}
    run = begin(federation, architecture=MLP, adapt=adapt, ring_bits=64, rounds=2)
    assert follow(federation, run)[-1]["state"] == "completed"
    assert uploaded(federation, run) == 4 * [8 * 2 * (10 + 16) + TAG_BYTES]
    out = tmp_path / "model.safetensors"
    federation.office("model", "download", run, "--out", out)
    model = load_file(out)
    assert {name: array.shape for name, array in model.items()} == SHAPES
    numbers = np.concatenate([model[name].ravel() for name in SHAPES])
    for node in federation.nodes:
        (path,) = (folder(node) / "bases").iterdir()
        base = np.frombuffer(path.read_bytes(), "<f4")
        assert np.array_equal(base[160:], numbers[160:])
        assert not np.array_equal(base[:160], numbers[:160])


def draw(folder: Path, rows: slice) -> Path:
    """Write some of scikit-learn's digits, each as a picture in the folder of its class."""
    digits = load_digits()
    for number in range(10):
        (folder / str(number)).mkdir(parents=True)
    pairs = zip(digits.images[rows], digits.target[rows], strict=True)
    for row, (image, label) in enumerate(pairs):
        grey = Image.fromarray(np.round(image * (255 / 16)).astype(np.uint8))
        grey.save(folder / str(label) / f"{row:04}.png")
    return folder


@pytest.mark.soak(sample=0, full=1)
def test_pictures_are_agreed_on_trained_on_and_scored(
    federation: Federation, tmp_path: Path
) -> None:
    schema = tmp_path / "digits.yaml"
    schema.write_text(
        "{name: digits, kind: images, height: 8, width: 8, channels: 1,"
        " target: {type: classes, classes: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]}}"
    )
    for number, node in enumerate(federation.nodes):
        pictures = draw(node.home / "digits", slice(400 * number, 400 * (number + 1)))
        federation.at(
            node, "dataset", "add", pictures, "--schema", schema, "--name", "digits",
            "--size", "400", "--policy", "auto-within-agreement",
        )  # fmt: skip
    task = {
        "task": "image-classification",
        "objective": "read digits",
        "architectures": ["cnn"],
        "max_rounds": 10,
    }
    datasets = [{"owner": node.name, "name": "digits"} for node in federation.nodes]
    federation.agree({**terms(), "title": "Digits", "tasks": [task], "datasets": datasets})
    run = federation.start_run(
        plan(
            federation,
            task="image-classification",
            architecture={"name": "cnn", "channels": [16]},
            rounds=2,
            steps=20,
            sampling_rate="0.2",
            noise_multiplier="1",
            learning_rate="2",
        )
    )
    end = follow(federation, run, "--holdout", draw(tmp_path / "public", slice(800, 1000)))[-1]
    assert end["state"] == "completed" and end["metrics"]["accuracy"] > 0.5  # 0.8; chance is 0.1


def test_an_auditor_checks_a_ledger_beside_the_receipts_of_its_node(
    federation: Federation, tmp_path: Path
) -> None:
    node = federation.nodes[0]
    until(lambda: queued(node) == 0)
    file = tmp_path / "ledger.jsonl"
    exported = federation.at(node, "budget", "export", file)
    told = federation.office("budget", "verify", file, "--receipts")
    assert (told["head"], told["entries"]) == (exported["head"], len(charges(node)))
    lines = federation.at(node, "outbox", "list", "--last", "0")
    kinds = [line["kind"] for line in lines]
    # In the soak, a killed attempt was charged, and never sent.
    assert 0 < told["receipts"] == kinds.count("node-receipt") <= told["entries"]
    together = federation.office("budget", "total")
    charged = {one["population"] for one in told["populations"]}
    assert charged <= {one["population"] for one in together["populations"]}
    assert float(together["disjoint"]["delta"]) < float(together["overlapping"]["delta"])
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:-1]))
    with pytest.raises(CommandFailed) as caught:
        federation.office("budget", "verify", file, "--receipts")
    assert caught.value.code == "export-behind"


def test_a_backup_taken_beside_the_daemon_brings_the_node_back(federation: Federation) -> None:
    node = federation.nodes[0]
    (node.home / "secret").write_text("of the backup alone\n")
    options = (node.home / "node.backup", "--passphrase-file", node.home / "secret")
    saved = federation.at(node, "backup", *options)
    federation.services.kill(node)
    before = charges(node)
    assert saved["entries"] == len(before)
    assert refused(federation, node, "restore", *map(str, options)) == "home-exists"
    shutil.rmtree(folder(node))
    assert federation.at(node, "restore", *options)["head"] == saved["head"]
    frozen = "SELECT value FROM meta WHERE key = 'ledger-restored'"
    assert read(node, "node.db", frozen) == [(saved["made"],)]
    federation.start_node(node)
    until(lambda: read(node, "node.db", frozen) == [("",)])
    assert charges(node) == before
    assert federation.at(node, "status")["ledger_behind"] is None


def test_sigterm_ends_the_daemon_cleanly(federation: Federation) -> None:
    node = federation.nodes[0]
    pid = federation.services.pid(node)
    os.kill(pid, signal.SIGTERM)
    until(lambda: running_pid(folder(node)) is None)
    log = (folder(node) / "logs" / "node.jsonl").read_text()
    assert "Traceback" not in log and '"node-stopped"' in log.splitlines()[-1]


def test_rows_of_a_database_are_registered_by_their_public_facts_alone(
    federation: Federation,
) -> None:
    node = federation.nodes[0]
    lines = (node.home / "tumours.csv").read_text().splitlines()
    columns, *rows = (line.split(",") for line in lines)
    database = sqlite3.connect(node.home / "clinic.db")
    database.execute(f"CREATE TABLE tumours ({', '.join(f'{name} NUMERIC' for name in columns)})")
    marks = ", ".join("?" * len(columns))
    database.executemany(f"INSERT INTO tumours VALUES ({marks})", rows)
    database.commit()
    query = node.home / "tumours.sql"
    query.write_text("SELECT * FROM tumours;\n")
    told = federation.at(
        node, "dataset", "add", "--sql", f"sqlite:///{node.home}/clinic.db", "--query", query,
        "--schema", node.home / "tumours.yaml", "--name", "db", "--size", "200",
        "--validation", "0.23457",
    )  # fmt: skip
    assert 0 < told["training_rows"] < told["rows"] == len(rows)
    with Home.open(federation.coordinator.home / "accord").registry() as client:
        (public,) = (view for view in client.datasets() if view.id == told["id"])
    said = public.model_dump_json()
    assert public.size == 200 and not any(
        text in said for text in ("clinic.db", "0.23457", "SELECT")
    )


def test_neither_bundles_nor_logs_of_a_federation_hold_a_secret(
    federation: Federation, tmp_path: Path
) -> None:
    """The last of this file: all that happened in it, of which some failed, logged at debug."""
    services = federation.services
    actors = [federation.registry, federation.coordinator, federation.aggregator, *federation.nodes]
    secrets: dict[str, list[str | bytes]] = {
        "passphrase": [actor.passphrase for actor in actors if actor.passphrase],
        "token": [path.read_text() for path in find(actors, "token")],
        "key": [
            line
            for path in [*find(actors, "*.pem"), *find(actors, "*.key")]
            if b"PRIVATE KEY" in (text := path.read_bytes())
            for line in text.decode().splitlines()
            if "-" not in line and len(line) > 30
        ],
        "row": [
            field
            for node in federation.nodes
            for line in (node.home / "tumours.csv").read_text().splitlines()[1:]
            for field in line.split(",")
            if len(field) > 8  # negative, six digits
        ],
    }
    assert all(secrets.values())
    node = federation.nodes[1]
    bundles = [tmp_path / name for name in ("node.zip", "registry.zip", "aggregator.zip")]
    federation.at(node, "support-bundle", bundles[0], "--yes")
    federation.registry.run(
        "registry", "support-bundle", bundles[1], "--yes",
        "--log-file", services.log(federation.registry),
        "--home", federation.registry.home / "registry",
    )  # fmt: skip
    federation.aggregator.run(
        "aggregator", "support-bundle", bundles[2], "--yes",
        "--log-file", services.log(federation.aggregator),
        "--home", federation.aggregator.home / "accord",
    )  # fmt: skip
    for bundle in bundles:
        assert found_in(unpacked(bundle), secrets) == set()
        with zipfile.ZipFile(bundle) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        assert not any(b'"failed"' in data for data in parts.values()), parts
        events = [json.loads(line)["event"] for line in parts["log.jsonl"].splitlines()]
        assert len(events) - events.count("(other)") > 5  # requests at debug are no words of ours
    written = [
        *map(services.log, actors),
        *(folder(node) / "logs" / "node.jsonl" for node in federation.nodes),
    ]
    logged = b"\n".join(path.read_bytes() for path in written if path.exists())
    assert b'"level": "debug"' in logged
    assert found_in(logged, secrets) == set()


def find(actors: list[Actor], name: str) -> list[Path]:
    return [path for actor in actors for path in actor.home.rglob(name)]
