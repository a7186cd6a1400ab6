"""Persons and their tokens at the console, against a registry that serves."""

import os
from pathlib import Path

import pytest

from accord_common.api.client import RegistryClient
from accord_common.errors import PolicyError, UsageError
from accord_common.home import Home
from tests.server.cli.office import PASSPHRASE, Office, accord

PASSWORD = "plum harbour kettle 94"


@pytest.fixture
def password(tmp_path: Path) -> Path:
    file = tmp_path / "password"
    file.write_text(PASSWORD + "\n")
    return file


def test_from_an_invitation_to_a_token_that_ends(office: Office, password: Path) -> None:
    made = office.ok("people", "invite", "ada@example.org", "--name", "Ada L.", "--role", "owner")
    assert made["link"] == f"{office.url}/welcome#{made['code']}"
    assert office.ok("people", "show", "Ada@example.org")["status"] == "invited"
    weak = password.with_name("weak")
    weak.write_text("administrator1")
    told = office.run("people", "accept", made["code"], "--password-file", weak)
    assert (told.code, told.error["code"]) == (2, "weak-password")
    office.ok("people", "accept", made["code"], "--password-file", password)

    new = ("token", "create", "ada@example.org", "--name", "notebook", "--scope", "read")
    told = office.run(*new, "--days", "367", "--password-file", password)
    assert told.code == 2
    told = office.run(*new, "--password-file", weak)
    assert (told.code, told.error["code"]) == (3, "wrong-credentials")
    secret = office.ok(*new, "--days", "30", "--password-file", password)["secret"]
    with RegistryClient(office.url, office.ca_pem, secret) as client:
        me = client.me()
        assert me.person is not None and (me.person.login, me.scopes) == (
            "ada@example.org",
            ["read"],
        )
        assert client.runs() == [] and [one.login for one in client.people()] == ["ada@example.org"]
        with pytest.raises(PolicyError, match="wrong-scope"):
            client.invite_person("eve", "Eve", "owner")
        (listed,) = office.ok("token", "list")
        assert "notebook" in office.text("token", "list") and secret not in str(listed)
        assert office.ok("token", "revoke", listed["id"])["status"] == "revoked"
    assert office.ok("token", "list") == []

    assert office.ok("people", "role", "ada@example.org", "coordinator")["role"] == "coordinator"
    assert office.ok("people", "disable", "ada@example.org")["status"] == "disabled"
    assert office.ok("people", "enable", "ada@example.org")["status"] == "active"
    again = office.text("people", "reset", "ada@example.org", "--second-factor")
    assert "/welcome#" in again and "accord people accept" in again
    assert "invited" in office.text("people", "list")
    unknown = office.run("people", "show", "nobody")
    assert (unknown.code, unknown.error["code"]) == (1, "unknown-person")


def test_a_person_reads_from_a_folder_without_a_key(
    office: Office, password: Path, tmp_path: Path
) -> None:
    made = office.ok("people", "invite", "eve@example.org", "--name", "Eve", "--role", "auditor")
    office.ok("people", "accept", made["code"], "--password-file", password)
    folder = tmp_path / "reading"
    told = office.text(
        "token", "create", "eve@example.org", "--name", "laptop", "--scope", "read",
        "--password-file", password, "--folder", folder,
    )  # fmt: skip
    secret = (folder / "token").read_text()
    assert "holds no key" in told and secret not in told
    assert sorted(path.name for path in folder.iterdir()) == ["ca.pem", "profile.json", "token"]
    assert [path.stat().st_mode & 0o077 for path in (folder, *folder.iterdir())] == 4 * [0]
    assert accord("audit", "exceptions", "--home", folder).out == "Nothing.\n"
    os.utime(folder / "ca.pem", (0, 0))  # a day later
    listed = accord("people", "list", "--home", folder)
    assert (listed.code, listed.err) == (0, "")
    reader = Home.open(folder)
    with pytest.raises(UsageError, match=r"\[no-key\]"):
        reader.identity(PASSPHRASE)
    with pytest.raises(UsageError, match=r"\[no-key\]"):
        reader.node_key()
    again = office.run(
        "token", "create", "eve@example.org", "--name", "laptop", "--scope", "read",
        "--password-file", password, "--folder", folder,
    )  # fmt: skip
    assert (again.code, again.error["code"]) == (2, "home-exists")
    assert len(office.ok("token", "list")) == 1, "no token was made for nothing"
