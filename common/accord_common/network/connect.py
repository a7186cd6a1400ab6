"""A TLS connection, layer by layer: what a node's link is made by, and what a check walks along.

Guarantees: nothing but a host name, and to a proxy its login, is sent before the certificate holds.
"""

import ssl
from collections.abc import Callable
from socket import socket

from accord_common.network.dial import CONNECT_S, dial, tunnel
from accord_common.network.faults import Fault, Layer, fault_of
from accord_common.network.route import Proxy

Reached = Callable[[Layer, socket], None]
"""Told of each layer as soon as it stands, with the connection's socket; may raise OSError."""


class Unconnected(Exception):
    """The connection could not be made."""

    def __init__(self, fault: Fault, *, refused: bool) -> None:
        super().__init__(str(fault))
        self.fault = fault
        self.refused = refused  # whether it is the certificate that does not hold


def connect(
    host: str, port: int, proxy: Proxy | None, tls: ssl.SSLContext, reached: Reached
) -> ssl.SSLSocket:
    """Connect, through the proxy if there is one, and shake hands.

    Raises:
        Unconnected: with the first layer that failed; nothing is left open.
    """
    stage: Layer = "tcp"
    open_: socket | None = None
    try:
        open_ = dial(host, port, proxy)
        reached("tcp", open_)
        if proxy is not None:
            stage = "proxy"
            tunnel(open_, host, port, proxy)
            reached("proxy", open_)
        stage = "tls"
        open_.settimeout(CONNECT_S)
        open_ = secure = tls.wrap_socket(open_, server_hostname=host, do_handshake_on_connect=False)
        reached("tcp", secure)  # another object for the same connection
        secure.do_handshake()
        reached("tls", secure)
        return secure
    except (OSError, ValueError) as error:  # ValueError: closed by another thread meanwhile
        if open_ is not None:
            open_.close()
        fault = fault_of(error, host, port, proxy, stage=stage)
        refused = isinstance(error, ssl.SSLCertVerificationError)
        raise Unconnected(fault, refused=refused) from error
