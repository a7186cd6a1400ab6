"""An authority, a certificate, keys and nodes, for tests of the Flower transport."""

import hashlib
import ipaddress
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID

from accord_client.link import FleetLink
from accord_client.wire import Endpoint
from accord_common.identity import FlowerKey
from accord_server.aggregator.fleet import SuperLinkTransport
from accord_server.aggregator.listener import Listener
from accord_server.aggregator.transport import Event, Incoming, Joined, Lost

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Certificates:
    """An authority and one server certificate, as files in `folder`."""

    folder: Path
    tls_spki: str

    @classmethod
    def make(cls, folder: Path) -> Self:
        folder.mkdir(parents=True, exist_ok=True)
        authority, server = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        ca = (
            _certificate("authority", authority.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(), critical=True)
            .sign(authority, hashes.SHA256())
        )
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))])
        certificate = (
            _certificate("aggregator", server.public_key())
            .add_extension(names, critical=False)
            .sign(authority, hashes.SHA256())
        )
        (folder / "ca.pem").write_bytes(ca.public_bytes(Encoding.PEM))
        (folder / "cert.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
        (folder / "key.pem").write_bytes(
            server.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )
        spki = server.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return cls(folder, hashlib.sha256(spki).hexdigest())

    def listen(self, port: int = 0) -> Listener:
        return Listener(
            HOST, port, certificate=self.folder / "cert.pem", key=self.folder / "key.pem"
        )

    def endpoint(self, port: int) -> Endpoint:
        return Endpoint(HOST, port, (self.folder / "ca.pem").read_bytes(), self.tls_spki)


@dataclass(frozen=True)
class Site:
    """A listener with one run mounted, and what its nodes need."""

    certificates: Certificates
    listener: Listener
    transport: SuperLinkTransport
    keys: Mapping[str, FlowerKey]

    def link(self, party: str) -> FleetLink:
        return FleetLink(self.certificates.endpoint(self.listener.port), self.keys[party])

    @contextmanager
    def node(self, party: str) -> Iterator[FleetLink]:
        """A link whose joining the transport has reported."""
        with self.link(party) as link:
            until(self.transport, lambda event: event == Joined(party))
            yield link

    def process(self, party: str) -> subprocess.Popen[bytes]:
        """A node in a process of its own, which echoes what it receives."""
        key = self.certificates.folder / f"{party}.pem"
        key.write_bytes(
            self.keys[party].private.private_bytes(
                Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
            )
        )
        command = [sys.executable, __file__, str(self.certificates.folder)]
        command += [self.certificates.tls_spki, str(self.listener.port), str(key)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        return subprocess.Popen(command, env=environment)


@contextmanager
def site(folder: Path, parties: tuple[str, ...] = ("a", "b", "c"), **limits: int) -> Iterator[Site]:
    certificates = Certificates.make(folder)
    keys = {party: FlowerKey.generate() for party in parties}
    with (
        certificates.listen() as listener,
        SuperLinkTransport(listener, roster(keys), folder, **limits) as transport,
    ):
        yield Site(certificates, listener, transport, keys)


def roster(keys: Mapping[str, FlowerKey]) -> dict[str, ec.EllipticCurvePublicKey]:
    return {party: key.private.public_key() for party, key in keys.items()}


def until(transport: SuperLinkTransport, wanted: Callable[[Event], bool]) -> Event:
    """The first event that is wanted; others are dropped. Fails after 10 s without any event."""
    while (event := transport.receive(10)) is not None:
        if wanted(event):
            return event
    raise AssertionError("no such event within 10 s")


def answer(transport: SuperLinkTransport) -> Incoming:
    event = until(transport, lambda event: isinstance(event, (Incoming, Lost)))
    assert isinstance(event, Incoming), event
    return replace(event, bulk=tuple(event.bulk))


def echo(link: FleetLink) -> None:
    """Answer one message with itself."""
    message = link.receive(10)
    assert message is not None
    link.reply(message.header, message.bulk)


def _certificate(subject: str, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name("authority"))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
    )


def _usage() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )


def _main(folder: str, tls_spki: str, port: str, key: str) -> None:
    endpoint = Certificates(Path(folder), tls_spki).endpoint(int(port))
    with FleetLink(endpoint, FlowerKey.from_pem(Path(key).read_bytes())) as link:
        while True:
            message = link.receive(60)
            if message is not None:
                link.reply(message.header, message.bulk)


if __name__ == "__main__":
    _main(*sys.argv[1:])
