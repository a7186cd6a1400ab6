"""`accord ca` from the coordinator's desk: who is behind, and nobody is shut out unasked."""

import os
import signal
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from accord_common.api.client import RegistryClient
from accord_common.authorities import fingerprint_of, read_bundle
from accord_common.fields import now
from accord_common.home import Home
from accord_server.ca import create_ca
from accord_server.certificates import issue
from tests.server.cli.office import Office, accord


def ca(office: Office, *arguments: str | Path) -> Any:
    home = ("--home", office.folder / "ca", "--format", "json")
    answer = accord("ca", *arguments, *home)
    return answer.json if answer.code == 0 else answer.error["code"]


def partners(office: Office) -> dict[str, bool]:
    told = ca(office, "status", "--party", office.home)["partners"]
    return {one["name"]: one["ready"] for one in told}


@pytest.mark.parametrize("name", ["../x", "/tmp/x", "a/b", "", ".hidden", "a b", "x" * 65])
def test_a_certificates_name_stays_in_its_folder(tmp_path: Path, name: str) -> None:
    home = ("--home", tmp_path / "ca", "--format", "json")
    assert accord("ca", "init", *home).code == 0
    (tmp_path / "out").mkdir()
    answer = accord(*("ca", "issue", "a.example", "--out", tmp_path / "out", "--name", name, *home))
    assert answer.error["code"] == "bad-name"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ca", "out"]


def test_an_authority_is_retired_once_everybody_trusts_its_successor(office: Office) -> None:
    assert ca(office, "retire", "--party", office.home) == "partners-behind"  # nobody has told yet
    made = ca(office, "rotate", "--yes")
    assert ca(office, "rotate", "--yes") == "rotation-under-way"
    renewed = ca(office, "renew", office.folder / "registry.pem")
    assert not any(partners(office).values())
    home = Home.open(office.home)
    os.utime(home.ca_path, (0, 0))  # a day and more ago
    assert office.run("partner", "list").code == 0  # and its log says what changed
    assert [fingerprint_of(one) for one in read_bundle(home.ca_path.read_bytes())][1:] == [
        made["fingerprint"]
    ]
    assert {name for name, ready in partners(office).items() if ready} == {"Trial office"}
    assert ca(office, "retire", "--party", office.home) == "partners-behind"
    for actor in [*office.world.hospitals, office.world.aggregator]:
        office.client(actor).tell_trust([made["fingerprint"]])
    assert all(partners(office).values())
    done = ca(office, "retire", "--party", office.home)
    assert (done["fingerprint"], done["shut_out"]) == (made["fingerprint"], [])
    shown = ca(office, "status", "--party", office.home)
    assert [one["present"] for one in shown["authorities"]] == [True]
    assert [one["authority"] for one in shown["servers"]] == [made["fingerprint"]]
    assert renewed[0]["spki"] == shown["servers"][0]["spki"]
    text = accord("ca", "status", "--home", office.folder / "ca", "--party", office.home).out
    assert "Test" not in text and "Trial office" in text
    os.kill(office.pid, signal.SIGHUP)
    with RegistryClient(office.url, (office.folder / "ca" / "ca.pem").read_bytes()) as client:
        _until_ready(client)


def _until_ready(client: RegistryClient) -> None:
    """SIGHUP is heeded a moment after it was sent."""
    for _ in range(100):
        try:
            return client.ready()
        except Exception as error:
            last = error
    raise last


def test_the_status_names_what_ends_and_what_renews_it(tmp_path: Path) -> None:
    folder, start = tmp_path / "ca", now() - timedelta(days=380)
    create_ca(folder, "Test CA", start)
    issue(folder, ["a.example"], tmp_path / "s.pem", tmp_path / "s.key", start)
    issue(folder, ["b.example"], tmp_path / "t.pem", tmp_path / "t.key", now())
    options = ("--home", folder, "--party", tmp_path / "nobody")
    (told,) = accord("ca", "status", *options, "--format", "json").json["expiring"]
    assert told["renew"] == f"accord ca renew {tmp_path / 's.pem'}" and "16 days" in told["trouble"]
    assert f"{told['trouble']}: {told['renew']}" in accord("ca", "status", *options).out
    assert accord("ca", "renew", tmp_path / "s.pem", "--home", folder).code == 0
    assert accord("ca", "status", *options, "--format", "json").json["expiring"] == []


def test_without_a_registry_the_status_still_shows_the_folder(
    office: Office, tmp_path: Path
) -> None:
    home = ("--home", tmp_path / "ca", "--format", "json")
    assert accord("ca", "init", *home).code == 0
    answer = accord("ca", "status", "--party", tmp_path / "nobody", *home)
    assert answer.code == 0 and answer.json["partners"] is None
    assert "not known" in answer.err and office.url
