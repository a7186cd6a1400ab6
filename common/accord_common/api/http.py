"""One connection to a registry: TLS with the pinned CA, retries, problems as AccordErrors.

Guarantees: no certificate is accepted but one from the pinned CA, or from those that the party's
own folder adds (`network.settings`); only calls that may be repeated without harm are repeated,
with growing random pauses; every failure is an `AccordError` with the registry's code and hint, or
`registry-unreachable`, which names the layer that failed. Time limits are for each step, a connect,
a write, a read, never for a whole body.
"""

import logging
import random
import re
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from importlib.metadata import version
from typing import Any

import httpx
from pydantic import ValidationError

from accord_common import errors
from accord_common.api.schemas import Problem
from accord_common.authorities import fingerprint_of, follow, read_bundle, write_bundle
from accord_common.bulk import Body
from accord_common.errors import AccordError, TransportError, VerificationError
from accord_common.network.dial import ANSWER_S, SOCKET_OPTIONS, ProxyRefused, ProxyUnreachable
from accord_common.network.faults import Layer, fault_of
from accord_common.network.route import Proxy
from accord_common.network.settings import Network

_log = logging.getLogger(__name__)  # not structlog: silent in a program that configured nothing

PRODUCT = "accord"  # as programs name themselves to a registry, before a slash and their release
ATTEMPTS = 4
FIRST_PAUSE_S = 0.2  # then doubled: 1.4 s at most in all, a restart of the registry
CONNECT_TIMEOUT_S = 5.0
PIECE_BYTES = 1 << 18  # of a body that is sent
_AGAIN = frozenset({502, 503, 504})
_HTTPS = 443
_STATUS = re.compile(r"([0-9]{3}) (.*)")  # of httpx' ProxyError
_BY_NAME = {
    name: value
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, AccordError)
}


class Connection:
    """Sends requests; safe to share between threads.

    Args:
        url: `https://host:port`.
        ca_pem: the registry's CA certificate.
        token: bearer token, or None for the public calls.
        network: how this party goes out.
        timeout_s: how long an answer may take, beyond a long poll's own wait.
        transport: replaces the network, for a registry in the same process.
    """

    def __init__(
        self,
        url: str,
        ca_pem: bytes,
        token: str | None,
        *,
        network: Network,
        timeout_s: float = 30.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self._timeout_s = timeout_s
        self._closed = threading.Event()
        parsed = httpx.URL(self.url)
        if parsed.scheme != "https":
            raise errors.UsageError(
                "not-https", f"{url} is not an https:// address", hint="Use the registry's address."
            )
        self._tls = network.trusting_registry(ca_pem)
        self._proxy = network.route(*_place(parsed))
        headers = {"User-Agent": f"{PRODUCT}/{version('accord')}"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        self._client = httpx.Client(
            base_url=self.url,
            headers=headers,
            transport=transport or _transport(self._tls, self._proxy),
        )

    def close(self) -> None:
        """Close the connection; a pause between attempts ends at once."""
        self._closed.set()
        self._client.close()

    def trust(self, ca_pem: bytes) -> None:
        """Trust these authorities too, from the next handshake on."""
        self._tls.load_verify_locations(cadata=ca_pem.decode("ascii"))

    def carry(self, headers: Mapping[str, str]) -> None:
        """Send these headers too, from the next request on."""
        self._client.headers.update(headers)

    def request(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        content: Body | None = None,
        params: Mapping[str, Any] | None = None,
        wait_s: float = 0.0,
        again: bool = False,
    ) -> httpx.Response:
        """Send, and raise what the registry answers as a problem.

        Args:
            method: HTTP method.
            path: path from the root.
            json: JSON body, if any.
            content: bytes body, if any; read as it is sent.
            params: query; None values are left out.
            wait_s: how long the registry may hold the request (long poll).
            again: whether repeating it does no harm.

        Raises:
            AccordError: the registry's, of its class, code and hint.
            TransportError: `registry-unreachable`.
        """
        query = {key: value for key, value in (params or {}).items() if value is not None}
        request = self._client.build_request(
            method,
            path,
            json=json,
            content=None if content is None else content.split(PIECE_BYTES),
            headers=None if content is None else {"Content-Length": str(content.size)},
            params=query,
            timeout=self._timeout(wait_s),
        )
        for attempt in range(ATTEMPTS if again else 1):
            last = attempt == (ATTEMPTS if again else 1) - 1
            try:
                response = self._client.send(request)
            except httpx.TransportError as error:
                if last or self._pause(attempt):
                    raise self._unreachable(error) from error
                continue
            if response.status_code in _AGAIN and not last and not self._pause(attempt):
                continue
            _log.debug("%s %s: %d", method, path, response.status_code)
            if response.is_error:
                raise problem(response)
            return response
        raise self._unreachable(None)

    @contextmanager
    def stream(self, path: str) -> Iterator[httpx.Response]:
        """GET without reading the body; not repeated.

        Raises:
            AccordError: as for `request`.
        """
        try:
            with self._client.stream("GET", path, timeout=self._timeout(0)) as response:
                if response.is_error:
                    response.read()
                    raise problem(response)
                yield response
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

    def _timeout(self, wait_s: float) -> httpx.Timeout:
        return httpx.Timeout(self._timeout_s + wait_s, connect=CONNECT_TIMEOUT_S)

    def _pause(self, attempt: int) -> bool:
        """Wait before the next attempt; True where the connection was closed meanwhile."""
        return self._closed.wait(FIRST_PAUSE_S * 2**attempt * random.uniform(0.5, 1.0))

    def _unreachable(self, error: httpx.TransportError | None) -> TransportError:
        return _unreachable(self.url, self._proxy, error)


def fetch_ca(url: str, fingerprint: str, network: Network, moment: datetime) -> bytes:
    """Fetch a registry's CA certificate (PEM) by the fingerprint that an invitation gave.

    Nothing is sent but this one request, to whoever answers: the fingerprint (SHA-256 of the DER)
    is what makes the certificate the right one. Returns that one, and while authorities are
    exchanged the one that it vouches for, and nothing else.

    Raises:
        VerificationError: `wrong-ca`.
        TransportError: `registry-unreachable`.
    """
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    proxy = network.route(*_place(httpx.URL(url)))
    try:
        with httpx.Client(transport=_transport(context, proxy)) as client:
            timeout = httpx.Timeout(ANSWER_S, connect=CONNECT_TIMEOUT_S)
            response = client.get(f"{url.rstrip('/')}/v1/ca.pem", timeout=timeout)
    except httpx.TransportError as error:
        raise _unreachable(url, proxy, error) from error
    if response.is_error:
        raise problem(response)
    offered = read_bundle(response.content)
    pinned = [c for c in offered if fingerprint_of(c) == fingerprint]
    if not pinned:
        shown = ", ".join(fingerprint_of(c)[:16] for c in offered)
        raise VerificationError(
            "wrong-ca",
            f"{url} shows the CA {shown}, the invitation says {fingerprint[:16]}",
            hint="Do not go on; ask the coordinator whether the invitation is current.",
        )
    # Never the bytes as sent: somebody in between may have appended a certificate of his own.
    return follow(write_bundle(pinned), response.content, moment)


def problem(response: httpx.Response) -> AccordError:
    """Turn an error response into the AccordError that it stands for."""
    try:
        told = Problem.model_validate_json(response.content)
    except ValidationError:
        return TransportError(
            "bad-answer",
            f"{response.request.url.host} answered {response.status_code} without a problem",
            hint="Check that the address is a registry's, not a proxy's.",
        )
    error = _BY_NAME.get(told.error, AccordError)
    return error(told.code, told.detail, hint=told.hint)


def _place(url: httpx.URL) -> tuple[str, int]:
    return url.host, url.port or _HTTPS


def _transport(context: ssl.SSLContext, proxy: Proxy | None) -> httpx.HTTPTransport:
    """A way to the registry that asks nobody else: neither the environment nor ~/.netrc."""
    through = None if proxy is None else httpx.Proxy(proxy.address, auth=proxy.login)
    return httpx.HTTPTransport(
        verify=context, trust_env=False, proxy=through, socket_options=SOCKET_OPTIONS
    )


def _unreachable(url: str, proxy: Proxy | None, error: Exception | None) -> TransportError:
    """Name the layer; the hint is its remedy."""
    if error is None:  # closed while it waited
        return TransportError("registry-unreachable", f"{url}: closed here")
    cause: Exception = error
    stage: Layer = "http"
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        stage = "tls" if "handshake" in str(error) else "tcp"  # what a silent handshake is called
    if isinstance(error, httpx.ProxyError) and (said := _STATUS.match(str(error))):
        cause = ProxyRefused(int(said[1]), said[2])
    elif proxy is not None and stage == "tcp" and not _in_tls(error):
        cause = ProxyUnreachable(str(error))
        cause.__cause__ = error
    fault = fault_of(cause, *_place(httpx.URL(url)), proxy, stage=stage)
    return TransportError("registry-unreachable", f"{url}: {fault}", hint=fault.remedy)


def _in_tls(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    return error is not None
