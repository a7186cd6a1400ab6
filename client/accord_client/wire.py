"""One HTTP/1.1 connection over TLS 1.3 to a server that is known by its public key.

Guarantees: nothing is sent before the server has shown a certificate that the given authority
signed for this host and whose public key has the given hash; every way in which the connection
fails is a TransportError with a stable code that names the layer; a response is read up to the
largest legal object. Through a proxy all of this holds between node and aggregator: it carries
bytes. Time limits are for each step, never for a whole body: a line that is slow but moves is kept.
"""

import contextlib
import http.client
import json
import math
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from accord_common.errors import TransportError
from accord_common.fields import CLOCK_TOLERANCE_S
from accord_common.network.certificates import read
from accord_common.network.connect import Unconnected, connect
from accord_common.network.faults import Layer, key_fault
from accord_common.network.route import Proxy, authority
from accord_common.parcel import MAX_OBJECT_BYTES

_CALL_S = 60.0  # without a byte taken or given
_PIECE_BYTES = 64 << 10  # one write; its time limit is for the whole of it: 2 s at 256 kbit/s
_HINTS = {
    "node-clock-skew": f"This machine's clock is more than {CLOCK_TOLERANCE_S} s from the "
    "aggregator's: set it, best by NTP; the node then comes in by itself.",
    "aggregator-disk-full": "Whoever runs the aggregator must make room; the node tries again.",
}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the aggregator is and how it is recognised.

    Attributes:
        host: name or address, as in the certificate.
        port: its only port.
        ca_pem: the authority that signs its certificate.
        tls_spki: SHA-256, in hex, of its certificate's SubjectPublicKeyInfo.
        proxy: the proxy on the way, if any.
    """

    host: str
    port: int
    ca_pem: bytes
    tls_spki: str
    proxy: Proxy | None = None


Headers = Callable[[], Mapping[str, str]]
"""Makes the headers that authenticate one request."""


class Wire:
    """See the module. Calls come from one thread; `cut` from any."""

    def __init__(self, endpoint: Endpoint, tls: ssl.SSLContext, headers: Headers) -> None:
        """Prepare; `connect` connects."""
        self._headers = headers
        self._endpoint = endpoint
        self._tls = tls
        self._http = http.client.HTTPSConnection(endpoint.host, endpoint.port, context=tls)
        self._http.auto_open = 0  # a connection that http.client reopens would be nobody's
        self._response: http.client.HTTPResponse | None = None
        self._socket: socket.socket | None = None
        self._cut = False
        self._used = time.monotonic()

    def connect(self) -> None:
        """Connect and check who answers, before anything else.

        Raises:
            TransportError: `aggregator-unreachable`, `aggregator-certificate-refused`,
                `aggregator-spki-mismatch`.
        """
        at = self._endpoint
        try:
            secure = connect(at.host, at.port, at.proxy, self._tls, self._reached)
        except Unconnected as error:
            code = "aggregator-certificate-refused" if error.refused else "aggregator-unreachable"
            raise TransportError(code, str(error.fault), hint=error.fault.remedy) from error
        self._http.sock = secure
        certificate = secure.getpeercert(binary_form=True)
        assert certificate is not None  # the context asks for one
        if (shown := read(certificate).spki) != at.tls_spki:
            self.close()
            fault = key_fault(authority(at.host, at.port), shown, at.tls_spki)
            raise TransportError("aggregator-spki-mismatch", str(fault), hint=fault.remedy)
        self.set_timeout(_CALL_S)

    def _reached(self, _: Layer, connected: socket.socket) -> None:
        self._socket = connected  # from here on, `cut` ends it
        if self._cut:
            raise ConnectionAbortedError("closed here")

    @property
    def idle_s(self) -> float:
        """Seconds since the last request went out; infinity once the connection is closed.

        Not since its answer came: the other end may have had that off its hands long before.
        """
        return time.monotonic() - self._used if self._http.sock is not None else math.inf

    def set_timeout(self, seconds: float) -> None:
        """Bound every later read and write."""
        if self._socket is not None:
            self._socket.settimeout(seconds)

    def call(self, path: str, pieces: Sequence[bytes]) -> bytes:
        """Send the pieces of one body; return the body of the response."""
        response = self.post(path, pieces)
        with unreachable():
            declared = response.length
            body = response.read(MAX_OBJECT_BYTES)
            if declared is not None and len(body) < min(declared, MAX_OBJECT_BYTES):
                raise ConnectionResetError(f"{len(body)} of {declared} bytes came")
        return body

    def post(self, path: str, pieces: Sequence[bytes]) -> http.client.HTTPResponse:
        """Send, and return the response, whose body is still to come.

        Raises:
            TransportError: the code the aggregator refuses with, or `aggregator-unreachable`.
        """
        headers = {
            "content-type": "application/protobuf",
            "content-length": str(sum(map(len, pieces))),
            **self._headers(),
        }
        with unreachable():
            self._http.request("POST", path, body=_cut_small(pieces), headers=headers)
            self._used = time.monotonic()
            response = self._response = self._http.getresponse()
            if response.status == http.HTTPStatus.OK:
                return response
            code = _code(response.read(1 << 10))
        self.close()
        told = f"the aggregator answers {path} with {response.status}"
        raise TransportError(code, told, hint=_HINTS.get(code, ""))

    def cut(self) -> None:
        """Hang up, also under a read in another thread."""
        self._cut = True
        if self._socket is None:
            return
        with contextlib.suppress(OSError):
            # The base class's: SSLSocket.shutdown would pull the session from under that read.
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def close(self) -> None:
        """Free the socket, from the thread that makes the calls."""
        self.cut()
        if self._response is not None:
            self._response.close()
        self._http.close()


@contextlib.contextmanager
def unreachable() -> Iterator[None]:
    """Turn every way in which a connection fails into a TransportError."""
    try:
        yield
    except (OSError, http.client.HTTPException, ValueError, AttributeError) as error:
        # The last two are what a read sees when `cut` closes the socket under it.
        raise TransportError(
            "aggregator-unreachable", f"{type(error).__name__}: {error}"
        ) from error


def _cut_small(pieces: Sequence[bytes]) -> Iterator[memoryview]:
    for piece in pieces:
        view = memoryview(piece)
        for start in range(0, len(view), _PIECE_BYTES):
            yield view[start : start + _PIECE_BYTES]


def _code(body: bytes) -> str:
    try:
        code = json.loads(body)["code"]
    except (ValueError, KeyError, TypeError):
        code = None
    known = isinstance(code, str) and re.fullmatch(r"[a-z][a-z-]{1,48}", code)
    return str(code) if known else "aggregator-answer-invalid"
