"""Brings a node's figures to its institution: into a file, or to a gateway, every few seconds.

Guarantees: off unless asked for; in a thread of its own, so that a full disk or a gateway that
hangs holds up no round; the file is whole at every moment (node_exporter's textfile collector may
read it any time) and its mode is 0640, so that a group may; a gateway is reached over TLS, by the
folder's proxy, unless it is on this machine. A trouble that lasts is logged once.
"""

import os
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import structlog

from accord_common.errors import AccordError, UsageError
from accord_common.exposition import is_loopback
from accord_common.files import put_in_place
from accord_common.network.settings import SYSTEM, Network

EVERY_S = 15.0  # what Prometheus usually scrapes by
_TIMEOUT_S = 10.0
_SUFFIX = ".prom"  # node_exporter reads no other file
_JOB = "accord-node"
_HTTPS = 443

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Telling:
    """See the module.

    Args:
        render: returns the figures as Prometheus' text.
        file: where they go, if anywhere.
        push: a Pushgateway's address, if any; "" otherwise.
        instance: names this node at the gateway.
        network: the way to it.
    """

    render: Callable[[], bytes]
    file: Path | None
    push: str
    instance: str
    network: Network
    _stop: threading.Event = field(default_factory=threading.Event)
    _woken: threading.Event = field(default_factory=threading.Event)
    _said: dict[str, str] = field(default_factory=dict)
    _client: httpx.Client | None = field(default=None)

    def __post_init__(self) -> None:
        require_usable(self.file, self.push)
        if self.push:
            self._client = _client(self.push, self.network)

    def run(self, every_s: float = EVERY_S) -> None:
        """Tell at once, and again until `stop`."""
        while not self._stop.is_set():
            self.tell()
            self._woken.wait(every_s)
            self._woken.clear()
        if self._client is not None:
            self._client.close()

    def stop(self) -> None:
        """End `run`; from any thread."""
        self._stop.set()
        self._woken.set()

    def wake(self) -> None:
        """Tell soon, since something has changed; from any thread."""
        self._woken.set()

    def tell(self) -> None:
        """Tell once; whatever goes wrong is logged, and nothing else."""
        try:
            text = self.render()
        except Exception as error:
            return self._trouble("figures", error)
        self._said.pop("figures", None)
        if self.file is not None:
            self._try("file", lambda: self._write(text))
        if self._client is not None:
            self._try("push", lambda: self._send(text))

    def _write(self, text: bytes) -> None:
        assert self.file is not None
        # Not `.prom`: what a crash leaves behind is read by nobody, and replaced.
        part = self.file.with_name(f".{self.file.name}.part")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o640)
        with os.fdopen(descriptor, "wb") as opened:
            os.fchmod(descriptor, 0o640)
            opened.write(text)
        put_in_place(part, self.file)

    def _send(self, text: bytes) -> None:
        assert self._client is not None
        path = f"{self.push.rstrip('/')}/metrics/job/{_JOB}/instance/{self.instance}"
        kind = "text/plain; version=0.0.4; charset=utf-8"
        self._client.put(path, content=text, headers={"Content-Type": kind}).raise_for_status()

    def _try(self, what: str, do: Callable[[], None]) -> None:
        try:
            do()
        except Exception as error:
            self._trouble(what, error)
        else:
            if self._said.pop(what, None) is not None:
                log.info("metrics-told-again", by=what)

    def _trouble(self, what: str, error: Exception) -> None:
        why = error.message if isinstance(error, AccordError) else str(error)
        why = why or type(error).__name__
        if self._said.get(what) != why:
            self._said[what] = why
            log.warning("metrics-not-told", by=what, why=why)


def require_usable(file: Path | None, push: str) -> None:
    """Refuse options that nothing could be told by, before anything is opened.

    Raises:
        UsageError: `bad-metrics-file`, `bad-metrics-push`.
    """
    if file is not None and file.suffix != _SUFFIX:
        raise UsageError(
            "bad-metrics-file",
            f"{file} does not end in {_SUFFIX}",
            hint="node_exporter's textfile collector reads no other file.",
        )
    if push:
        _place(push)


def _place(url: str) -> tuple[str, int, bool]:
    """Host and port of a gateway, and whether it is on this machine and in plain HTTP."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    local = parts.scheme == "http" and is_loopback(host)
    try:
        port = parts.port or _HTTPS
    except ValueError:  # beyond 65535, or no number
        host = ""
    if not host or not (parts.scheme == "https" or local) or "@" in parts.netloc or parts.query:
        raise UsageError(
            "bad-metrics-push",
            "the gateway's address is not https://HOST[:PORT][/PATH], nor http on this machine",
            hint="What a node has spent goes over the network under TLS only, without a login.",
        )
    return host, port, local


def _client(url: str, network: Network) -> httpx.Client:
    """A client for a gateway.

    Raises:
        UsageError: `bad-metrics-push`, `bad-ca-bundle`.
    """
    host, port, local = _place(url)
    tls = ssl.create_default_context()
    if network.ca_bundle not in (None, SYSTEM):
        tls.load_verify_locations(cafile=network.ca_bundle)
    route = None if local else network.route(host, port)
    proxy = None if route is None else httpx.Proxy(route.address, auth=route.login)
    return httpx.Client(verify=tls, proxy=proxy, timeout=_TIMEOUT_S, trust_env=False)
