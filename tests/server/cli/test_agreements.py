"""An agreement's later life at the console: checked, amended, compared, suspended, resumed."""

from pathlib import Path

import yaml

from accord_common.agreement import Agreement
from tests.server.cli.office import Office, accord


def test_a_run_that_would_be_allowed(office: Office) -> None:
    answer = office.ok("agreement", "check", office.plan())
    assert (answer["allowed"], answer["reasons"], answer["status"]) == (True, [], "active")
    assert [item["label"] for item in answer["datasets"]] == [
        f"hospital-{number}/tumours" for number in (1, 2, 3)
    ]
    assert all(float(item["epsilon"]) <= 1 and item["left"] == "3" for item in answer["datasets"])
    assert "would be allowed" in office.text("agreement", "check", office.plan())


def test_every_reason_why_a_run_would_not_be_allowed(office: Office) -> None:
    plan = office.plan(rounds=60, clipping_norm=5, sampling_rate=0.9, epsilon=None,
                       noise_multiplier=0.4)  # fmt: skip
    answer = office.run("agreement", "check", plan)
    assert answer.code == 3 and not answer.json["allowed"]
    codes = {reason["code"] for reason in answer.json["reasons"]}
    assert codes == {
        "too-many-rounds",
        "noise-too-small",
        "clipping-norm-too-large",
        "sampling-rate-too-large",
        "budget-exceeded",
    }
    over = [item for item in answer.json["reasons"] if item["code"] == "budget-exceeded"]
    assert len(over) == 3 and all("the cap is 3" in item["message"] for item in over)


def test_the_registry_answers_the_same(office: Office) -> None:
    """What programs ask: `POST /v1/agreements/{hash}/check`."""
    hospital = office.client(office.world.hospitals[0])
    keys = office.world.run_keys()
    body = office.world.manifest_body(keys, rounds=60, max_attempts_total=60, privacy="dp")
    view = hospital.check_run(office.world.agreement_hash, body)
    assert not view.allowed and view.status == "active"
    codes = [reason.code for reason in view.reasons]
    assert "too-many-rounds" in codes and "architecture-not-permitted" in codes
    assert view.purpose == ["DUO:0000007 (DS, disease specific research)"]
    assert [item.party for item in view.datasets] == [office.world.hospitals[0].id]
    assert view.recipients == office.world.agreement.release.recipients


def test_terms_begin_with_a_template(office: Office, tmp_path: Path) -> None:
    path = tmp_path / "terms.yaml"
    new = ("agreement", "new", "--template", "clinical", "--output", path)
    assert accord(*new).code == 0
    again = accord(*new, "--format", "json")
    assert (again.code, again.error["code"]) == (2, "file-exists")
    drafted = office.run("agreement", "draft", path, "--out", tmp_path / "agreement.json")
    assert (drafted.code, drafted.error["code"]) == (2, "bad-document")
    assert f"{path.name}:" in drafted.error["message"]


def test_a_version_is_amended_and_what_is_wider_is_shown(office: Office, tmp_path: Path) -> None:
    (known, *_) = office.ok("agreement", "list")
    terms, out = tmp_path / "next.yaml", tmp_path / "next.json"
    office.ok("agreement", "amend", known["hash"], "--output", terms)
    value = yaml.safe_load(terms.read_text())
    value["privacy"]["epsilon_cap"] = "8"
    terms.write_text(yaml.safe_dump(value))
    text = office.text("agreement", "draft", terms, "--out", out)
    assert "! epsilon cap of tumours (hospital-1): 3 -> 8 (wider)" in text
    made = Agreement.from_bytes(out.read_bytes().strip())
    assert (made.version, made.previous) == (2, known["hash"])
    found = office.ok("agreement", "diff", known["hash"][:12], out)
    assert sorted(item["direction"] for item in found["changes"])[-3:] == ["wider"] * 3
    proposed = office.ok("agreement", "propose", out, "--yes")
    shown = office.ok("agreement", "show", proposed["hash"])
    assert [item["what"] for item in shown["changes"] if item["direction"] == "wider"] == [
        f"epsilon cap of tumours (hospital-{number})" for number in (1, 2, 3)
    ]
    assert office.ok("agreement", "show", known["hash"])["status"] == "active"  # until all sign


def test_a_suspension_is_seen_and_taken_back(office: Office) -> None:
    known = office.world.agreement_hash
    office.ok("agreement", "suspend", known, "--reason", "an audit", "--yes")
    shown = office.ok("agreement", "show", known)
    assert shown["status"] == "suspended"
    assert [(item["kind"], item["reason"]) for item in shown["halts"]] == [
        ("suspension", "an audit")
    ]
    assert "halted  Trial office suspends it" in office.text("agreement", "show", known)
    check = office.run("agreement", "check", office.plan())
    assert (check.code, [item["code"] for item in check.json["reasons"]]) == (
        3,
        ["agreement-suspended"],
    )
    twice = office.run("agreement", "suspend", known, "--reason", "again", "--yes")
    assert twice.error["code"] == "already-suspended"
    assert office.ok("agreement", "resume", known, "--yes")["status"] == "active"
    none = office.run("agreement", "resume", known, "--yes")
    assert none.error["code"] == "not-suspended"
    office.ok("agreement", "suspend", known, "--reason", "once more", "--yes")
    office.ok("agreement", "resume", known, "--yes")
