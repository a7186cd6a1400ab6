"""Each thing done on the page leaves what its verb of the console leaves."""

from collections.abc import Sequence
from typing import Any

import pytest

from accord_client import halts, outbox
from accord_client.agreements import Agreements
from accord_client.balances import balances
from accord_client.steward.board import read_board
from accord_common.agreement import Agreement
from accord_common.envelope import Envelope
from accord_common.home import Home
from accord_common.privacy.rules import CapRule
from tests.client.cli.conftest import Run
from tests.client.institutions import PASSPHRASE, Institutions
from tests.client.steward.conftest import Visitor, start
from tests.server.registry.stack import Stack
from tests.world import World


@pytest.fixture
def console(accord_node: Run, joined: tuple[Stack, Institutions]) -> Run:
    """The second institution's."""
    home = joined[1].homes[joined[1].parties[1]]

    def call(*arguments: object, text: bool = False) -> Any:
        return accord_node(*arguments, "--home", home.path, text=text)

    return call


def left(home: Home, since: int = 0) -> Sequence[tuple[str, str]]:
    """What an institution's outbox says: kind and receiver, line by line."""
    lines = outbox.lines(home.path / outbox.FILE_NAME)
    return [(line.kind, line.to) for line in lines][since:]


def names(home: Home) -> list[str]:
    """The kinds of files in a folder, without what is named by a hash."""
    found = (path.relative_to(home.path) for path in home.path.rglob("*.json"))
    return sorted(f"{path.parent}/{len(path.name)}" for path in found)


def both(three: Institutions) -> list[Home]:
    return [three.homes[party] for party in three.parties[:2]]


def decisions(three: Institutions, run: str) -> Sequence[tuple[str, str, str]]:
    found = []
    for party in three.parties[:2]:
        with three.open(party) as stores:
            known = stores.state.run(run)
            assert known is not None
            found.append((known.decision, known.code, known.reason))
    return found


def test_a_run_is_approved_as_on_the_console(
    joined: tuple[Stack, Institutions], steward: Visitor, console: Run
) -> None:
    stack, three = joined
    before = [len(left(home)) for home in both(three)]
    manifest = start(joined)
    shown = steward.read(f"/decisions/{manifest.id}")
    assert "Your agreement and your budget allow this run" in shown
    assert f"accord-node approve {manifest.id}" in shown
    hash_ = shown.partition('name="manifest" value="')[2].partition('"')[0]
    other = steward.post(f"/runs/{manifest.id}/approve", manifest="0" * 64)
    assert (other.status_code, other.json()["code"]) == (409, "run-changed")
    assert steward.post(f"/runs/{manifest.id}/approve", manifest=hash_).status_code == 204
    assert console("approve", manifest.id, "--yes").status == 0
    (own, theirs) = decisions(three, manifest.id)
    assert own == theirs == ("accept", "", "")
    mine, others = (left(home, since) for home, since in zip(both(three), before, strict=True))
    assert mine == others == [("consent", "registry")]
    again = steward.post(f"/runs/{manifest.id}/approve", manifest=hash_)
    assert again.json()["code"] == "already-decided"
    assert steward.http.get(f"/decisions/{manifest.id}").status_code == 409
    with three.open(three.parties[0]) as stores:
        (balance,) = balances(stores, stores.datasets.all())
    assert balance.reserved > 0
    stack.client(three.world.coordinator).stop(manifest.id, "enough")


def test_a_run_is_refused_as_on_the_console(
    joined: tuple[Stack, Institutions], steward: Visitor, console: Run
) -> None:
    _, three = joined
    first, second = start(joined), start(joined)
    for run in (first, second):
        shown = steward.read(f"/decisions/{run.id}")
        hash_ = shown.partition('name="manifest" value="')[2].partition('"')[0]
        if run is first:
            refused = steward.post(f"/runs/{run.id}/refuse", manifest=hash_, reason="not now")
            assert refused.status_code == 204
    assert console("refuse", second.id, "--reason", "not now").status == 0
    decided = []
    for party, run in zip(three.parties[:2], (first, second), strict=True):
        with three.open(party) as stores:
            known = stores.state.run(run.id)
            assert known is not None
            decided.append((known.decision, known.code, known.reason))
    assert decided[0] == decided[1] == ("refuse", "steward-refused", "not now")


def test_a_run_that_a_check_refuses_cannot_be_approved(
    joined: tuple[Stack, Institutions], steward: Visitor
) -> None:
    _, three = joined
    with three.open(three.parties[0]) as stores:
        dataset = stores.datasets.all()[0].id
    own = f"/budgets/{dataset}/cap"
    assert steward.change("PUT", own, json={"epsilon": "0.01"}).status_code == 204
    manifest = start(joined)
    shown = steward.read(f"/decisions/{manifest.id}")
    assert "This run is not allowed" in shown and "budget-exceeded" in shown
    assert "/approve" not in shown.replace("accord-node approve", "")
    hash_ = shown.partition('name="manifest" value="')[2].partition('"')[0]
    answer = steward.post(f"/runs/{manifest.id}/approve", manifest=hash_)
    assert (answer.status_code, answer.json()["code"]) == (403, "budget-exceeded")
    with three.open(three.parties[0]) as stores:
        known = stores.state.run(manifest.id)
        assert known is not None and known.decision == "refuse"
    assert steward.change("DELETE", own).status_code == 204


def test_an_own_cap_is_the_consoles_and_the_tightest_holds(
    joined: tuple[Stack, Institutions], steward: Visitor, console: Run
) -> None:
    _, three = joined
    rules = []
    for number, party in enumerate(three.parties[:2]):
        with three.open(party) as stores:
            local = stores.datasets.all()[0]
            since = len(stores.ledger.rulings())
        for epsilon, delta in (("2.50", None), ("1e3", "0.000001")):
            if number == 0:
                wanted = {"epsilon": epsilon} | ({"delta": delta} if delta else {})
                put = steward.change("PUT", f"/budgets/{local.id}/cap", json=wanted)
                assert put.status_code == 204, put.text
            else:
                options = ["--delta", delta] if delta else []
                assert console("budget", "cap", local.id, "--epsilon", epsilon, *options).json
        with three.open(party) as stores:
            found = balances(stores, [local])
            left_of = {one.agreement: one.left for one in found}
            agreed = left_of[three.world.agreement_hash]
            assert min(left_of.values()) <= agreed  # a looser own cap frees nothing
        if number == 0:
            assert steward.change("DELETE", f"/budgets/{local.id}/cap").status_code == 204
        else:
            assert console("budget", "cap", local.id, "--remove").status == 0
        with three.open(party) as stores:
            made = [record.rule for record, _ in stores.ledger.rulings()[since:]]
            rules.append([rule.cap for rule in made if isinstance(rule, CapRule)])
    assert rules[0] == rules[1] and len(rules[0]) == 3 and rules[0][2] is None
    wrong: list[tuple[dict[str, object], str]] = [
        ({"epsilon": "-1"}, "bad-cap"),
        ({"epsilon": "NaN"}, "bad-cap"),
        ({"epsilon": "1", "delta": "0.5"}, "bad-cap"),
        ({"epsilon": 1}, "bad-request"),
    ]
    for form, code in wrong:
        with three.open(three.parties[0]) as stores:
            local = stores.datasets.all()[0]
        answer = steward.change("PUT", f"/budgets/{local.id}/cap", json=form)
        assert (answer.status_code, answer.json()["code"]) == (400, code)
    gone = steward.change("DELETE", f"/budgets/{local.id}/cap")
    assert gone.json()["code"] == "no-cap"


def proposed(joined: tuple[Stack, Institutions]) -> World:
    """The next version, which the coordinator alone has signed."""
    stack, three = joined
    coming = three.world.next_version(retention_days=three.world.agreement.retention_days + 7)
    coordinator = stack.client(three.world.coordinator)
    coordinator.propose(coming.partly_signed(three.world.coordinator))
    return coming


def test_an_agreement_is_signed_by_its_whole_hash_as_on_the_console(
    joined: tuple[Stack, Institutions], steward: Visitor, console: Run
) -> None:
    _, three = joined
    coming = proposed(joined)
    hash_, home = coming.agreement_hash, both(three)[0]
    assert [one.hash for one in read_board(home).proposals] == [hash_]
    steward.site.node.board.once()
    assert f"/agreements/{hash_}" in steward.read("/")
    shown = steward.read(f"/agreements/{hash_}")
    assert "What changes against the version before" in shown and "more than before" in shown
    assert shown.count(hash_) >= 3 and 'name="hash" autocomplete="off"' in shown

    before = [len(left(one)) for one in both(three)]
    sign = f"/agreements/{hash_}/sign"
    flipped = hash_[:-1] + ("0" if hash_[-1] != "0" else "1")
    for form, code in (
        ({"hash": hash_[:16], "passphrase": PASSPHRASE}, "hash-incomplete"),
        ({"hash": flipped, "passphrase": PASSPHRASE}, "hash-differs"),
        ({"hash": hash_, "passphrase": "not this one at all"}, "wrong-passphrase"),
        ({"hash": hash_}, "bad-request"),
    ):
        answer = steward.post(sign, **form)
        assert (answer.status_code, answer.json()["code"]) == (400, code)
        assert PASSPHRASE not in answer.text and "not this one" not in answer.text
    own = Agreements.of(home)
    assert hash_ not in own.signed() and [len(left(one)) for one in both(three)] == before

    assert steward.post(sign, hash=f" {hash_.upper()} ", passphrase=PASSPHRASE).status_code == 204
    assert console("agreement", "sign", hash_, "--yes").status == 0
    kept = [(one.path / "agreements" / f"{hash_}.json").read_bytes() for one in both(three)]
    assert [Agreement.from_bytes(Envelope.from_bytes(data).payload) for data in kept] == [
        coming.agreement
    ] * 2
    mine, others = (left(one, since) for one, since in zip(both(three), before, strict=True))
    assert mine == others == [("agreement-signature", "registry")]
    steward.site.node.board.once()
    assert read_board(home).proposals == ()


def test_a_pause_its_end_and_a_withdrawal_are_the_consoles(
    joined: tuple[Stack, Institutions], steward: Visitor, console: Run
) -> None:
    stack, three = joined
    known = three.world.agreement_hash
    before = [len(left(home)) for home in both(three)]
    at = f"/agreements/{known}"
    for step, form, code in (
        ("resume", {"passphrase": PASSPHRASE}, "not-suspended"),
        ("suspend", {"passphrase": PASSPHRASE}, "no-reason"),
        ("suspend", {"passphrase": "not this one at all", "reason": "r"}, "wrong-passphrase"),
        ("withdraw", {"passphrase": PASSPHRASE, "reason": "r"}, "not-confirmed"),
    ):
        assert steward.post(f"{at}/{step}", **form).json()["code"] == code
    own = Agreements.of(both(three)[0])
    assert halts.state(own, known) == "" and halts.waiting(own) == []

    told = {"passphrase": PASSPHRASE, "reason": "an audit"}
    assert steward.post(f"{at}/suspend", **told).status_code == 204
    assert halts.state(own, known) == "suspended"
    assert steward.post(f"{at}/suspend", **told).json()["code"] == "already-suspended"
    assert steward.post(f"{at}/resume", passphrase=PASSPHRASE).status_code == 204
    assert console("agreement", "suspend", known, "--reason", "an audit", "--yes").status == 0
    assert console("agreement", "resume", known, "--yes").status == 0
    assert steward.post(f"{at}/withdraw", **told, sure="yes").status_code == 204
    assert halts.withdrawn(own, known)
    withdrawn = console("agreement", "withdraw", known, "--reason", "an audit", "--yes")
    assert withdrawn.json["posted"]
    mine, others = (left(home, since) for home, since in zip(both(three), before, strict=True))
    assert mine == others
    assert mine == [(kind, "registry") for kind in ("suspension", "resumption", "withdrawal")]
    assert names(both(three)[0]) == names(both(three)[1])
    assert stack.client(three.world.coordinator).agreement(known).status == "withdrawn"
    assert "/withdraw" not in steward.read(at).replace("agreement withdraw", "")
