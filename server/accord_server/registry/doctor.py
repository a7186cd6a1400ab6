"""A registry's folder: keys, certificate, disk, database and schema, and its own address.

Guarantees: nothing is changed; a database that is not there is not made.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)
from sqlalchemy.engine import make_url

from accord_common.api.client import RegistryClient
from accord_common.checks.check import Check, ask, failed
from accord_common.checks.connection import walk
from accord_common.checks.party import disk, private
from accord_common.errors import AccordError, ConflictError, UsageError
from accord_common.fields import format_time, now
from accord_common.network.certificates import read
from accord_common.network.settings import Network
from accord_common.protocols import require_protocol
from accord_server.ca import load_certificate
from accord_server.registry.settings import Settings
from accord_server.registry.setup import check

_HTTPS = 443
_SPKI = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def examine(settings: Settings) -> Iterator[Check]:
    """Ask every question of a registry's folder."""
    yield ask("keys", "key", lambda: private([settings.log_key, settings.key]))
    yield ask("certificate", "tls", lambda: _certificate(settings))
    yield ask("disk", "disk", lambda: disk(settings.home))
    yield ask("database", "database", lambda: _database(settings))
    yield from _address(settings)


def _host(settings: Settings) -> tuple[str, int]:
    parts = urlsplit(settings.url)
    return parts.hostname or "", parts.port or _HTTPS


def _certificate(settings: Settings) -> str:
    """Whether the files fit each other, the address and the day.

    Raises:
        UsageError: `bad-certificate`, `tls-expired`, `tls-not-yet-valid`, `tls-name`.
    """
    pem = settings.certificate.read_bytes()
    certificate, key = load_certificate(pem), _public(settings.key)
    shown = read(certificate.public_bytes(Encoding.DER))
    host, _ = _host(settings)
    again = "accord ca issue, then restart the registry."
    if certificate.public_key().public_bytes(*_SPKI) != key:
        raise UsageError(
            "bad-certificate",
            f"{settings.key} is not the key of {settings.certificate}",
            hint=again,
        )
    if now() > shown.not_after:
        raise UsageError(
            "tls-expired", f"it expired at {format_time(shown.not_after)}", hint=f"Renew: {again}"
        )
    if now() < shown.not_before:
        raise UsageError(
            "tls-not-yet-valid",
            f"it is valid from {format_time(shown.not_before)}",
            hint="Set this machine's clock, or wait.",
        )
    if not shown.covers(host):
        raise UsageError(
            "tls-name", f"it is for {', '.join(shown.names)}, not for {host}", hint=again
        )
    pinned = load_certificate(settings.ca.read_bytes())
    days = (shown.not_after - now()).days
    by = f"for {host}, issued by {shown.issuer!r}, {days} days are left"
    if not _issued_by(certificate, pinned):
        return f"{by}; invitations pin another authority, so parties need --ca-bundle"
    return by


def _public(path: Path) -> bytes:
    try:
        return load_pem_private_key(path.read_bytes(), None).public_key().public_bytes(*_SPKI)
    except (ValueError, TypeError) as error:
        raise UsageError("bad-certificate", f"{path} holds no private key: {error}") from error


def _issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _database(settings: Settings) -> str:
    parts = make_url(settings.database)
    if parts.get_backend_name() == "sqlite" and not Path(parts.database or "").is_file():
        raise ConflictError(
            "database-unreachable",
            f"{parts.database} is not there",
            hint="Restore it from a backup; accord registry init makes an empty one.",
        )
    asyncio.run(check(settings))
    return f"{parts.render_as_string(hide_password=True)} has this release's schema"


def _address(settings: Settings) -> Iterator[Check]:
    """The registry from without: its own address, as this machine reaches it."""
    host, port = _host(settings)
    try:
        network = Network.of(settings.home)
        pinned = settings.ca.read_bytes()
        trusted = network.trusting_registry(pinned)
        with RegistryClient(settings.url, pinned, network=network) as client:
            for check in walk("registry", host, port, network.route(host, port), trusted, now()):
                yield check
                if not check.ok:
                    return
            yield ask("registry", "http", lambda: _serves(client))
    except (AccordError, OSError) as error:
        yield failed("registry", "setting", error)


def _serves(client: RegistryClient) -> str:
    client.ready()
    info = client.info()
    require_protocol(info)
    return f"ready; release {info.version}, protocol {info.protocol}"
