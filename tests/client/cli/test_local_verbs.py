"""Verbs that need no registry: keys, trial, status, budget, outbox, and how they fail."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from accord_client import outbox
from accord_client.contact import forget_trouble, note_trouble
from accord_client.ledger import Ledger
from accord_client.outbox import Outbox
from accord_common.errors import TransportError
from accord_common.fields import now
from accord_common.home import Home
from tests.client.cli.conftest import Run
from tests.client.institutions import Institutions, make_institutions, write_table
from tests.world import SCHEMA


@pytest.fixture
def node(accord_node: Run, tmp_path: Path) -> Run:
    """A fresh node's folder."""
    accord_node("init", "--name", "Hospital A", "--jurisdiction", "DE").json  # noqa: B018 - asserts success
    return accord_node


@pytest.fixture
def three(tmp_path: Path) -> Institutions:
    return make_institutions(tmp_path)


def schema_file(path: Path) -> Path:
    path.write_text(yaml.safe_dump(SCHEMA.model_dump(mode="json")))
    return path


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['accord-node', '--help']\n"
        "from accord_client.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'pandas', 'flwr', 'httpx', 'scipy', 'numpy'} & sys.modules.keys()\n"
        "assert not heavy, heavy\n"
    )
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "agreement" in done.stdout and "outbox" in done.stdout
    assert time.perf_counter() - start < 3.0  # 0.25 s on an idle machine


@pytest.mark.parametrize(
    "verb",
    [
        ["init"],
        ["enroll"],
        ["check"],
        ["network"],
        ["dataset", "add"],
        ["dataset", "opt-out"],
        ["dataset", "report"],
        ["dataset", "update"],
        ["agreement", "sign"],
        ["try"],
        ["start"],
        ["status"],
        ["approve"],
        ["refuse"],
        ["budget", "show"],
        *(["budget", verb] for verb in ("history", "forecast", "verify", "export", "cap")),
        ["dataset", "overlap"],
        ["outbox", "list"],
    ],
)
def test_every_verb_explains_itself_with_an_example(accord_node: Run, verb: list[str]) -> None:
    told = accord_node(*verb, "--help", text=True)
    assert told.status == 0 and "Example: accord-node" in told.out and "--format" in told.out


def test_init_makes_a_private_whole_folder_with_an_empty_ledger(node: Run, tmp_path: Path) -> None:
    home = Home.open(tmp_path / "node")
    assert (tmp_path / "node").stat().st_mode & 0o777 == 0o700
    assert home.profile.role == "data-holder"
    ledger = Ledger.open(tmp_path / "node" / "ledger.db", home.node_key())
    assert ledger.entries() == []
    ledger.close()
    again = node("init", "--name", "Hospital A", "--jurisdiction", "DE")
    assert (again.status, again.code) == (2, "home-exists")


def test_what_init_refuses_it_leaves_nothing_of(
    accord_node: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCORD_PASSPHRASE", "short")
    assert accord_node("init", "--name", "A", "--jurisdiction", "DE").code == "short-passphrase"
    monkeypatch.setenv("ACCORD_PASSPHRASE", "long enough for a seal")
    assert accord_node("init", "--name", "A", "--jurisdiction", "Germany").status == 5
    assert accord_node("init", "--name", "A").status == 2  # no country is anybody's default
    assert not (tmp_path / "node").exists()


def test_verbs_without_a_folder_say_what_to_do(accord_node: Run) -> None:
    for verb in (["status"], ["budget", "show"], ["check"], ["start"], ["dataset", "list"]):
        missing = accord_node(*verb)
        assert (missing.status, missing.code) == (2, "no-home")


def test_verbs_without_a_registry_say_what_to_do(node: Run, tmp_path: Path) -> None:
    for verb in (["agreement", "list"], ["start"], ["approve", "x"]):
        assert node(*verb).code == "not-enrolled"
    table, schema = write_table(tmp_path / "t.csv"), schema_file(tmp_path / "s.yaml")
    add = ("dataset", "add", table, "--schema", schema, "--name", "t", "--size", "80")
    assert node(*add).code == "not-enrolled"
    assert node("dataset", "list").json == []


def test_check_tells_all_that_fails_at_once(node: Run) -> None:
    told = node("check")
    assert told.status == 1
    checks = {check["name"]: check for check in json.loads(told.out)["checks"]}
    assert not checks["registry"]["ok"] and not checks["datasets"]["ok"]
    assert checks["ledger"]["ok"] and checks["outbox"]["ok"] and checks["delegation"]["ok"]
    assert "enroll" in checks["registry"]["remedy"]
    lines = node("check", text=True).out.splitlines()
    assert any(line.startswith("failed  registry") for line in lines)


def test_the_way_out_is_set_field_by_field_and_shown(
    node: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://anna:hidden@outside:8080")
    told = node("network").json
    assert (told["proxy"], told["source"], told["login"]) == (
        "http://outside:8080",
        "$HTTPS_PROXY",
        True,
    )
    told = node("network", "--proxy", "http://own:3128", "--no-proxy", "10.0.0.0/8, .lan").json
    assert (told["proxy"], told["login"], told["no_proxy"]) == (
        "http://own:3128",
        False,
        ["10.0.0.0/8", ".lan"],
    )
    (tmp_path / "login").write_text("bea:hidden")
    (tmp_path / "login").chmod(0o600)
    text = node("network", "--proxy-login-file", tmp_path / "login", text=True).out
    assert "http://own:3128 as bea" in text and "10.0.0.0/8, .lan" in text
    assert "hidden" not in text + (tmp_path / "node" / "network.json").read_text()
    assert node("network", "--ca-bundle", "system").json["ca_bundle"] == "system"
    assert node("network", "--proxy", "", "--no-proxy", "", "--ca-bundle", "").json == {
        "proxy": "http://outside:8080",
        "source": "$HTTPS_PROXY",
        "login": True,
        "no_proxy": [],
        "ca_bundle": None,
    }
    refused = node("network", "--proxy", "socks5://own:1")
    assert (refused.status, refused.code) == (2, "bad-proxy")


def test_a_strangers_folder_is_refused(accord_node: Run, tmp_path: Path) -> None:
    home = tmp_path / "coordinator"
    Home.create(
        home, name="U", role="coordinator", jurisdiction="DE", contact="u", passphrase="x" * 12
    )
    assert accord_node("status", "--home", home).code == "not-a-node"
    home.chmod(0o755)
    assert accord_node("status", "--home", home).code == "exposed-home"


def test_status_shows_what_waits_for_the_steward(accord_node: Run, three: Institutions) -> None:
    party = three.parties[0]
    home = three.homes[party].path
    with three.open(party) as stores:
        run = three.accept(stores, three.manifest())
    told = accord_node("status", "--home", home).json
    assert told["running"] is False and told["queued"] == 1
    (shown,) = told["runs"]
    assert (shown["id"], shown["decision"], shown["round"]) == (run, "accept", None)
    text = accord_node("status", "--home", home, text=True).out
    assert "not running" in text and run in text and "refuses" not in text
    with three.open(party) as stores:
        stores.state.refuse(run, 2, "budget-exceeded", "it would reach 3.1, the cap is 3")
        stores.state.refuse(run, 3, "budget-exceeded", "it would reach 3.2, the cap is 3")
    (shown,) = accord_node("status", "--home", home).json["runs"]
    assert (shown["refusal"]["round"], shown["refusal"]["code"]) == (2, "budget-exceeded")
    text = accord_node("status", "--home", home, text=True).out
    assert "refuses since round 3: it would reach 3.2, the cap is 3 [budget-exceeded]" in text
    assert "budget-exceeded from round 3" in text


def test_status_shows_what_keeps_the_node_from_the_aggregator(
    accord_node: Run, three: Institutions
) -> None:
    party = three.parties[0]
    home = three.homes[party].path
    error = TransportError("node-clock-skew", "the aggregator answers 401", hint="Set it.")
    with three.open(party) as stores:
        run = three.accept(stores, three.manifest())
        note_trouble(stores, run, error)
    assert accord_node("status", "--home", home).json["runs"][0]["aggregator"] is None
    with three.open(party) as stores:
        stores.state.follow(run, "running", now())
    (shown,) = accord_node("status", "--home", home).json["runs"]
    assert (shown["aggregator"]["code"], shown["aggregator"]["hint"]) == (error.code, error.hint)
    text = accord_node("status", "--home", home, text=True).out
    assert "the aggregator answers 401 [node-clock-skew] Set it." in text
    with three.open(party) as stores:
        forget_trouble(stores, run)
    assert "node-clock-skew" not in accord_node("status", "--home", home, text=True).out


def test_budget_is_the_ledgers(accord_node: Run, three: Institutions) -> None:
    home = three.homes[three.parties[0]].path
    told = accord_node("budget", "show", "--home", home).json
    (row,) = told["budgets"]
    assert (row["spent"], row["cap"], row["entries"]) == ("0", "3", 0)
    assert "tumours" in accord_node("budget", "show", "--home", home, text=True).out


def test_outbox_lists_and_verifies(accord_node: Run, three: Institutions) -> None:
    home = three.homes[three.parties[0]]
    path = home.path / outbox.FILE_NAME
    assert accord_node("outbox", "list", "--home", home.path).json == []
    box = Outbox(path, home.node_key())
    for size in range(25):
        box.append("upload", "aggregator", "ab" * 32, size)
    assert len(accord_node("outbox", "list", "--home", home.path).json) == 20
    assert len(accord_node("outbox", "list", "--last", "0", "--home", home.path).json) == 25
    assert accord_node("outbox", "verify", "--home", home.path).json == {"lines": 25, "ok": True}
    path.write_bytes(path.read_bytes().replace(b'"bytes":7', b'"bytes":8'))
    broken = accord_node("outbox", "verify", "--home", home.path)
    assert broken.status == 5


def test_datasets_are_shown_and_checked_again(accord_node: Run, three: Institutions) -> None:
    home = three.homes[three.parties[0]].path
    (shown,) = accord_node("dataset", "list", "--home", home).json
    assert (shown["name"], shown["rows"], shown["problem"]) == ("tumours", 60, None)
    write_table(three.folder / "table-0.csv", rows=61)
    told = accord_node("dataset", "show", "tumours", "--home", home).json
    assert told["problem"] == "dataset-changed"
    auto = ("--policy", "auto-within-agreement")
    told = accord_node("dataset", "update", "tumours", *auto, "--home", home).json
    assert (told["rows"], told["policy"]) == (61, "auto-within-agreement")
    assert accord_node("dataset", "show", "x", "--home", home).code == "unknown-dataset"


def test_try_trains_and_throws_away(
    accord_node: Run, three: Institutions, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = three.homes[three.parties[0]].path
    told = accord_node(
        "try", "tabular-binary", "--dataset", "tumours", "--architecture", "mlp",
        "--args", '{"hidden": [8]}', "--steps", "3", "--home", home,
    ).json  # fmt: skip
    assert (told["rows"], told["features"], told["dimension"]) == (60, 2, 33)
    assert told["seconds_per_round"] > 0 and told["peak_memory_bytes"] > 0
    part = accord_node(
        "try", "tabular-binary", "--dataset", "tumours", "--architecture", "mlp", "--args",
        '{"hidden": [8]}', "--freeze", "2", "--lora", '{"rank": 2, "layers": ["0"]}',
        "--steps", "3", "--device", "auto", "--home", home,
    ).json  # fmt: skip
    assert part["dimension"] == 2 * (2 + 8)
    assert accord_node("budget", "show", "--home", home).json["budgets"][0]["entries"] == 0
    assert not (home / outbox.FILE_NAME).exists()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    nowhere = accord_node(
        "try", "tabular-binary", "--dataset", "tumours", "--device", "cuda", "--home", home
    )
    assert (nowhere.status, nowhere.code) == (2, "no-cuda")
    unknown = accord_node("try", "nothing", "--dataset", "tumours", "--home", home)
    assert (unknown.status, unknown.code) == (1, "unknown-task")
    for bad in ("{", "[]"):
        wrong = accord_node(
            "try", "tabular-binary", "--dataset", "tumours", "--args", bad, "--home", home
        )
        assert (wrong.status, wrong.code) == (2, "bad-arguments")
        wrong = accord_node(
            "try", "tabular-binary", "--dataset", "tumours", "--lora", bad, "--home", home
        )
        assert (wrong.status, wrong.code) == (2, "bad-arguments")


def test_a_wrong_option_is_a_usage_error(accord_node: Run) -> None:
    assert accord_node("status", "--nothing", text=True).status == 2
