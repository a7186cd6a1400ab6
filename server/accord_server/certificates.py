"""Server certificates: issued for names, renewed for the same key, listed.

Guarantees: every name in them is spelled out; they lie below the authority, and while that is being
exchanged, its successor's certificate by the former one comes with them, so that parties that know
only the former one accept them. A renewed certificate keeps its key, which offers and manifests
pin.

Not covered: bringing them to their servers. A certificate lasts 397 days.
"""

import ipaddress
import os
import re
import ssl
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from pydantic import Field

from accord_common.authorities import fingerprint_of, issued_by, read_bundle
from accord_common.errors import FormatError, TransportError, UsageError
from accord_common.fields import Hash, Record, Text, Time, format_time
from accord_common.files import write_secret
from accord_server.ca import (
    CA_CERTIFICATE,
    Issued,
    authorities,
    builder,
    describe,
    key_pem,
    load_certificate,
    open_ca,
    put_certificates,
    signed_by,
    usage,
)

SERVER_DAYS = 397  # the longest that browsers accept
RENEW = "accord ca renew"  # what whoever keeps the authority runs
_ISSUED = "issued.jsonl"
_HOST_NAME = re.compile(r"(?=.{1,253}$)[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})*")


class IssuedLine(Record):
    """What `issued.jsonl` keeps of a certificate, to show and to renew it by."""

    file: Text
    hosts: Annotated[list[Text], Field(min_length=1)]
    fingerprint: Hash
    spki: Hash
    authority: Hash
    expires: Time


def issued(folder: Path, moment: datetime) -> list[IssuedLine]:
    """The newest line of each file that was issued and is not over, by file."""
    try:
        lines = (folder / _ISSUED).read_bytes().splitlines()
    except FileNotFoundError:
        return []
    newest = {line.file: line for line in map(IssuedLine.from_bytes, lines)}
    return [newest[file] for file in sorted(newest) if newest[file].expires > format_time(moment)]


def issue(
    folder: Path, hosts: list[str], certificate_path: Path, key_path: Path, moment: datetime
) -> Issued:
    """Issue a server certificate for `hosts` (DNS names and IP addresses) with a new key.

    Raises:
        UsageError: `no-ca`, `no-hosts`, `bad-host`, or `key-exists` for the key's path.
    """
    if not hosts:
        raise UsageError("no-hosts", "a server certificate needs at least one host name or address")
    names = x509.SubjectAlternativeName([_name(host) for host in hosts])
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0][:64])])
    certificate = _server(folder, subject, names, key.public_key(), moment)
    for path in (certificate_path, key_path):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_secret(key_path, key_pem(key))
    return _deliver(folder, certificate, certificate_path, key_path)


def renew(folder: Path, certificate_path: Path, moment: datetime) -> Issued:
    """Issue a certificate anew, for the same names and key, in the place of its file.

    Raises:
        UsageError: `no-ca`, `no-file`, `not-issued-here`.
    """
    try:
        old = load_certificate(certificate_path.read_bytes())
    except OSError as error:
        raise UsageError("no-file", f"{certificate_path}: {error.strerror}") from error
    if not any(issued_by(old, authority) for authority in authorities(folder)):
        raise UsageError(
            "not-issued-here",
            f"{certificate_path} is from no authority in {folder}",
            hint="Issue one: accord ca issue",
        )
    key, names = old.public_key(), _names(old)
    if not isinstance(key, ec.EllipticCurvePublicKey) or names is None:
        raise FormatError("bad-certificate", f"{certificate_path} is no server certificate")
    certificate = _server(folder, old.subject, names, key, moment)
    return _deliver(folder, certificate, certificate_path, None)


def issued_under(chain_pem: bytes, bundle_pem: bytes) -> bool:
    """Whether one of a bundle's authorities issued a certificate, or vouched for who did."""
    leaf, *between = read_bundle(chain_pem)
    trusted = read_bundle(bundle_pem)
    vouched = [c for c in between if any(issued_by(c, authority) for authority in trusted)]
    return any(issued_by(leaf, authority) for authority in (*trusted, *vouched))


def check_dates(path: Path, moment: datetime) -> None:
    """Refuse to show a certificate that nobody accepts any more.

    Raises:
        TransportError: `certificate-expired`.
    """
    until = load_certificate(path.read_bytes()).not_valid_after_utc
    if until <= moment:
        raise TransportError(
            "certificate-expired",
            f"{path} was valid until {format_time(until)}",
            hint=f"Whoever keeps the authority renews it: {RENEW} FILE",
        )


def reload_certificate(context: ssl.SSLContext | None, certificate: Path, key: Path) -> None:
    """Have a server's context show what its files hold now; one that does not fit changes nothing.

    Raises:
        TransportError: `certificate-unusable`.
    """
    assert context is not None  # both servers speak TLS only
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise TransportError(
            "certificate-unusable",
            f"{certificate} and {key}: {error}",
            hint="The certificate from before is shown on. Renew it: accord ca renew",
        ) from error


def _server(
    folder: Path,
    subject: x509.Name,
    names: x509.SubjectAlternativeName,
    key: ec.EllipticCurvePublicKey,
    moment: datetime,
) -> x509.Certificate:
    authority, signer = open_ca(folder)
    left = authority.not_valid_after_utc - moment
    if left <= timedelta():
        raise UsageError(
            "ca-expired",
            f"the authority in {folder} was valid until "
            f"{format_time(authority.not_valid_after_utc)}",
            hint="Make another with accord ca init, and invite everybody anew; next time, in "
            "time: accord ca rotate",
        )
    span = min(timedelta(days=SERVER_DAYS), left)
    return (
        builder(subject, authority.subject, key, moment, span)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(names, critical=False)
        .add_extension(signed_by(signer), critical=False)
        .sign(signer, hashes.SHA256())
    )


def _deliver(folder: Path, certificate: x509.Certificate, path: Path, key: Path | None) -> Issued:
    """Write the certificate, with what vouches for its authority, and the line that says so."""
    authority, _ = open_ca(folder)
    bundle = read_bundle((folder / CA_CERTIFICATE).read_bytes())
    vouching = [c for c in bundle if c.subject == authority.subject and not issued_by(c, c)]
    put_certificates(path, [certificate, *vouching])
    made, names = describe(path, key, certificate), _names(certificate)
    assert names is not None
    line = IssuedLine(
        file=str(path.absolute()),
        hosts=[str(name.value) for name in names],
        fingerprint=made.fingerprint,
        spki=made.spki,
        authority=fingerprint_of(authority),
        expires=format_time(made.expires),
    )
    with (folder / _ISSUED).open("ab") as file:
        file.write(line.to_bytes() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    return made


def _name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        name = host.encode("idna").decode("ascii")
    except UnicodeError:
        name = ""
    if not _HOST_NAME.fullmatch(name):
        raise UsageError("bad-host", f"{host!r} is no host name or address")
    return x509.DNSName(name)


def _names(certificate: x509.Certificate) -> x509.SubjectAlternativeName | None:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return None
    return found.value
