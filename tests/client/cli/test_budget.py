"""`accord-node budget`: what a steward sees of the ledger, and the steward's own cap."""

import pytest

from accord_common.fields import now
from accord_common.privacy.filter import Cap, RdpFilter
from tests.client.cli.conftest import Run
from tests.client.institutions import Institutions, make_institutions
from tests.common.privacy.spends import spend

WIDE = Cap(epsilon="1000", delta="0.00001")


@pytest.fixture
def three(tmp_path_factory: pytest.TempPathFactory) -> Institutions:
    return make_institutions(tmp_path_factory.mktemp("three"))


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
    assert told["cap"] == {"epsilon": "0.5", "delta": "0.00001"}  # delta as agreed
    own = [row for row in node("budget", "show").json["budgets"] if row["agreement"] is None]
    assert [(row["cap"], row["left"]) for row in own] == [("0.5", "0.5000")]
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
    assert row["reserved"] == "0"
