"""A TCP connection to a host, straight or through a proxy's CONNECT (RFC 9110, section 9.3.6).

Guarantees: the proxy learns host, port and its own login, and then carries bytes that it cannot
read; every failure is an OSError that `faults` has a name for; on a slow line little waits in this
machine's own buffers, so a time limit on one write or read speaks of progress, not of size.
"""

import http.client
import socket
from base64 import b64encode
from http import HTTPStatus

from accord_common.network.route import Proxy, authority

CONNECT_S = 10.0  # for the machine at the next end: three SYNs
ANSWER_S = 30.0  # for a proxy, which has to reach the other end first

_UNSENT_BYTES = 128 << 10  # 4 s at 256 kbit/s; what is in flight is TCP's, and grows with the line
_REASON_CHARACTERS = 200  # of what a proxy says; RFC 9110's own have 31
SOCKET_OPTIONS = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES),
)


class ProxyRefused(OSError):
    """A proxy that answers CONNECT with a status other than 2xx.

    Its reason is shown on terminals, so nothing of it that is not plain text stays.
    """

    def __init__(self, status: int, reason: str) -> None:
        reason = "".join(c for c in reason if c.isprintable())[:_REASON_CHARACTERS]
        super().__init__(f"the proxy answers {status} {reason}".rstrip())
        self.status = status
        self.reason = reason


class ProxyUnreachable(OSError):
    """A proxy to which there is no connection; the cause says why."""


class ProxyBroken(OSError):
    """A proxy that says nothing to CONNECT, or nothing that is HTTP."""


def dial(host: str, port: int, proxy: Proxy | None) -> socket.socket:
    """Open the TCP connection: to the proxy, or to the host where there is none.

    Raises:
        OSError: as the system has it; ProxyUnreachable around it where it is the proxy's.
    """
    if proxy is None:
        return _connect(host, port)
    try:
        return _connect(proxy.host, proxy.port)
    except OSError as error:
        raise ProxyUnreachable(str(error)) from error


def tunnel(connected: socket.socket, host: str, port: int, proxy: Proxy) -> None:
    """Ask a proxy to pass the connection on to `host`; returns when it has.

    Raises:
        ProxyRefused: for its status.
        ProxyBroken: for silence, or what is not HTTP.
    """
    where = authority(host, port)
    lines = [f"CONNECT {where} HTTP/1.1", f"Host: {where}"]
    if proxy.login is not None:
        login = b64encode(":".join(proxy.login).encode("utf-8")).decode("ascii")
        lines.append(f"Proxy-Authorization: Basic {login}")
    try:
        connected.settimeout(ANSWER_S)
        connected.sendall("\r\n".join([*lines, "", ""]).encode("ascii"))
        # TLS lets the client speak first, so nothing that belongs to it is read ahead here.
        with http.client.HTTPResponse(connected, method="CONNECT") as response:
            response.begin()
            status, reason = response.status, response.reason
    except (OSError, http.client.HTTPException) as error:
        raise ProxyBroken(str(error) or type(error).__name__) from error
    if not HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        raise ProxyRefused(status, reason)


def _connect(host: str, port: int) -> socket.socket:
    connected = socket.create_connection((host, port), CONNECT_S)
    for level, option, value in SOCKET_OPTIONS:
        connected.setsockopt(level, option, value)
    return connected
