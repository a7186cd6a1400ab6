"""The consortium's certificate authority: one key, which signs certificates for its servers.

    ca.pem         what registry and parties get: the present authority; while it is exchanged
                   (`rotation`), the former one, the present one, and the present one as signed by
                   the former
    ca.key         the present one's key, 0600
    next.key       on its way to being that
    issued.jsonl   what was issued (`certificates`)

Guarantees: the authority signs server certificates, and its successor; keys lie in files with mode
0600. All keys are P-256, which every TLS stack speaks.

Not covered: revocation of one certificate. A stolen server key means a new certificate with a new
key, and a new authority where the old certificate must not pass. Nodes and records need no
certificate: their keys stand in the agreement.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from accord_common.authorities import fingerprint_of, issued_by, read_bundle, write_bundle
from accord_common.errors import FormatError, UsageError
from accord_common.files import put_in_place, replace_file, write_secret

CA_CERTIFICATE = "ca.pem"
CA_KEY = "ca.key"
CA_YEARS = 10
NEXT_KEY = "next.key"
_BACKDATED = timedelta(minutes=5)  # clocks of other machines may be late


@dataclass(frozen=True, slots=True)
class Issued:
    """Where a certificate and its key lie, and what identifies them."""

    certificate: Path
    key: Path | None
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
    certificate = make_authority(name, key, moment)
    write_secret(folder / CA_KEY, key_pem(key))
    put_certificates(folder / CA_CERTIFICATE, [certificate])
    return describe(folder / CA_CERTIFICATE, folder / CA_KEY, certificate)


def authorities(folder: Path) -> list[x509.Certificate]:
    """The authorities that hold, the present one last; UsageError `no-ca`."""
    open_ca(folder)
    bundle = read_bundle((folder / CA_CERTIFICATE).read_bytes())
    return [certificate for certificate in bundle if issued_by(certificate, certificate)]


def put_certificates(path: Path, certificates: list[x509.Certificate]) -> None:
    """Write a file of certificates, in the place of what was there; anybody may read it."""
    replace_file(path, write_bundle(certificates))
    path.chmod(0o644)


def fingerprint(bundle_pem: bytes) -> str:
    """SHA-256 (hex) of the first certificate's DER: what an invitation pins."""
    return fingerprint_of(read_bundle(bundle_pem)[0])


def spki_hash(certificate_pem: bytes) -> str:
    """SHA-256 (hex) of the first certificate's SubjectPublicKeyInfo: what an offer pins."""
    return _spki(load_certificate(certificate_pem))


def load_certificate(pem: bytes) -> x509.Certificate:
    """Read the first PEM certificate; `bad-certificate` where it is none."""
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise FormatError("bad-certificate", f"not a PEM certificate: {error}") from error


def make_authority(
    name: str, key: ec.EllipticCurvePrivateKey, moment: datetime
) -> x509.Certificate:
    """Make an authority's own certificate."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return (
        builder(subject, subject, key.public_key(), moment, timedelta(days=365 * CA_YEARS))
        # 1: its successor's certificate may stand between it and a server's.
        .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
        .add_extension(usage(ca=True), critical=True)
        .sign(key, hashes.SHA256())
    )


def builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    moment: datetime,
    span: timedelta,
) -> x509.CertificateBuilder:
    """Begin a certificate of `public`, good for `span` from `moment` on."""
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


def usage(*, ca: bool) -> x509.KeyUsage:
    """What an authority's key, or a server's, is for."""
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


def signed_by(signer: ec.EllipticCurvePrivateKey) -> x509.AuthorityKeyIdentifier:
    """Name the key that signs."""
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())


def open_ca(folder: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """The present authority and its key; a rotation that died half way is made good."""
    try:
        bundle = read_bundle((folder / CA_CERTIFICATE).read_bytes())
        for path in (folder / NEXT_KEY, folder / CA_KEY):
            if not path.exists() and path.name == NEXT_KEY:
                continue
            key = serialization.load_pem_private_key(path.read_bytes(), None)
            if not isinstance(key, ec.EllipticCurvePrivateKey):
                raise FormatError("bad-certificate", f"{path} holds a {type(key).__name__}")
            for certificate in bundle:
                if certificate.public_key() == key.public_key() and issued_by(
                    certificate, certificate
                ):
                    if path.name == NEXT_KEY:
                        put_in_place(path, folder / CA_KEY)
                    return certificate, key
    except OSError as error:
        raise UsageError(
            "no-ca", f"no CA in {folder}: {error.strerror}", hint="Make one with `accord ca init`."
        ) from error
    raise FormatError("bad-certificate", f"{folder / CA_KEY} is not the key of any authority there")


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Write PKCS#8, in clear: for files of mode 0600."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def describe(path: Path, key: Path | None, certificate: x509.Certificate) -> Issued:
    """Say what was made."""
    return Issued(
        certificate=path,
        key=key,
        fingerprint=fingerprint_of(certificate),
        spki=_spki(certificate),
        expires=certificate.not_valid_after_utc,
    )


def _spki(certificate: x509.Certificate) -> str:
    der = certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(der).hexdigest()
