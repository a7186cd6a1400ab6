"""`accord-node budget`: what a steward sees of the ledger, and the steward's own cap."""

import json
import re
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from accord_client.datasets import Datasets
from accord_client.stores import LEDGER_FILE
from accord_common.errors import AccordError
from accord_common.fields import new_id, now
from accord_common.privacy.audit import read_export
from accord_common.privacy.filter import Cap, RdpFilter
from tests.client.cli.conftest import Run
from tests.client.institutions import Institutions, make_institutions
from tests.common.privacy.spends import spend
from tests.server.cli.office import accord

WIDE = Cap(epsilon="1000", delta="0.00001")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Institutions:
    return make_institutions(tmp_path_factory.mktemp("made"))


@pytest.fixture
def three(made: Institutions, tmp_path: Path) -> Institutions:
    """The same institutions for each test, but a fresh copy of the first one's folder."""
    first = made.parties[0]
    fresh = shutil.copytree(made.homes[first].path, tmp_path / "first")
    return replace(made, homes=made.homes | {first: replace(made.homes[first], path=fresh)})


@pytest.fixture
def node(accord_node: Run, three: Institutions, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The first hospital's verbs."""
    monkeypatch.setenv("ACCORD_NODE_HOME", str(three.homes[three.parties[0]].path))
    return accord_node


def charge(three: Institutions, **changes: object) -> None:
    with three.open(three.parties[0]) as stores:
        population = stores.datasets.find("tumours").population
        stores.ledger.charge(spend(population=population, **changes), [WIDE], now)


def test_a_cap_is_set_shown_raised_and_removed(node: Run, three: Institutions) -> None:
    assert node("budget", "cap", "tumours").json["cap"] is None
    told = node("budget", "cap", "tumours", "--epsilon", "0.50").json
    agreed = {"delta": "0.00001", "non_private": False}
    assert told["cap"] == {"epsilon": "0.5", **agreed}
    own = [row for row in node("budget", "show").json["budgets"] if row["agreement"] is None]
    assert [(row["cap"], row["left"]) for row in own] == [("0.5", "0.5000")]
    assert [one["epsilon"] for one in node("status").json["own_caps"]] == ["0.5"]
    assert "own cap on tumours: epsilon 0.5 at delta 0.00001" in node("status", text=True).out
    node("budget", "cap", "tumours", "--epsilon", "0.5")  # the same again is no change
    node("budget", "cap", "tumours", "--epsilon", "2", "--delta", "1e-6")
    told = node("budget", "cap", "tumours", "--remove").json
    assert [item["cap"] and item["cap"]["epsilon"] for item in told["history"]] == [
        "0.5",
        "2",
        None,
    ]
    assert node("budget", "cap", "tumours", "--remove").code == "no-cap"
    assert "0.000001" in node("budget", "cap", "tumours", text=True).out


def test_a_cap_that_says_nothing_is_refused(node: Run) -> None:
    for options in (
        ["--epsilon", "-1"],
        ["--epsilon", "much"],
        ["--epsilon", "NaN"],
        ["--epsilon", "1", "--delta", "0.5"],
        ["--epsilon", "1", "--remove"],
        ["--remove", "--non-private"],
        ["--delta", "0.00001"],
    ):
        told = node("budget", "cap", "tumours", *options)
        assert (told.status, told.code) == (2, "bad-cap"), options
    assert node("budget", "cap", "tumours").json["history"] == []


def test_consent_asks_the_stewards_cap_and_does_not_tell_it(node: Run, three: Institutions) -> None:
    from tests.client.test_node_deciding import look

    node("budget", "cap", "tumours", "--epsilon", "0.137")
    with three.open(three.parties[0]) as stores:
        verdict = look(three, stores, three.manifest()).verdict
    assert (verdict.decision, verdict.code) == ("refuse", "budget-exceeded")
    assert "0.137" not in verdict.reason and "epsilon 3 at delta" in verdict.reason


def test_show_says_what_is_spent_reserved_and_left(node: Run, three: Institutions) -> None:
    charge(three, steps=10)
    with three.open(three.parties[0]) as stores:
        run = three.accept(stores, three.manifest())
    told = node("budget", "show").json
    (row,) = told["budgets"]
    spent = RdpFilter(Cap(epsilon="3", delta="0.00001")).epsilon([spend(steps=10)])
    assert float(row["spent"]) == pytest.approx(spent, abs=1e-4)
    assert float(row["reserved"]) > 0
    whole = sum(float(row[key]) for key in ("spent", "reserved", "left"))
    assert whole == pytest.approx(3, abs=5e-4)
    (people,) = told["populations"]
    assert float(people["fixed_plan"]) < float(people["filter"]) == float(row["spent"])
    assert people["adjacency"] == "add-remove" and people["overlaps"] == []
    text = node("budget", "show", text=True).out
    assert "PLD" in text and "add-remove" in text and row["reserved"] in text
    with three.open(three.parties[0]) as stores:
        stores.state.follow(run, "stopped", now())
    (row,) = node("budget", "show").json["budgets"]
    assert row["reserved"] == "0.0000"


def second_dataset(three: Institutions) -> str:
    """Another table of this node, of people that nobody said to be the same; its population."""
    with three.open(three.parties[0]) as stores:
        known = stores.datasets.find("tumours")
        other = known.model_copy(update={"id": new_id(), "name": "blood", "population": new_id()})
        Datasets.of(stores.home.path).store(other)
    return other.population


def test_overlap_is_said_shown_and_taken_back(node: Run, three: Institutions) -> None:
    population = second_dataset(three)
    charge(three, steps=300)
    told = node("dataset", "overlap", "blood", "tumours").json
    assert sorted(told["datasets"]) == ["blood", "tumours"] and told["overlap"] is True
    people = {one["population"]: one for one in node("budget", "show").json["populations"]}
    blood = people[population]
    (tumours,) = (one for key, one in people.items() if key != population)
    assert (blood["entries"], blood["filter"]) == (0, "0")
    assert blood["with_overlaps"] == tumours["filter"] == tumours["with_overlaps"] != "0"
    assert blood["overlaps"] == [tumours["population"]]
    node("budget", "cap", "blood", "--epsilon", "0.2")  # now holds for tumours too
    asked = ("--sampling-rate", "0.01", "--noise-multiplier", "2")
    told = node("budget", "forecast", "--dataset", "tumours", *asked).json
    assert [(one["dataset"], one["fits"]) for one in told["forecasts"]] == [
        ("blood", False),
        ("tumours", True),
    ]
    node("dataset", "overlap", "tumours", "blood", "--remove")
    assert node("budget", "forecast", "--dataset", "tumours", *asked).json["allowed"] is True
    assert node("dataset", "overlap", "tumours", "tumours").code == "same-population"


def test_history_pages_through_what_each_charge_left(node: Run, three: Institutions) -> None:
    for number in range(5):
        charge(three, round=number, steps=100, run=("c" if number % 2 else "d") * 64)
    told = node("budget", "history", "--limit", "2").json
    assert [one["entry"] for one in told["entries"]] == [4, 3] and told["next"] == 2
    told = node("budget", "history", "--limit", "2", "--from", told["next"]).json
    assert [one["entry"] for one in told["entries"]] == [2, 1] and told["next"] == 0
    told = node("budget", "history", "--oldest-first", "--run", "dddd").json
    assert [one["round"] for one in told["entries"]] == [0, 2, 4] and told["next"] is None
    rule = RdpFilter(Cap(epsilon="0", delta="0.00001"))
    for one in told["entries"]:
        after = rule.epsilon([spend(steps=100 * (one["entry"] + 1))])
        assert float(one["epsilon"]) == pytest.approx(after, abs=1e-4)
        assert (one["noise_multiplier"], one["adjacency"]) == ("1", "add-remove")
    text = node("budget", "history", "--limit", "1", text=True).out
    assert "4 more: --from 3" in text and "epsilon after" in text
    assert node("budget", "history", "--run", "eeee").json["entries"] == []
    assert node("budget", "history", "--dataset", "x").code == "unknown-dataset"


def test_forecast_says_needs_and_left_and_is_right(node: Run, three: Institutions) -> None:
    charge(three, steps=100)
    with three.open(three.parties[0]) as stores:
        accepted = three.accept(stores, three.manifest())
    asked = ("--dataset", "tumours", "--sampling-rate", "0.01", "--steps", "100")
    noise = ("--noise-multiplier", "1")
    told = node("budget", "forecast", *asked, *noise, "--rounds", "2").json
    (one,) = told["forecasts"]
    assert told["allowed"] is one["fits"] is (float(one["needs"]) <= float(one["left"]))
    fitting = one["rounds_that_fit"]
    assert fitting > 2
    for rounds, fits in ((fitting, True), (fitting + 1, False)):
        (one,) = node("budget", "forecast", *asked, *noise, "--rounds", rounds).json["forecasts"]
        assert (one["fits"], one["rounds_that_fit"]) == (fits, fitting)
    found = node("budget", "forecast", *asked, "--rounds", fitting).json["mechanism"]
    assert float(found[0]["noise_multiplier"]) <= 1  # the least that fits, and 1 fits
    (of_run,) = node("budget", "forecast", accepted).json["forecasts"]
    (shown,) = node("budget", "show").json["budgets"]
    assert of_run["needs"] == shown["reserved"] and of_run["fits"]  # not set aside twice
    text = node("budget", "forecast", accepted, text=True).out
    assert re.search(r"this needs [0-9.]+, you have [0-9.]+ left: fits", text)


def test_forecast_refuses_what_it_cannot_answer(node: Run) -> None:
    asked = ("budget", "forecast", "--dataset", "tumours")
    for options in ([], ["--sampling-rate", "2"], ["--sampling-rate", "x"]):
        assert node(*asked, *options).code == "bad-forecast"
    assert node(*asked, "--sampling-rate", "0.1", "--noise-multiplier", "0").code == "bad-forecast"
    assert node("budget", "forecast", "nothing").code == "not-enrolled"  # asks the registry
    node("budget", "cap", "tumours", "--epsilon", "0")
    told = node(*asked, "--sampling-rate", "0.1")
    assert (told.status, told.code) == (3, "budget-too-small")


def test_verify_walks_the_ledger_and_names_what_is_broken(node: Run, three: Institutions) -> None:
    for number in range(3):
        charge(three, round=number)
    node("budget", "cap", "tumours", "--epsilon", "2")
    told = node("budget", "verify").json
    assert (told["entries"], told["rules"], told["ok"]) == (3, 1, True)
    assert told["head"] == node("budget", "show").json["ledger_head"]
    with closing(sqlite3.connect(three.homes[three.parties[0]].path / LEDGER_FILE)) as db:
        db.execute("DROP TRIGGER never_changed")
        db.execute("UPDATE entries SET payload = replace(payload, '1000', '10') WHERE sequence = 1")
        db.commit()
    told = node("budget", "verify")
    assert (told.status, told.code) == (5, "ledger-broken") and "entry 1:" in told.err


def test_an_export_holds_by_itself_and_gives_the_same_figures(
    node: Run, three: Institutions, tmp_path: Path
) -> None:
    second_dataset(three)
    for number in range(3):
        charge(three, round=number, steps=100)
    node("dataset", "overlap", "tumours", "blood")
    file = tmp_path / "ledger.jsonl"
    told = node("budget", "export", file).json
    assert (told["entries"], told["rules"]) == (3, 1)
    assert node("budget", "export", file).code == "file-exists"
    lines = file.read_bytes().splitlines(keepends=True)
    exported = read_export(lines)
    actor = three.actor(three.parties[0])
    assert (exported.party, exported.identity) == (actor.id, actor.identity.public)
    assert exported.head == told["head"]
    (people, _) = sorted(node("budget", "show").json["populations"], key=lambda o: -o["entries"])
    epsilon = exported.epsilon(people["population"], "0.00001")
    assert float(people["filter"]) == pytest.approx(epsilon, abs=1e-4)
    (overlapping,) = people["overlaps"]
    assert exported.epsilon(overlapping, "0.00001") == 0
    assert exported.epsilon(overlapping, "0.00001", overlapping=True) == epsilon
    told = accord("budget", "verify", file, "--format", "json")
    assert told.code == 0, told.err
    answer = json.loads(told.out)
    assert (answer["identity_key"], answer["head"]) == (exported.identity, exported.head)
    (one,) = answer["populations"]
    assert (one["filter"], one["fixed_plan"]) == (people["filter"], people["fixed_plan"])
    assert "3 entries hold" in accord("budget", "verify", file).out
    assert accord("budget", "verify", file, "--delta", "2").code == 2
    forged = json.loads(lines[3])
    for wrong, code in (
        ([lines[0], *lines[2:]], "bad-export"),  # no delegation
        ([lines[0], lines[1], *lines[3:], lines[2]], "bad-export"),  # a rule last
        ([*lines[:3], *lines[4:]], "ledger-broken"),  # an entry left out
        ([*lines[:3], lines[4], lines[3], lines[5]], "ledger-broken"),
        ([*lines[:-1], lines[-1].rstrip()], "bad-export"),
        ([*lines, b"{}\n"], "bad-export"),
        ([], "bad-export"),
        (
            [*lines[:3], json.dumps(forged | {"signatures": []}).encode() + b"\n"],
            "bad-export",
        ),
    ):
        with pytest.raises(AccordError) as caught:
            read_export(wrong)
        assert caught.value.code == code
    file.write_bytes(b"".join([*lines[:3], *lines[4:]]))
    told = accord("budget", "verify", file)
    assert told.code == 5 and "entry 0 is numbered 1" in told.err


def test_a_stewards_cap_permits_releases_without_privacy_only_where_it_says_so(
    node: Run, three: Institutions
) -> None:
    permitted = Cap(epsilon="1000", delta="0.00001", non_private=True)
    with three.open(three.parties[0]) as stores:
        population = stores.datasets.find("tumours").population
        one = spend(population=population, mechanism="none", noise_multiplier="0")
        stores.ledger.charge(one, [permitted], now)
    asked = ("budget", "forecast", "--dataset", "tumours", "--sampling-rate", "0.01")
    for options, fits in ((["--non-private"], True), ([], False)):
        node("budget", "cap", "tumours", "--epsilon", "5", *options)
        told = node(*asked, "--noise-multiplier", "50").json["forecasts"]
        (own,) = (one for one in told if one["agreement"] is None)
        assert own["fits"] is fits
