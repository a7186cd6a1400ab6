"""What keeps a connection from its other end: the layer, a code, what was seen, what to do.

Guarantees: every failure of a connection has a layer; the words are the same in a message, a log
line, `accord-node check` and `accord doctor`.

| layer | codes |
|---|---|
| dns | `dns-failed` |
| tcp | `tcp-refused` `tcp-timeout` `tcp-unreachable` |
| proxy | `proxy-unreachable` `proxy-login` `proxy-forbids` `proxy-no-route` `proxy-failed` |
| tls | `tls-name` `tls-expired` `tls-not-yet-valid` `tls-issuer` `tls-intercepted` `tls-failed` |
| tls, of an aggregator | `tls-key` |
| http | `no-answer` |
"""

import errno
import socket
import ssl
from dataclasses import dataclass
from http import HTTPStatus
from typing import Literal

from accord_common.fields import format_time
from accord_common.network.certificates import Shown, look
from accord_common.network.dial import ProxyBroken, ProxyRefused, ProxyUnreachable
from accord_common.network.route import Proxy, authority

Layer = Literal["dns", "tcp", "proxy", "tls", "http"]

_UNREACHABLE = frozenset(
    {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.EACCES, errno.EPERM}
)
# OpenSSL's X509_V_ERR_*, from x509_vfy.h.
_NOT_YET_VALID, _EXPIRED = 9, 10
_WRONG_HOST = frozenset({62, 64})  # a name, an address
_CLOCK = "If that is wrong, set this machine's clock, best by NTP;"


@dataclass(frozen=True, slots=True)
class Fault:
    """See the module."""

    layer: Layer
    code: str
    seen: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.layer}: {self.seen} [{self.code}]"


def fault_of(
    error: BaseException, host: str, port: int, proxy: Proxy | None, *, stage: Layer = "tcp"
) -> Fault:
    """Name what failed; for a certificate, with a second handshake that shows whose it is.

    Args:
        error: what the connection raised; what caused it counts where it says more.
        host: the other end.
        port: its port.
        proxy: the proxy on the way, if any.
        stage: the layer that was asked when it failed; silence says no more by itself.
    """
    causes = _causes(error)
    where = authority(host, port)
    for cause in causes:
        if isinstance(cause, ProxyRefused):
            assert proxy is not None
            return _refused(cause, where, proxy)
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return certificate_fault(cause, host, look(host, port, proxy))
    for cause in causes:
        if isinstance(cause, ssl.SSLError):
            return Fault(
                "tls",
                "tls-failed",
                f"{where} does not speak TLS 1.3 with this machine: {cause.reason or cause}",
                "Is it the right port? A filter on the way may also have cut the connection.",
            )
    for cause in causes:
        if isinstance(cause, ProxyUnreachable | ProxyBroken):
            assert proxy is not None
            return _broken(cause, proxy)
    return _plain(causes, host, where, stage)


def certificate_fault(error: ssl.SSLCertVerificationError, host: str, shown: Shown | None) -> Fault:
    """Name why a certificate is refused, given what the server shows."""
    if shown is None:
        return Fault("tls", "tls-failed", f"{host}: {error.verify_message}", "Look again.")
    by = f"issued by {shown.issuer!r}"
    if error.verify_code == _EXPIRED:
        return Fault(
            "tls",
            "tls-expired",
            f"the certificate of {host} expired at {format_time(shown.not_after)} ({by})",
            f"{_CLOCK} else whoever runs {host} must renew it (accord ca issue).",
        )
    if error.verify_code == _NOT_YET_VALID:
        return Fault(
            "tls",
            "tls-not-yet-valid",
            f"the certificate of {host} is valid from {format_time(shown.not_before)} ({by})",
            f"{_CLOCK} else whoever runs {host} must wait or issue another.",
        )
    if error.verify_code in _WRONG_HOST:
        names = ", ".join(shown.names) or "nobody"
        return Fault(
            "tls",
            "tls-name",
            f"the certificate is for {names}, not for {host} ({by})",
            "Is the address right, and does the name lead to the right machine? Else whoever runs"
            " it must have one issued for this name.",
        )
    if shown.covers(host):
        return Fault(
            "tls",
            "tls-intercepted",
            f"the certificate of {host} is {by}, an authority that is not trusted here",
            "A proxy or firewall that inspects TLS makes such certificates: let this host through"
            " uninspected. Else ask whoever runs it whether its authority has changed.",
        )
    return Fault(
        "tls",
        "tls-issuer",
        f"a certificate for {', '.join(shown.names) or 'nobody'} is shown, {by}, which is not"
        " trusted here",
        "Another server answers under this address: check address, port and DNS.",
    )


def key_fault(host: str, shown: str, wanted: str) -> Fault:
    """A certificate that the right authority signed for another key than the manifest names."""
    return Fault(
        "tls",
        "tls-key",
        f"{host} shows the key {shown[:16]}..., the manifest names {wanted[:16]}...",
        "Somebody may be in between, or its certificate was exchanged; ask the coordinator."
        " Nothing was sent.",
    )


def _causes(error: BaseException) -> list[BaseException]:
    """The error and what it rests on, the outermost first."""
    found: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in found:
        found.append(following)
        following = following.__cause__ or following.__context__
    return found


def _refused(error: ProxyRefused, where: str, proxy: Proxy) -> Fault:
    says = f"{proxy.address} ({proxy.source}) answers {error.status} {error.reason}".rstrip()
    if error.status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        given = "wants a login" if proxy.login is None else f"refuses the login of {proxy.login[0]}"
        return Fault(
            "proxy",
            "proxy-login",
            f"{says}: it {given}",
            "Set a login that it takes (Basic) with --proxy-login-file.",
        )
    if error.status in (
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    ):
        return Fault(
            "proxy",
            "proxy-no-route",
            f"{says}: it cannot reach {where}",
            "Does that server run, and does the proxy resolve its name? Ask who runs the proxy.",
        )
    return Fault(
        "proxy",
        "proxy-forbids",
        f"{says}: it does not pass on to {where}",
        "Ask who runs the proxy to allow CONNECT to this host and port.",
    )


def _broken(error: ProxyUnreachable | ProxyBroken, proxy: Proxy) -> Fault:
    who = f"{proxy.address} ({proxy.source})"
    if isinstance(error, ProxyBroken):
        return Fault(
            "proxy",
            "proxy-failed",
            f"{who} does not answer CONNECT as a proxy does: {error}",
            "Is this an HTTP proxy's address? It may also wait for the other end in vain.",
        )
    inner = _plain(_causes(error), proxy.host, authority(proxy.host, proxy.port), "tcp")
    return Fault(
        "proxy",
        "proxy-unreachable",
        f"{who}: {inner.seen}",
        "Check the proxy's address, or name the host in NO_PROXY if none is needed.",
    )


def _plain(causes: list[BaseException], host: str, where: str, stage: Layer) -> Fault:
    """What the system says of a connection."""
    for cause in causes:
        if isinstance(cause, socket.gaierror):
            return Fault(
                "dns",
                "dns-failed",
                f"no address for {host}: {cause.strerror}",
                "Check the name and this machine's DNS; behind a proxy, set HTTPS_PROXY, then the"
                " proxy resolves it.",
            )
    inner = next((cause for cause in reversed(causes) if isinstance(cause, OSError)), causes[0])
    if isinstance(inner, ConnectionRefusedError):
        return Fault(
            "tcp",
            "tcp-refused",
            f"{where} refuses the connection",
            "Does the server run, and on this port? A firewall may refuse, too.",
        )
    if isinstance(inner, OSError) and inner.errno in _UNREACHABLE:
        return Fault(
            "tcp",
            "tcp-unreachable",
            f"no way to {where}: {inner.strerror}",
            "This machine has no route to it, or a firewall says so; is a proxy needed"
            " (HTTPS_PROXY)?",
        )
    if isinstance(inner, TimeoutError) and stage == "tcp":
        return Fault(
            "tcp",
            "tcp-timeout",
            f"{where} does not answer at all",
            "A firewall may drop packets to it; is the port open, or a proxy needed (HTTPS_PROXY)?",
        )
    if stage == "tls":
        return Fault(
            "tls",
            "tls-failed",
            f"{where} breaks off or says nothing in the TLS handshake: {_text(inner)}",
            "Is it the right port? A filter on the way may also have cut the connection.",
        )
    return Fault(
        "http",
        "no-answer",
        f"{where} gives no answer: {_text(inner)}",
        "The server may be restarting, or a filter on the way cut the connection; try again.",
    )


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__
