"""Planted faults, row by row: what `accord doctor` names, and that it names nothing else.

`accord-node check` asks a node's registry and folder by the same code (`accord_common.checks`).
"""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from accord_common.checks.check import tell
from accord_common.cli import Format
from accord_common.enrolment import DELEGATION, Delegation
from accord_common.envelope import sign
from accord_common.fields import now
from accord_common.files import replace_file
from accord_common.home import Home
from accord_common.joining import enrol
from accord_common.network.settings import NetworkFile
from accord_server import doctor as party
from tests.proxies import HOST, ConnectProxy, TlsServer, say, status
from tests.server.doctor.conftest import NAME, PASSPHRASE, Place
from tests.server.registry.stack import free_port

NETWORK = {"dns", "tcp", "proxy", "tls", "http"}


def ready() -> bytes:
    """What a registry that can serve says, at this moment: the answer is dated."""
    return say('{"status": "ok"}')


@dataclass
class Patient:
    """A row's own copy of the folder, to be made ill; what is opened ends with the row."""

    place: Place
    home: Home
    open: ExitStack
    patch: pytest.MonkeyPatch

    def hurry(self) -> None:
        """Do not wait long for what never comes."""
        for module in ("dial", "connect"):
            self.patch.setattr(f"accord_common.network.{module}.CONNECT_S", 0.5)

    def address(self, url: str) -> None:
        profile = self.home.profile.model_copy(update={"registry_url": url})
        replace_file(self.home.path / "profile.json", profile.to_bytes())

    def proxy(self, **how: object) -> ConnectProxy:
        """Go through a proxy; the registry has a name then, for the loopback needs none."""
        names = {NAME: (HOST, self.place.settings.port)}
        proxy = self.open.enter_context(ConnectProxy(**{"names": names, **how}))  # type: ignore[arg-type]  # a row's own arguments
        NetworkFile(proxy=proxy.url).save(self.home.path)
        self.address(f"https://{NAME}:{self.place.settings.port}")
        return proxy

    def server(self, certificate: Path, **answers: bytes) -> None:
        """Let the address lead to another server."""
        paths = {f"/{path.replace('_', '/')}": said for path, said in answers.items()}
        server = self.open.enter_context(TlsServer(certificate, paths))
        self.address(f"https://{HOST}:{server.port}")


@pytest.fixture
def patient(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Patient]:
    shutil.copytree(place.home.path, tmp_path / "home")
    with ExitStack() as stack:
        yield Patient(place, Home(tmp_path / "home", place.home.profile), stack, monkeypatch)


def closed_port(patient: Patient) -> None:
    patient.address(f"https://{HOST}:{free_port()}")


def full_backlog(patient: Patient) -> None:
    """A listener that takes no more connections drops what comes, as a firewall does."""
    patient.hurry()
    listening = patient.open.enter_context(socket.socket())
    listening.bind((HOST, 0))
    listening.listen(0)
    for _ in range(2):
        waiting = patient.open.enter_context(socket.socket())
        waiting.setblocking(False)
        waiting.connect_ex(listening.getsockname())
    patient.address(f"https://{HOST}:{listening.getsockname()[1]}")


def no_proxy_there(patient: Patient) -> None:
    patient.proxy()
    NetworkFile(proxy=f"http://{HOST}:{free_port()}").save(patient.home.path)


def inspected(patient: Patient) -> None:
    """The proxy opens the TLS that it carries, and signs a certificate for the name itself."""
    forged = patient.place.certificate("forged", NAME, ca="inspecting")
    server = patient.open.enter_context(TlsServer(forged))
    patient.proxy(names={NAME: (HOST, server.port)})


def another_server(patient: Patient) -> None:
    stray = patient.place.certificate("stray", "intranet.accord.test", ca="inspecting")
    patient.server(stray)


def plain_http(patient: Patient) -> None:
    patient.hurry()
    proxy = patient.open.enter_context(ConnectProxy(answer=status(400, "Bad Request")))
    patient.address(f"https://{HOST}:{proxy.port}")


def served(patient: Patient, days: int) -> None:
    patient.server(patient.place.certificate(f"made-{days}", HOST, days=days))


def spoken(patient: Patient, **answers: bytes) -> None:
    certificate = patient.place.certificate("genuine", HOST)
    patient.server(certificate, **{"livez": ready(), **answers})


def expired(patient: Patient) -> None:
    body = Delegation.from_bytes(patient.home.delegation().payload)
    past = {"valid_from": "2020-01-01T00:00:00Z", "valid_until": "2021-01-01T00:00:00Z"}
    envelope = sign(DELEGATION, body.model_copy(update=past), patient.home.identity(PASSPHRASE))
    replace_file(patient.home.path / "delegation.json", envelope.to_bytes())


def info(protocol: int) -> bytes:
    return say(json.dumps({"protocol": protocol, "version": "9.9", "log_key": "ab" * 32}))


def unjoined(patient: Patient) -> None:
    replace_file(patient.home.path / "token", b"x" * 43)


PLANTED: list[tuple[str, Callable[[Patient], object], list[tuple[str, str, str]]]] = [
    ("nothing", lambda p: None, []),
    ("a proxy that serves", lambda p: p.proxy(), []),
    (
        "a name that nobody has",
        lambda p: p.address("https://registry.invalid:8443"),
        [("registry", "dns", "dns-failed")],
    ),
    ("a closed port", closed_port, [("registry", "tcp", "tcp-refused")]),
    ("packets are dropped", full_backlog, [("registry", "tcp", "tcp-timeout")]),
    (
        "no route",
        lambda p: p.address("https://224.0.0.1:8443"),
        [("registry", "tcp", "tcp-unreachable")],
    ),
    ("no proxy there", no_proxy_there, [("registry", "proxy", "proxy-unreachable")]),
    (
        "a proxy that wants a login",
        lambda p: p.proxy(login=("anna", "pw")),
        [("registry", "proxy", "proxy-login")],
    ),
    (
        "a proxy that forbids",
        lambda p: p.proxy(answer=status(403, "Forbidden")),
        [("registry", "proxy", "proxy-forbids")],
    ),
    (
        "a proxy without a way",
        lambda p: p.proxy(answer=status(502, "Bad Gateway")),
        [("registry", "proxy", "proxy-no-route")],
    ),
    (
        "a proxy that is a mail server",
        lambda p: p.proxy(answer=b"220 mail ESMTP\r\n"),
        [("registry", "proxy", "proxy-failed")],
    ),
    ("TLS is inspected", inspected, [("registry", "tls", "tls-intercepted")]),
    ("another server", another_server, [("registry", "tls", "tls-issuer")]),
    (
        "a name that the certificate lacks",
        lambda p: p.address(f"https://localhost:{p.place.settings.port}"),
        [("registry", "tls", "tls-name")],
    ),
    (
        "an expired certificate",
        lambda p: served(p, -500),
        [("registry", "tls", "tls-expired")],
    ),
    (
        "a certificate of tomorrow",
        lambda p: served(p, 2),
        [("registry", "tls", "tls-not-yet-valid")],
    ),
    ("a port that says nothing of TLS", plain_http, [("registry", "tls", "tls-failed")]),
    (
        "a login page",
        lambda p: spoken(p, v1_info=say("<html>", number=404)),
        [("registry", "http", "bad-answer")],
    ),
    (
        "a newer registry, ten minutes ahead",
        lambda p: spoken(p, v1_info=info(2), livez=say("{}", date=now() + timedelta(minutes=10))),
        [
            ("registry", "version", "protocol-differs"),
            ("clock", "clock", "clock-skew"),
            ("membership", "key", "registry-unreachable"),
        ],
    ),
    ("a wrong token", unjoined, [("membership", "key", "bad-token")]),
    ("an expired delegation", expired, [("delegation", "key", "delegation-expired")]),
    (
        "a key that others read",
        lambda p: (p.home.path / "node.pem").chmod(0o644),
        [("keys", "key", "exposed-key")],
    ),
    (
        "a password in the setting",
        lambda p: (p.home.path / "network.json").write_text('{"proxy": "ftp://a:hidden@b"}'),
        [("registry", "setting", "bad-proxy")],
    ),
]


@pytest.mark.parametrize(
    ("plant", "wanted"),
    [pytest.param(plant, wanted, id=name) for name, plant, wanted in PLANTED],
)
def test_each_planted_fault_is_named_and_nothing_else(
    patient: Patient,
    plant: Callable[[Patient], object],
    wanted: list[tuple[str, str, str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("accord_common.api.http.ATTEMPTS", 1)
    plant(patient)
    found = list(party.examine(Home.open(patient.home.path)))
    ill = [check for check in found if not check.ok]
    assert [(check.name, check.layer, check.code) for check in ill] == wanted
    assert all(check.remedy and check.detail for check in ill)
    exit_code = tell(found, Format.TEXT)
    said = capsys.readouterr().out
    assert exit_code == (0 if not wanted else 4 if wanted[0][1] in NETWORK else 1)
    assert all(f"[{code}]" in said for _, _, code in wanted) and "hidden" not in said


def test_who_signed_the_certificate_is_said(patient: Patient) -> None:
    inspected(patient)
    (ill,) = [check for check in party.examine(Home.open(patient.home.path)) if not check.ok]
    assert "'Hospital TLS inspection'" in ill.detail


def test_an_authority_that_the_folder_adds_is_trusted_for_the_registry(patient: Patient) -> None:
    """An institution's own proxy may open what goes to the registry, where its folder says so."""
    forged = patient.place.certificate("forged-too", NAME, ca="inspecting")
    server = patient.open.enter_context(TlsServer(forged, {"/v1/info": info(1), "/livez": ready()}))
    proxy = patient.proxy(names={NAME: (HOST, server.port)})
    bundle = patient.place.folder / "inspecting" / "ca.pem"
    NetworkFile(proxy=proxy.url, ca_bundle=str(bundle)).save(patient.home.path)
    found = list(party.examine(Home.open(patient.home.path)))
    assert {check.layer for check in found if check.ok} >= {"tls", "http", "version", "clock"}


def test_who_waits_for_approval_is_told_so(place: Place, tmp_path: Path) -> None:
    with place.home.registry() as coordinator:
        invited = coordinator.invite("auditor", "Auditor")
    fresh = Home.create(
        tmp_path / "auditor",
        name="Auditor",
        role="auditor",
        jurisdiction="DE",
        contact="x",
        passphrase=PASSPHRASE,
    )
    (ill,) = [c for c in party.examine(enrol(fresh, invited.text, PASSPHRASE)) if not c.ok]
    assert (ill.name, ill.code) == ("membership", "not-approved")


def test_a_disk_that_takes_nothing_is_named(place: Place) -> None:
    """A real limit on file sizes, as a quota is one; by the console script."""
    script = f"ulimit -f 0; exec {sys.executable} -c 'from accord_server.cli import main; main()'"
    done = subprocess.run(
        ["sh", "-c", f'{script} doctor --home "$0" --format json', str(place.home.path)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 1, done.stderr
    ill = [check for check in json.loads(done.stdout)["checks"] if not check["ok"]]
    assert [(check["layer"], check["code"]) for check in ill] == [("disk", "disk-unwritable")]


def test_a_disk_that_is_nearly_full_is_named(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("accord_common.checks.party.NEEDED_BYTES", 1 << 60)
    (ill,) = [check for check in party.examine(patient.home) if not check.ok]
    assert (ill.layer, ill.code) == ("disk", "disk-space")
