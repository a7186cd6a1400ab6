"""Invitations, approvals, agreements and the catalogue of datasets at the console."""

from pathlib import Path
from typing import Any

from accord_common.agreement import Agreement
from accord_common.joining import parse_invitation
from accord_server.cli.dataset import labels
from tests.catalogued import RESEARCH, entry
from tests.server.cli.office import TERMS, Office, accord
from tests.world import make_actor


def test_an_invitation_carries_what_the_invitee_needs(office: Office) -> None:
    made = office.ok("partner", "invite", "--role", "auditor", "--name", "Watch")
    told = parse_invitation(made["invitation"])
    assert (told.role, told.name, told.url) == ("auditor", "Watch", office.url)
    text = office.text("partner", "invite", "--role", "data-holder", "--name", "North")
    assert "accord-node enroll" in text


def test_partners_are_listed_and_shown_with_their_keys(office: Office) -> None:
    partners = {item["name"]: item for item in office.ok("partner", "list")}
    hospital = office.world.hospitals[0]
    assert partners[hospital.name]["status"] == "approved"
    assert "hospital-1" in office.text("partner", "list")
    assert hospital.identity.public in office.text("partner", "show", "hospital-1")
    unknown = office.run("partner", "show", "nobody")
    assert (unknown.code, unknown.error["code"]) == (1, "unknown-party")


def test_a_partner_is_pending_until_approved(office: Office) -> None:
    late = make_actor("Late hospital", "data-holder")
    office.world.delegations[late.id] = late.delegation()
    office.enrol(late)
    assert office.ok("partner", "show", late.name)["status"] == "pending"
    entries = [*TERMS["datasets"][:2], {"owner": late.name, "name": "x"}]
    terms = office.document("late.yaml", TERMS | {"datasets": entries})
    drafted = office.run("agreement", "draft", terms, "--out", office.folder / "late.json")
    assert (drafted.code, drafted.error["code"]) == (1, "not-approved")
    assert office.ok("partner", "approve", late.id)["status"] == "approved"


def test_an_agreement_is_shown_in_plain_words_with_its_signatures(office: Office) -> None:
    (brief,) = office.ok("agreement", "list")
    assert (brief["status"], brief["missing"]) == ("active", [])
    shown = office.ok("agreement", "show", brief["hash"][:12])
    assert Agreement.from_json(shown["agreement"]) == office.world.agreement
    text = office.text("agreement", "show", brief["hash"])
    assert "may spend at most epsilon 3" in text and "signed  " in text
    assert "Tumour screening" in office.text("agreement", "list")
    unknown = office.run("agreement", "show", "ffffffff")
    assert (unknown.code, unknown.error["code"]) == (1, "unknown-agreement")


def test_nothing_is_signed_without_a_word(office: Office) -> None:
    file = office.folder / "second.json"
    terms = office.document("second.yaml", TERMS | {"title": "Second"})
    office.ok("agreement", "draft", terms, "--out", file)
    silent = office.run("agreement", "propose", file)
    assert (silent.code, silent.error["code"]) == (2, "not-confirmed")
    assert [item["title"] for item in office.ok("agreement", "list")] == ["Tumour screening"]


def test_terms_that_name_another_key_of_ours_are_not_signed(office: Office) -> None:
    agreement = office.world.agreement
    own = office.world.coordinator
    parties = [
        party.model_copy(update={"identity_key": "ab" * 32}) if party.id == own.id else party
        for party in agreement.parties
    ]
    file = office.folder / "exchanged.json"
    file.write_bytes(agreement.model_copy(update={"parties": parties}).to_bytes())
    answer = office.run("agreement", "propose", file, "--yes")
    assert (answer.code, answer.error["code"]) == (3, "own-key-exchanged")


def test_a_changed_draft_is_refused(office: Office) -> None:
    file = office.folder / "broken.json"
    file.write_bytes(office.world.agreement.to_bytes().replace(b'"version":1', b'"version":1.5'))
    answer = office.run("agreement", "propose", file, "--yes")
    assert (answer.code, answer.error["code"]) == (5, "not-canonical")


def test_an_auditor_signs_and_anybody_withdraws(office: Office, tmp_path: Path) -> None:
    invited = office.ok("partner", "invite", "--role", "auditor", "--name", "Auditor")
    own = ("--home", tmp_path / "auditor", "--format", "json")
    accord("init", "--name", "Auditor", "--role", "auditor", "--jurisdiction", "FR", *own)
    assert accord("enroll", invited["invitation"], *own).code == 0
    office.ok("partner", "approve", "Auditor")
    terms = office.document("audited.yaml", TERMS | {"title": "Audited", "auditors": ["Auditor"]})
    file = office.folder / "audited.json"
    office.ok("agreement", "draft", terms, "--out", file)
    proposed = office.ok("agreement", "propose", file, "--yes")
    assert proposed["signed"] == ["Trial office"] and "Auditor" in proposed["missing"]
    part = accord("agreement", "sign", proposed["hash"][:12], "--yes", *own)
    assert (part.code, part.error["code"]) == (2, "hash-incomplete")
    signed = accord("agreement", "sign", proposed["hash"], "--yes", *own).json
    assert "Auditor" in signed["signed"]
    (plan,) = [office.run("run", "plan", office.plan(agreement="Audited"))]
    assert (plan.code, plan.error["code"]) == (1, "not-active")
    assert "hospital-1" in plan.error["hint"]


def test_a_wrong_passphrase_signs_nothing(office: Office, tmp_path: Path) -> None:
    secret = tmp_path / "passphrase"
    secret.write_text("another passphrase\n")
    file = office.folder / "agreement.json"
    answer = office.run("agreement", "propose", file, "--yes", "--passphrase-file", secret)
    assert (answer.code, answer.error["code"]) == (2, "wrong-passphrase")


def test_datasets_are_found_and_shown(office: Office) -> None:
    first, second, _ = office.world.hospitals
    office.client(first).post(entry(office.world, first, duo=[RESEARCH]))
    assert [found["owner"] for found in office.ok("dataset", "list", "--duo", "GRU")] == [first.id]
    assert len(office.ok("dataset", "list")) == 3
    (found,) = office.ok("dataset", "list", "--owner", second.name)
    assert found["entry"] is None and found["owner"] == second.id
    text = office.text("dataset", "list", "--column", "radius")
    assert "hospital-1/tumours" in text and "Breast tumours" in text and second.name not in text
    assert "No dataset is like that." in office.text("dataset", "list", "--column", "height")
    shown = office.text("dataset", "show", "hospital-1/tumours")
    assert "general research use" in shown and "0 to 50" in shown and "mm" in shown
    assert "not in the catalogue" in office.text("dataset", "show", second.dataset)
    for arguments, code in (
        (("list", "--duo", "XYZ"), "unknown-duo-code"),
        (("list", "--owner", "nobody"), "unknown-party"),
        (("show", "lungs"), "unknown-dataset"),
        (("show", "tumours"), "ambiguous-dataset"),
    ):
        assert office.run("dataset", *arguments).error["code"] == code


def test_names_are_completed_from_the_registry(office: Office) -> None:
    class Context:
        params: dict[str, Any] = {"home": office.home}  # noqa: RUF012

    context: Any = Context()
    assert labels(context, "hospital-2") == ["hospital-2/tumours"]
    Context.params = {"home": office.folder / "nowhere"}
    assert labels(context, "") == []
