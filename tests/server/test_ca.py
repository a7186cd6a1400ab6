"""The certificate authority: what it signs, and what it keeps to itself."""

import stat
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from accord_common.errors import AccordError
from accord_common.fields import now
from accord_server.ca import create_ca, fingerprint, load_certificate, spki_hash
from accord_server.certificates import issue


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    create_ca(tmp_path / "ca", "Test CA", now())
    return tmp_path / "ca"


def test_a_server_certificate_holds_for_its_names_and_no_other(ca: Path, tmp_path: Path) -> None:
    made = issue(
        ca, ["registry.example.org", "10.1.2.3"], tmp_path / "s.pem", tmp_path / "s.key", now()
    )
    leaf = load_certificate(made.certificate.read_bytes())
    root = load_certificate((ca / "ca.pem").read_bytes())
    builder = PolicyBuilder().store(Store([root]))
    verifier = builder.build_server_verifier(x509.DNSName("registry.example.org"))
    assert verifier.verify(leaf, []) == [leaf, root]
    with pytest.raises(VerificationError):
        builder.build_server_verifier(x509.DNSName("other.example.org")).verify(leaf, [])
    late = builder.time(now() + timedelta(days=398))
    with pytest.raises(VerificationError):
        late.build_server_verifier(x509.DNSName("registry.example.org")).verify(leaf, [])
    create_ca(tmp_path / "other", "Test CA", now())
    stranger = Store([load_certificate((tmp_path / "other/ca.pem").read_bytes())])
    with pytest.raises(VerificationError):
        PolicyBuilder().store(stranger).build_server_verifier(
            x509.DNSName("registry.example.org")
        ).verify(leaf, [])


def test_openssl_agrees(ca: Path, tmp_path: Path) -> None:
    made = issue(ca, ["127.0.0.1"], tmp_path / "s.pem", tmp_path / "s.key", now())
    command = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver"]
    trusted = ["-verify_ip", "127.0.0.1", "-CAfile", str(ca / "ca.pem"), str(made.certificate)]
    done = subprocess.run([*command, *trusted], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_keys_are_for_the_owner_only_and_never_overwritten(ca: Path, tmp_path: Path) -> None:
    issue(ca, ["localhost"], tmp_path / "s.pem", tmp_path / "s.key", now())
    for path in (ca / "ca.key", tmp_path / "s.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = (ca / "ca.key").read_bytes()
    with pytest.raises(AccordError) as error:
        create_ca(ca, "Another CA", now())
    assert error.value.code == "key-exists"
    assert (ca / "ca.key").read_bytes() == before


def test_it_is_named_by_its_certificate_and_servers_by_their_key(ca: Path, tmp_path: Path) -> None:
    made = issue(ca, ["localhost"], tmp_path / "s.pem", tmp_path / "s.key", now())
    pem = made.certificate.read_bytes()
    assert (made.fingerprint, made.spki) == (fingerprint(pem), spki_hash(pem))
    listed = subprocess.run(
        ["openssl", "x509", "-noout", "-fingerprint", "-sha256", "-in", str(made.certificate)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert listed.stdout.split("=")[1].strip().replace(":", "").lower() == made.fingerprint


@pytest.mark.parametrize(
    ("hosts", "code"),
    [
        ([], "no-hosts"),
        (["a b"], "bad-host"),
        ([""], "bad-host"),
        (["x" * 70 + ".org"], "bad-host"),
    ],
)
def test_names_that_are_none_are_refused(
    ca: Path, tmp_path: Path, hosts: list[str], code: str
) -> None:
    with pytest.raises(AccordError) as error:
        issue(ca, hosts, tmp_path / "s.pem", tmp_path / "s.key", now())
    assert error.value.code == code


def test_without_a_ca_the_way_to_one_is_shown(tmp_path: Path) -> None:
    with pytest.raises(AccordError) as error:
        issue(tmp_path, ["localhost"], tmp_path / "s.pem", tmp_path / "s.key", now())
    assert error.value.code == "no-ca" and "accord ca init" in error.value.hint
