"""The consortium's certificate authority: one key, and certificates for its servers.

Guarantees: the CA signs server certificates only, below itself, with every name spelled out; its
key and the servers' keys lie in files with mode 0600. All keys are P-256, which every TLS stack
speaks.

Not covered: revocation. A server certificate lasts 397 days; a stolen key means a new CA and new
invitations. Nodes and records need no certificate: their keys stand in the agreement.
"""

import hashlib
import ipaddress
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from accord_common.errors import FormatError, UsageError
from accord_common.files import write_secret

CA_CERTIFICATE = "ca.pem"
CA_KEY = "ca.key"
CA_YEARS = 10
SERVER_DAYS = 397  # the longest that browsers accept
_HOST_NAME = re.compile(r"(?=.{1,253}$)[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})*")
_BACKDATED = timedelta(minutes=5)  # clocks of other machines may be late


@dataclass(frozen=True, slots=True)
class Issued:
    """Where a certificate and its key lie, and what identifies them."""

    certificate: Path
    key: Path
    fingerprint: str  # SHA-256 of the certificate's DER
    spki: str  # SHA-256 of the public key's DER
    expires: datetime


def create_ca(folder: Path, name: str, moment: datetime) -> Issued:
    """Make a CA in `folder`: ca.pem and ca.key.

    Raises:
        UsageError: `key-exists` where the folder holds one.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        _builder(subject, subject, key.public_key(), moment, timedelta(days=365 * CA_YEARS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(ca=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return _write(folder / CA_CERTIFICATE, folder / CA_KEY, certificate, key)


def issue(
    folder: Path, hosts: list[str], certificate_path: Path, key_path: Path, moment: datetime
) -> Issued:
    """Issue a server certificate for `hosts` (DNS names and IP addresses) with a new key.

    Raises:
        UsageError: `no-ca`, `no-hosts`, `bad-host`, or `key-exists` for the key's path.
    """
    if not hosts:
        raise UsageError("no-hosts", "a server certificate needs at least one host name or address")
    names = [_name(host) for host in hosts]
    authority, signer = _open(folder)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0][:64])])
    certificate = (
        _builder(subject, authority.subject, key.public_key(), moment, timedelta(days=SERVER_DAYS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
        .sign(signer, hashes.SHA256())
    )
    for path in (certificate_path, key_path):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    return _write(certificate_path, key_path, certificate, key)


def fingerprint(certificate_pem: bytes) -> str:
    """SHA-256 (hex) of the certificate's DER: what an invitation pins."""
    der = load_certificate(certificate_pem).public_bytes(serialization.Encoding.DER)
    return hashlib.sha256(der).hexdigest()


def spki_hash(certificate_pem: bytes) -> str:
    """SHA-256 (hex) of the certificate's SubjectPublicKeyInfo: what an offer pins."""
    return _spki(load_certificate(certificate_pem))


def load_certificate(pem: bytes) -> x509.Certificate:
    """Read one PEM certificate; `bad-certificate` where it is none."""
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise FormatError("bad-certificate", f"not a PEM certificate: {error}") from error


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    moment: datetime,
    span: timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment - _BACKDATED)
        .not_valid_after(moment + span)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


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


def _open(folder: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    try:
        certificate = load_certificate((folder / CA_CERTIFICATE).read_bytes())
        key = serialization.load_pem_private_key((folder / CA_KEY).read_bytes(), None)
    except OSError as error:
        raise UsageError(
            "no-ca", f"no CA in {folder}: {error.strerror}", hint="Make one with `accord ca init`."
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise FormatError("bad-certificate", f"{folder / CA_KEY} holds a {type(key).__name__}")
    return certificate, key


def _write(
    certificate_path: Path,
    key_path: Path,
    certificate: x509.Certificate,
    key: ec.EllipticCurvePrivateKey,
) -> Issued:
    write_secret(
        key_path,
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )
    certificate_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return Issued(
        certificate=certificate_path,
        key=key_path,
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
        spki=_spki(certificate),
        expires=certificate.not_valid_after_utc,
    )


def _spki(certificate: x509.Certificate) -> str:
    der = certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(der).hexdigest()
