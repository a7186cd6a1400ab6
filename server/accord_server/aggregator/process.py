"""Put the aggregator's parts together: lock, certificate, listener, registry, service.

Guarantees: nothing listens before the home is locked and the certificate is one that nodes will
accept; whatever was opened is closed; memory that a round needed is the system's again after it.
"""

import ctypes
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from accord_common.chain import VerifiedRun
from accord_common.errors import FormatError, TransportError, UsageError
from accord_common.exposition import exposed, require_place
from accord_common.fields import now
from accord_common.home import Home
from accord_common.identity import flower_public_key
from accord_common.secagg.sealing import chunk_count, sealed_bytes
from accord_server.aggregator.fleet import SuperLinkTransport
from accord_server.aggregator.listener import Listener
from accord_server.aggregator.locking import lock
from accord_server.aggregator.metrics import watch
from accord_server.aggregator.offers import Endpoint
from accord_server.aggregator.service import Service
from accord_server.aggregator.transport import Transport
from accord_server.ca import spki_hash
from accord_server.certificates import check_dates, issued_under
from accord_server.open_files import allow_open_files

_PLACE = re.compile(r"(?P<host>[A-Za-z0-9.-]{1,253}):(?P<port>[0-9]{1,5})")
_MMAP_THRESHOLD = -3  # M_MMAP_THRESHOLD of glibc's malloc.h
_LARGE_BLOCK = 128 << 10  # bytes; what glibc starts with, before it adapts to what was freed
_ANYWHERE = frozenset({"0.0.0.0", "::"})


@contextmanager
def open_service(
    home: Home,
    listen: str,
    *,
    certificate: Path,
    key: Path,
    ca: Path,
    address: str,
    metrics: str = "",
) -> Iterator[Service]:
    """Open everything that one aggregator needs; nodes are answered from here on.

    Raises:
        UsageError: `bad-listen`, `cannot-listen` (of metrics), `no-address`, `unreadable-file`,
            `not-enrolled`.
        TransportError: `wrong-certificate`, `certificate-expired`, `certificate-unusable`,
            `address-in-use`.
        ConflictError: `already-running`.
    """
    require_place(metrics)
    _return_large_blocks()
    allow_open_files()
    place = _PLACE.fullmatch(listen)
    if place is None or int(place["port"]) > 65535:
        raise UsageError("bad-listen", f"{listen!r} is not HOST:PORT")
    if not address and place["host"] in _ANYWHERE:
        raise UsageError(
            "no-address",
            f"{place['host']} is no address that nodes can reach",
            hint="Add --address HOST:PORT, as the certificate names it.",
        )
    spki = _check_certificate(certificate, ca)
    check_dates(certificate, now())

    def reload() -> None:
        if _check_certificate(certificate, ca) != spki:
            raise TransportError(
                "other-key",
                f"{certificate} has another key than the one that offers and runs name",
                hint="Renew it with the same key (accord ca renew); a new key takes a restart, "
                "and no run under way.",
            )
        listener.reload()

    with ExitStack() as stack:
        stack.callback(os.close, lock(home))
        client = stack.enter_context(home.registry())
        listener = stack.enter_context(
            Listener(place["host"], int(place["port"]), certificate=certificate, key=key)
        )
        endpoint = Endpoint(address or f"{place['host']}:{listener.port}", spki)

        def open_transport(run: VerifiedRun, folder: Path) -> Transport:
            roster = {}
            for party, delegation in run.delegations.items():
                assert delegation.flower_key is not None  # chain.fetch_run saw to it
                roster[party] = flower_public_key(delegation.flower_key)
            size = run.manifest.dimension, run.manifest.secagg.ring_bits
            return SuperLinkTransport(
                listener,
                roster,
                folder,
                max_reply_chunks=chunk_count(*size),
                max_reply_bytes=sealed_bytes(*size),
            )

        service = Service(
            home,
            client,
            endpoint,
            open_transport,
            reload_certificate=reload,
            certificate=certificate,
        )
        watch(service, listener, certificate)
        service.metrics_port = stack.enter_context(exposed(metrics, service.progress.registry))
        yield service


def _return_large_blocks() -> None:
    """Have large blocks go back at once when they are freed, where the C library is glibc.

    Otherwise it keeps as much as was ever free at once, for each of its arenas: with ten sites,
    70 MB more than with three.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGE_BLOCK)


def _check_certificate(certificate: Path, ca: Path) -> str:
    """Return the SPKI's hash of a certificate that `ca` signed; nodes refuse any other."""
    try:
        pem, authority = certificate.read_bytes(), ca.read_bytes()
    except OSError as error:
        raise UsageError("unreadable-file", f"{error.filename}: {error.strerror}") from error
    try:
        known = issued_under(pem, authority)
    except FormatError as error:
        raise _wrong(certificate, ca) from error
    if not known:
        raise _wrong(certificate, ca)
    return spki_hash(pem)


def _wrong(certificate: Path, ca: Path) -> TransportError:
    return TransportError(
        "wrong-certificate",
        f"{certificate} was not issued by the authority in {ca}",
        hint="Let the coordinator's `accord ca issue` make one; nodes trust no other.",
    )
