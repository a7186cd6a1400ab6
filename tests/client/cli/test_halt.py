"""Getting out of an agreement at a node that reaches nobody."""

from pathlib import Path

from accord_client import halts
from accord_client.agreements import Agreements
from tests.client.cli.conftest import Run
from tests.client.institutions import make_institutions


def test_withdrawing_and_suspending_need_no_registry(accord_node: Run, tmp_path: Path) -> None:
    three = make_institutions(tmp_path)
    home = three.homes[three.parties[0]]
    known = three.world.agreement_hash
    own = Agreements.of(home)
    at = ("--home", home.path, "--yes")

    unknown = accord_node("agreement", "suspend", "ffffffff", "--reason", "x", *at)
    assert (unknown.status, unknown.code) == (1, "unknown-agreement")
    resumed = accord_node("agreement", "resume", known[:8], *at)
    assert resumed.code == "not-suspended"
    silent = accord_node("agreement", "suspend", known[:8], "--reason", "x", "--home", home.path)
    assert silent.code == "not-confirmed" and halts.suspensions(own, known) == {}

    told = accord_node("agreement", "suspend", known[:8], "--reason", "an audit", *at).json
    assert (told["hash"], told["state"], told["posted"]) == (known, "suspended", False)
    (suspension,) = halts.suspensions(own, known).values()
    assert (suspension.reason, suspension.previous) == ("an audit", None)
    again = accord_node("agreement", "suspend", known[:8], "--reason", "x", *at)
    assert again.code == "already-suspended"
    assert accord_node("agreement", "resume", known[:8], *at).json["state"] == "resumed"
    assert halts.suspensions(own, known) == {}

    assert accord_node("agreement", "suspend", known[:8], "--reason", "again", *at).status == 0

    words = accord_node("agreement", "withdraw", known, "--reason", "over", *at, text=True)
    assert "is withdrawn by this institution" in words.out
    assert "The registry has yet to be told" in words.out
    assert halts.withdrawn(own, known) and len(halts.waiting(own)) == 4
    own_name = home.profile.name
    assert halts.reasons(own, known) == [(own.party, "over"), (own.party, "again")]
    shown = accord_node("agreement", "show", known[:8], "--home", home.path, text=True)
    assert f"WITHDRAWN as far as this node knows. {own_name}: over" in shown.out
    assert shown.out.rstrip().endswith(known)
