"""`/metrics` in Prometheus' text format: who is told, and how what is true now is read.

Guarantees: a listener of its own, on the address that was asked for and on no other, answers
`GET /metrics` and nothing else; it reads no body, and a connection that says nothing for 10 s ends.
What is shown is read when it is asked for, so a run that is over has no series left.

Not covered: who may ask. Figures tell how much institutions have spent and when they were seen, so
the address is a loopback one unless a firewall stands before it (`is_loopback` tells).
"""

import ipaddress
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from socket import AF_INET, AF_INET6
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import StartResponse, WSGIEnvironment

import structlog
from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from accord_common.authorities import read_bundle
from accord_common.errors import UsageError

PATH = "/metrics"
_SILENT_S = 10  # how long a connection may say nothing

log = structlog.get_logger(__name__)

Row = tuple[Sequence[str], float]


class Reading(Collector):
    """What `read` finds whenever somebody asks; one asks at a time."""

    def __init__(self, read: Callable[[], Iterable[Metric]]) -> None:
        self._read = read
        self._lock = threading.Lock()

    def collect(self) -> Iterable[Metric]:
        """See the class."""
        with self._lock:
            return list(self._read())


def gauge(name: str, what: str, rows: Iterable[Row], labels: Sequence[str] = ()) -> Metric:
    """Make one family: a row for each combination of labels."""
    family = GaugeMetricFamily(name, what, labels=labels)
    for values, number in rows:
        family.add_metric(values, number)
    return family


def expiry(name: str, files: Iterable[tuple[str, Path]]) -> Metric:
    """When the first certificate of each PEM file ends; a file that is none has no row."""
    rows: list[Row] = []
    for certificate, path in files:
        try:
            first = read_bundle(path.read_bytes())[0]
        except Exception:  # whatever it holds: that a row is absent is what tells
            log.warning("certificate-unreadable", file=str(path))
            continue
        rows.append(((certificate,), first.not_valid_after_utc.timestamp()))
    what = "When a certificate that is shown or trusted here ends"
    return gauge(name, what, rows, ("certificate",))


def disk_free(name: str, folder: Path) -> Metric:
    """Bytes that the folder's file system has left for this process."""
    found = os.statvfs(folder)
    free = found.f_bavail * found.f_frsize
    return gauge(name, "Free bytes where the folder lies", [((), float(free))])


def require_place(text: str) -> None:
    """Refuse an option that names no place, before anything is opened; `bad-listen`."""
    if text:
        parse_place(text)


def parse_place(text: str) -> tuple[str, int]:
    """Read HOST:PORT, an IPv6 address in brackets; UsageError `bad-listen`."""
    host, colon, number = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (host and colon and number.isascii() and number.isdigit()) or int(number) > 65535:
        raise UsageError(
            "bad-listen", f"{text!r} is not HOST:PORT", hint="Example: --metrics 127.0.0.1:9464"
        )
    return host, int(number)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address to listen on."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextmanager
def exposed(place: str, registry: CollectorRegistry) -> Iterator[int | None]:
    """Answer at HOST:PORT during a block; yields the port, which 0 lets the system choose.

    Without a place (""), nobody is answered.

    Raises:
        UsageError: `bad-listen`, `cannot-listen`.
    """
    if not place:
        yield None
        return
    host, port = parse_place(place)
    try:
        server = make_server(host, port, _only(make_wsgi_app(registry)), _server(host), _Handler)
    except OSError as error:
        raise UsageError(
            "cannot-listen",
            f"cannot listen on {place} for metrics: {error.strerror or error}",
            hint="Another process may use the port.",
        ) from error
    if not is_loopback(host):
        log.warning(
            "metrics-open", address=place, hint="Whoever reaches this port reads what runs spend."
        )
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    address_family = AF_INET

    def handle_error(self, request: object, client_address: object) -> None:
        """One who hangs up in the middle is no news."""


class _Server6(_Server):
    address_family = AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = _SILENT_S

    def log_message(self, *_: object) -> None:
        """Say nothing: it is asked several times a minute."""


def _server(host: str) -> type[_Server]:
    return _Server6 if ":" in host else _Server


def _only(application: Any) -> Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]:
    def answer(environment: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        if environment["PATH_INFO"] != PATH:
            start("404 Not Found", [("Content-Type", "text/plain")])
            return [b"only /metrics is here\n"]
        if environment["REQUEST_METHOD"] != "GET":
            start("405 Method Not Allowed", [("Content-Type", "text/plain"), ("Allow", "GET")])
            return [b"only GET\n"]
        found: Iterable[bytes] = application(environment, start)
        return found

    return answer
