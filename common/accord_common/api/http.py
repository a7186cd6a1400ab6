"""One connection to a registry: TLS with the pinned CA only, retries, problems as AccordErrors.

Guarantees: no certificate but one from the pinned CA is accepted; only calls that may be repeated
without harm are repeated, with growing random pauses; every failure is an `AccordError` with the
registry's code and hint, or `registry-unreachable`.
"""

import logging
import random
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx
from pydantic import ValidationError

from accord_common import errors
from accord_common.api.schemas import Problem
from accord_common.bulk import Body
from accord_common.canonical import sha256_hex
from accord_common.errors import AccordError, FormatError, TransportError, VerificationError
from accord_common.tls import trusting

_log = logging.getLogger(__name__)  # not structlog: silent in a program that configured nothing

ATTEMPTS = 4
FIRST_PAUSE_S = 0.2  # then doubled: 1.4 s at most in all, a restart of the registry
CONNECT_TIMEOUT_S = 5.0
PIECE_BYTES = 1 << 18  # of a body that is sent
_AGAIN = frozenset({502, 503, 504})
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_BY_NAME = {
    name: value
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, AccordError)
}


class Connection:
    """Sends requests; safe to share between threads.

    Args:
        url: `https://host:port`.
        ca_pem: the registry's CA certificate, the only one trusted.
        token: bearer token, or None for the public calls.
        timeout_s: how long an answer may take, beyond a long poll's own wait.
        transport: replaces the network, for a registry in the same process.
    """

    def __init__(
        self,
        url: str,
        ca_pem: bytes,
        token: str | None,
        *,
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
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._client = httpx.Client(
            base_url=self.url,
            headers=headers,
            verify=trusting(ca_pem),
            transport=transport,
            trust_env=_proxied(parsed),
        )

    def close(self) -> None:
        """Close the connection; a pause between attempts ends at once."""
        self._closed.set()
        self._client.close()

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

    def _unreachable(self, error: Exception | None) -> TransportError:
        reason = str(error) if error is not None and str(error) else type(error).__name__
        hint = "Check that the registry runs, and that this address and port can be reached."
        if "CERTIFICATE_VERIFY_FAILED" in reason:
            hint = "Its certificate is not from the CA pinned at enrolment; ask whoever runs it."
        return TransportError("registry-unreachable", f"{self.url}: {reason}", hint=hint)


def fetch_ca(url: str, fingerprint: str) -> bytes:
    """Fetch a registry's CA certificate (PEM) by the fingerprint that an invitation gave.

    Nothing is sent but this one request, to whoever answers: the fingerprint (SHA-256 of the DER)
    is what makes the certificate the right one. Returns that one certificate and nothing else.

    Raises:
        VerificationError: `wrong-ca`.
        TransportError: `registry-unreachable`.
    """
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    hint = "Check the address in the invitation, and that the registry runs."
    try:
        with httpx.Client(verify=context, trust_env=_proxied(httpx.URL(url))) as client:
            response = client.get(f"{url.rstrip('/')}/v1/ca.pem", timeout=CONNECT_TIMEOUT_S)
    except httpx.TransportError as error:
        raise TransportError("registry-unreachable", f"{url}: {error}", hint=hint) from error
    if response.is_error:
        raise problem(response)
    try:
        der = ssl.PEM_cert_to_DER_cert(response.text.strip())
    except ValueError as error:
        raise FormatError("bad-certificate", f"{url} sent no certificate: {error}") from error
    if (found := sha256_hex(der)) != fingerprint:
        raise VerificationError(
            "wrong-ca",
            f"{url} shows the CA {found[:16]}, the invitation says {fingerprint[:16]}",
            hint="Do not go on; ask the coordinator whether the invitation is current.",
        )
    # Never the bytes as sent: Python's decoder stops at the first certificate's padding, OpenSSL
    # goes on and would trust every further one that somebody in between appended.
    return ssl.DER_cert_to_PEM_cert(der).encode("ascii")


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


def _proxied(url: httpx.URL) -> bool:
    """Whether the environment's proxy may serve; it cannot reach this machine's loopback."""
    return url.host not in _LOOPBACK
