"""Which certificate authorities a party trusts, and how one comes to follow another.

A party pins one authority when it joins. While authorities are exchanged, the registry offers a
bundle: the present one, the next one, and the next one's name and key signed by the present one
(RFC 4949, "cross-certificate").

Guarantees: no authority is added but by the signature of one that is trusted already, neither of
them past its end, over a connection that such a one authenticated; at least one that was trusted,
or is vouched for, remains; what is stored is encoded anew, so nothing rides along behind a
certificate.

Not covered: a stolen authority's key, which can vouch for another until every party has dropped it.
"""

from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from accord_common.errors import FormatError, VerificationError

MAX_BUNDLE_BYTES = 64 << 10  # some dozens of certificates; a bundle has three


def read_bundle(pem: bytes) -> list[x509.Certificate]:
    """Read one or more PEM certificates.

    Raises:
        FormatError: `bad-certificate`.
    """
    if len(pem) > MAX_BUNDLE_BYTES:
        raise FormatError("bad-certificate", f"{len(pem)} bytes, the bound is {MAX_BUNDLE_BYTES}")
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise FormatError("bad-certificate", f"not PEM certificates: {error}") from error


def write_bundle(certificates: list[x509.Certificate]) -> bytes:
    """Write PEM certificates."""
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)


def fingerprint_of(certificate: x509.Certificate) -> str:
    """SHA-256 (hex) of the DER: what an invitation pins."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether the issuer's name and key signed a certificate."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def is_authority(certificate: x509.Certificate) -> bool:
    """Whether a certificate says that its key signs others."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False


def follow(trusted: bytes, offered: bytes, moment: datetime) -> bytes:
    """Return the authorities to trust from now on, out of those that a registry offers.

    Args:
        trusted: the bundle so far.
        offered: what came over a connection that one of `trusted` authenticated.
        moment: this party's time; what is over is left out.

    Raises:
        FormatError: `bad-certificate`.
        VerificationError: `wrong-ca` where nothing would be left.
    """
    known = [c for c in read_bundle(trusted) if moment < c.not_valid_after_utc]
    candidates = [
        c for c in read_bundle(offered) if is_authority(c) and moment < c.not_valid_after_utc
    ]
    roots = [c for c in candidates if issued_by(c, c)]
    vouched = [c for c in candidates if any(issued_by(c, root) for root in known)]
    names = {(c.subject.public_bytes(), _spki(c)) for c in vouched}
    kept = [c for c in roots if c in known or (c.subject.public_bytes(), _spki(c)) in names]
    if not kept:
        raise VerificationError(
            "wrong-ca",
            "none of the authorities that the registry offers is pinned here, or is vouched for by "
            "one that is",
            hint="Ask the coordinator; joining again takes a new invitation.",
        )
    return write_bundle(kept)


def _spki(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
