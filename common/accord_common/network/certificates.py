"""What certificate a server shows, whoever signed it: for people who must learn why it is refused.

Guarantees: the handshake that looks is ended as soon as it is done; nothing is sent in it but a
host name. Nothing here is a reason to trust a server.
"""

import hashlib
import ssl
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from accord_common.network.dial import ANSWER_S, dial, tunnel
from accord_common.network.route import Proxy


@dataclass(frozen=True, slots=True)
class Shown:
    """A server's certificate.

    Attributes:
        issuer: its issuer's common name, or whole name where it has none.
        names: the DNS names and addresses that it is for.
        not_before: from when it is valid.
        not_after: until when.
        spki: SHA-256, in hex, of its SubjectPublicKeyInfo.
    """

    issuer: str
    names: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    spki: str

    def covers(self, host: str) -> bool:
        """Whether it is for a host: exactly, or by a wildcard for the leftmost label."""
        host = host.lower()
        return any(
            name == host or (name.startswith("*.") and name[2:] == host.partition(".")[2])
            for name in (name.lower() for name in self.names)
        )


def read(der: bytes) -> Shown:
    """Read a certificate; ValueError where it is none."""
    certificate = x509.load_der_x509_certificate(der)
    issuer = certificate.issuer
    common = [str(name.value) for name in issuer.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
    names: list[str] = []
    with suppress(x509.ExtensionNotFound):
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names += found.get_values_for_type(x509.DNSName)
        names += [str(address) for address in found.get_values_for_type(x509.IPAddress)]
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return Shown(
        issuer=common[0] if common else issuer.rfc4514_string() or "nobody",
        names=tuple(names),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        spki=hashlib.sha256(key).hexdigest(),
    )


def look(host: str, port: int, proxy: Proxy | None) -> Shown | None:
    """Ask a server for its certificate and hang up; None where it shows none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with dial(host, port, proxy) as plain:
            if proxy is not None:
                tunnel(plain, host, port, proxy)
            plain.settimeout(ANSWER_S)
            with context.wrap_socket(plain, server_hostname=host) as secure:
                der = secure.getpeercert(binary_form=True)
        return None if der is None else read(der)
    except (OSError, ValueError):
        return None
