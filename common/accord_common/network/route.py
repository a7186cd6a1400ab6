"""Which way a connection takes: straight, or through an HTTP proxy by CONNECT.

Guarantees: registry and aggregator are routed by the same rules; a proxy's login stands in no
message, log line or repr; this machine's loopback is never asked of a proxy.

Names are not resolved to match a NO_PROXY entry: an address range speaks of hosts that are given as
addresses. Not covered: proxies that are themselves spoken to over TLS or SOCKS, and PAC files.
"""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit

from accord_common.errors import UsageError

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_DEFAULT_PORT = 3128  # what Squid, and so most institutions, listen on


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy.

    Attributes:
        host: its name or address.
        port: its port.
        login: user and password, or None.
        source: where it was named, for people.
    """

    host: str
    port: int
    login: tuple[str, str] | None = field(default=None, repr=False)
    source: str = ""

    @property
    def address(self) -> str:
        """The proxy's URL, without login."""
        return f"http://{authority(self.host, self.port)}"


def parse_proxy(text: str, source: str) -> Proxy:
    """Read `http://[user:password@]host[:port]`; the scheme may be left out.

    Raises:
        UsageError: `bad-proxy`; the text, which may hold a password, is not repeated.
    """
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        host, port = parts.hostname, parts.port or _DEFAULT_PORT
    except ValueError:
        parts, host, port = SplitResult("", "", "", "", ""), None, 0
    if parts.scheme != "http" or not host or parts.path not in ("", "/") or parts.query:
        raise UsageError(
            "bad-proxy",
            f"{source} is no http://HOST:PORT (scheme {parts.scheme or 'unreadable'!r})",
            hint="Accord speaks CONNECT to a proxy over plain HTTP; TLS runs inside, end to end.",
        )
    login = None
    if parts.username is not None:
        login = unquote(parts.username), unquote(parts.password or "")
    return Proxy(host, port, login, source)


def is_direct(host: str, port: int, exceptions: Iterable[str]) -> bool:
    """Whether a host is reached without a proxy: loopback, or named by a NO_PROXY entry.

    An entry is `*`, a range such as `10.0.0.0/8`, an address, or a host whose subdomains count too,
    with or without a leading dot; the last two may end in `:port`. What is none of these matches
    nothing.
    """
    host = _bare(host)
    address = _address(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return True
    return any(_matches(entry.strip().lower(), host, address, port) for entry in exceptions)


def authority(host: str, port: int) -> str:
    """`host:port` as a URL and CONNECT write it: an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _matches(entry: str, host: str, address: _Address | None, port: int) -> bool:
    if entry == "*":
        return True
    if "/" in entry:
        try:
            return address is not None and address in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    name, only = _split(entry)
    if only and only != str(port):
        return False
    if address is not None:
        return _address(name) == address
    name = name.removeprefix("*").removeprefix(".").rstrip(".")
    return bool(name) and (host == name or host.endswith(f".{name}"))


def _split(entry: str) -> tuple[str, str]:
    """An entry's host and, where it has one, its port; a bare IPv6 address has several colons."""
    if entry.startswith("["):
        name, _, rest = entry[1:].partition("]")
        return name, rest.removeprefix(":")
    if entry.count(":") == 1:
        name, _, port = entry.partition(":")
        return name, port
    return entry, ""


def _bare(host: str) -> str:
    return host.lower().removeprefix("[").removesuffix("]").rstrip(".")


def _address(host: str) -> _Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
