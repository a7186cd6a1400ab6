"""The authority and its successor, seen by whoever knows only one of them, over real TLS."""

import asyncio
import shutil
import ssl
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from accord_common.api.client import RegistryClient
from accord_common.api.http import fetch_ca
from accord_common.authorities import fingerprint_of, read_bundle, write_bundle
from accord_common.errors import AccordError
from accord_common.fields import now
from accord_common.network.settings import Network
from accord_server.ca import CA_KEY, authorities, create_ca, fingerprint, load_certificate
from accord_server.certificates import check_dates, issue, issued, issued_under, renew
from accord_server.registry.server import Server
from accord_server.registry.setup import initialise
from accord_server.rotation import retire_ca, rotate_ca
from tests.server.registry.stack import free_port, serving, settings_in


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    create_ca(tmp_path / "ca", "Test CA", now())
    folder = tmp_path / "ca"
    hosts = ["127.0.0.1", "a.example"]
    issue(folder, hosts, folder / "server.pem", folder / "server.key", now())
    return folder


def refusal(call: object) -> str:
    with pytest.raises(AccordError) as caught:
        call()  # type: ignore[operator]  # a function of no arguments
    return caught.value.code


def shown(url: str) -> str:
    host, port = url.removeprefix("https://").split(":")
    return fingerprint(ssl.get_server_certificate((host, int(port))).encode())


def test_old_and_new_partners_are_let_in_while_the_authority_is_exchanged(
    ca: Path, tmp_path: Path
) -> None:
    old, settings = (ca / "ca.pem").read_bytes(), settings_in(tmp_path / "r", ca, free_port())
    asyncio.run(initialise(settings))
    with serving(settings) as server, RegistryClient(settings.url, old) as client:
        client.ready()
        rotate_ca(ca, now())
        former, present = authorities(ca)
        renewed = renew(ca, ca / "server.pem", now())
        assert shown(settings.url) != renewed.fingerprint
        server.reload()
        assert shown(settings.url) == renewed.fingerprint
        for trusted in ([former], [present], [former, present]):
            with RegistryClient(settings.url, write_bundle(trusted)) as anew:
                anew.ready()
        client.trust(write_bundle([former, present]))
        both = write_bundle([former, present])
        for pinned in (former,):  # what invitations name until it is retired
            assert fetch_ca(settings.url, fingerprint_of(pinned), Network(), now()) == both
        assert fingerprint((ca / "ca.pem").read_bytes()) == fingerprint_of(former)
        retire_ca(ca, now())
        renew(ca, ca / "server.pem", now())
        server.reload()
        client.close()
        with RegistryClient(settings.url, both) as late:
            late.ready()
        assert fetch_ca(settings.url, fingerprint_of(present), Network(), now()) == write_bundle(
            [present]
        )
        with RegistryClient(settings.url, old) as asleep:
            assert refusal(asleep.ready) == "registry-unreachable"
        _spoil_and_reload(server, ca, settings.url)


def _spoil_and_reload(server: Server, ca: Path, url: str) -> None:
    """A key that does not fit leaves the certificate from before."""
    before = shown(url)
    (ca / "server.key").write_bytes((ca / CA_KEY).read_bytes())
    server.reload()
    assert shown(url) == before


def test_a_renewed_certificate_keeps_names_and_key(ca: Path) -> None:
    before = load_certificate((ca / "server.pem").read_bytes())
    key = (ca / "server.key").read_bytes()
    later = now() + timedelta(days=300)
    made = renew(ca, ca / "server.pem", later)
    after = load_certificate((ca / "server.pem").read_bytes())
    assert after.public_key() == before.public_key() and (ca / "server.key").read_bytes() == key
    assert after.not_valid_after_utc - before.not_valid_after_utc > timedelta(days=299)
    (line,) = issued(ca, now())
    assert line.hosts == ["127.0.0.1", "a.example"] and line.fingerprint == made.fingerprint
    assert issued(ca, later + timedelta(days=398)) == []


def test_openssl_accepts_the_chain_under_either_authority(ca: Path, tmp_path: Path) -> None:
    rotate_ca(ca, now())
    renew(ca, ca / "server.pem", now())
    leaf, vouching = read_bundle((ca / "server.pem").read_bytes())
    (tmp_path / "leaf.pem").write_bytes(write_bundle([leaf]))
    (tmp_path / "between.pem").write_bytes(write_bundle([vouching]))
    for authority in authorities(ca):
        (tmp_path / "root.pem").write_bytes(write_bundle([authority]))
        done = subprocess.run(
            [
                *("openssl", "verify", "-x509_strict", "-purpose", "sslserver"),
                *("-verify_ip", "127.0.0.1", "-CAfile", str(tmp_path / "root.pem")),
                *("-untrusted", str(tmp_path / "between.pem"), str(tmp_path / "leaf.pem")),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr


def test_an_aggregators_certificate_is_known_under_either(ca: Path, tmp_path: Path) -> None:
    rotate_ca(ca, now())
    former, present = authorities(ca)
    old = (ca / "server.pem").read_bytes()
    renew(ca, ca / "server.pem", now())
    new = (ca / "server.pem").read_bytes()
    create_ca(tmp_path / "other", "Test CA G2", now())
    stranger = (tmp_path / "other" / "ca.pem").read_bytes()
    for chain, known in ((old, [former]), (new, [former, present])):
        for authority in (former, present):
            assert issued_under(chain, write_bundle([authority])) == (authority in known)
        assert not issued_under(chain, stranger)
    leaf, _ = read_bundle(new)
    assert not issued_under(write_bundle([leaf]), write_bundle([former]))


def test_one_rotation_at_a_time_and_no_server_is_left_behind(ca: Path, tmp_path: Path) -> None:
    assert refusal(lambda: retire_ca(ca, now())) == "no-rotation"
    rotate_ca(ca, now())
    assert refusal(lambda: rotate_ca(ca, now())) == "rotation-under-way"
    assert refusal(lambda: retire_ca(ca, now())) == "servers-behind"
    create_ca(tmp_path / "other", "Other CA", now())
    assert refusal(lambda: renew(tmp_path / "other", ca / "server.pem", now())) == "not-issued-here"
    assert refusal(lambda: renew(ca, ca / "nothing.pem", now())) == "no-file"
    renew(ca, ca / "server.pem", now())
    retire_ca(ca, now())
    rotate_ca(ca, now())
    name = authorities(ca)[-1].subject.rfc4514_string()
    assert name == "CN=Test CA G3"


@pytest.mark.parametrize("named", [False, True])
def test_a_rotation_that_dies_leaves_one_authority_or_the_other(ca: Path, named: bool) -> None:
    """Before its certificate has its name, or before its key has."""
    before, key = (ca / "ca.pem").read_bytes(), (ca / CA_KEY).read_bytes()
    rotate_ca(ca, now())
    shutil.move(ca / CA_KEY, ca / "next.key")
    (ca / CA_KEY).write_bytes(key)
    if not named:
        (ca / "ca.pem").write_bytes(before)
    assert len(authorities(ca)) == 1 + named
    made = renew(ca, ca / "server.pem", now())
    assert issued_under(made.certificate.read_bytes(), (ca / "ca.pem").read_bytes())
    if not named:
        rotate_ca(ca, now())
        assert len(authorities(ca)) == 2


def test_nothing_is_issued_beyond_its_authority_and_nothing_shown_that_is_over(ca: Path) -> None:
    end = authorities(ca)[-1].not_valid_after_utc
    made = renew(ca, ca / "server.pem", end - timedelta(days=10))
    assert made.expires == end
    check_dates(ca / "server.pem", end - timedelta(seconds=1))
    assert refusal(lambda: check_dates(ca / "server.pem", end)) == "certificate-expired"
    assert refusal(lambda: renew(ca, ca / "server.pem", end)) == "ca-expired"
