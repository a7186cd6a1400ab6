"""A connection, walked along as it is made: dns, tcp, proxy, tls, then the key where one is named.

Guarantees: the way is the one that a node's link takes (`network.connect`); the walk ends at the
first layer that fails, and after it nothing was sent but a host name, and to a proxy its login.
"""

import ipaddress
import ssl
from collections.abc import Iterator
from datetime import datetime
from socket import socket

from accord_common.checks.check import Check
from accord_common.fields import format_time
from accord_common.network.certificates import read
from accord_common.network.connect import Unconnected, connect
from accord_common.network.faults import Fault, Layer, key_fault
from accord_common.network.route import Proxy, authority


def walk(
    name: str,
    host: str,
    port: int,
    proxy: Proxy | None,
    tls: ssl.SSLContext,
    moment: datetime,
    spki: str | None = None,
) -> Iterator[Check]:
    """Connect, and tell of each layer.

    Args:
        name: whose connection it is.
        host: the other end.
        port: its port.
        proxy: the proxy on the way, if any.
        tls: whom to trust.
        moment: the present time.
        spki: SHA-256, in hex, of the public key that it must show, if that is known.
    """
    seen: list[Check] = []

    def reached(layer: Layer, connected: socket) -> None:
        if layer == "tcp" and not seen:
            seen.extend(_arrived(name, host, port, proxy, connected))
        elif layer == "proxy":
            assert proxy is not None
            way = f"{proxy.address} ({proxy.source}) passes on to {authority(host, port)}"
            seen.append(Check(name, layer, True, way))

    try:
        with connect(host, port, proxy, tls, reached) as secure:
            der, spoken = secure.getpeercert(binary_form=True), secure.version()
    except Unconnected as error:
        yield from seen
        yield _failed(name, error.fault)
        return
    yield from seen
    assert der is not None  # the context asks for one
    shown = read(der)
    if spki is not None and shown.spki != spki:
        yield _failed(name, key_fault(authority(host, port), shown.spki, spki))
        return
    days = (shown.not_after - moment).days
    until = f"valid until {format_time(shown.not_after)} ({days} days)"
    key = "" if spki is None else ", with the key that the manifest names"
    yield Check(name, "tls", True, f"{spoken}, issued by {shown.issuer!r}, {until}{key}")


def _arrived(
    name: str, host: str, port: int, proxy: Proxy | None, connected: socket
) -> Iterator[Check]:
    first, number = (host, port) if proxy is None else (proxy.host, proxy.port)
    address = connected.getpeername()[0]
    if not _is_address(first):
        yield Check(name, "dns", True, f"{first} is {address}")
    yield Check(name, "tcp", True, f"{authority(address, number)} accepts")


def _failed(name: str, fault: Fault) -> Check:
    return Check(name, fault.layer, False, fault.seen, fault.code, fault.remedy)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
