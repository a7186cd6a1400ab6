"""`registry-unreachable` names the layer, in the words of the checks, on every way it can fail."""

import socket
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from accord_common.api.client import RegistryClient
from accord_common.api.http import fetch_ca
from accord_common.errors import TransportError
from accord_common.fields import now
from accord_common.network.route import parse_proxy
from accord_common.network.settings import Network
from accord_server.ca import create_ca
from accord_server.certificates import issue
from tests.proxies import HOST, ConnectProxy, TlsServer, status
from tests.server.registry.stack import free_port

NAME = "registry.accord.test"
DIRECT = Network()
Plant = Callable[[ExitStack, Path], tuple[str, Network]]


def through(proxy: str) -> Network:
    return Network(parse_proxy(proxy, "here"))


def proxied(**how: object) -> Plant:
    def plant(stack: ExitStack, folder: Path) -> tuple[str, Network]:
        proxy = stack.enter_context(ConnectProxy(**how))  # type: ignore[arg-type]  # a row's own
        return f"https://{NAME}", through(proxy.url)

    return plant


def gone(stack: ExitStack, folder: Path) -> tuple[str, Network]:
    return f"https://{NAME}", through(f"http://{HOST}:{free_port()}")


def silent(stack: ExitStack, folder: Path) -> tuple[str, Network]:
    listening = stack.enter_context(socket.create_server((HOST, 0)))
    return f"https://{HOST}:{listening.getsockname()[1]}", DIRECT


def inspected(stack: ExitStack, folder: Path) -> tuple[str, Network]:
    create_ca(folder / "other", "Hospital TLS inspection", now())
    issue(folder / "other", [NAME], folder / "s.pem", folder / "s.key", now())
    server = stack.enter_context(TlsServer(folder / "s.pem"))
    proxy = stack.enter_context(ConnectProxy(names={NAME: (HOST, server.port)}))
    return f"https://{NAME}", through(proxy.url)


def hung_up(stack: ExitStack, folder: Path) -> tuple[str, Network]:
    issue(folder / "ca", [HOST], folder / "s.pem", folder / "s.key", now())
    server = stack.enter_context(TlsServer(folder / "s.pem"))
    return f"https://{HOST}:{server.port}", DIRECT


def expired(stack: ExitStack, folder: Path) -> tuple[str, Network]:
    moment = now() - timedelta(days=500)
    issue(folder / "ca", [HOST], folder / "s.pem", folder / "s.key", moment)
    server = stack.enter_context(TlsServer(folder / "s.pem"))
    return f"https://{HOST}:{server.port}", DIRECT


ROWS: list[tuple[str, Plant, str]] = [
    ("a name that nobody has", lambda *_: ("https://registry.invalid", DIRECT), "dns-failed"),
    ("a closed port", lambda *_: (f"https://{HOST}:{free_port()}", DIRECT), "tcp-refused"),
    ("no route", lambda *_: ("https://224.0.0.1", DIRECT), "tcp-unreachable"),
    ("silence after TCP", silent, "tls-failed"),
    ("no proxy there", gone, "proxy-unreachable"),
    ("a login is wanted", proxied(login=("anna", "pw")), "proxy-login"),
    ("forbidden", proxied(answer=status(403, "Forbidden")), "proxy-forbids"),
    ("no reason given", proxied(answer=status(403, "")), "proxy-forbids"),
    ("bad gateway", proxied(answer=status(502, "Bad Gateway")), "proxy-no-route"),
    ("unavailable", proxied(answer=status(503, "Service Unavailable")), "proxy-no-route"),
    ("no proxy at all", proxied(answer=b"220 mail ESMTP\r\n\r\n"), "no-answer"),
    ("TLS is inspected", inspected, "tls-intercepted"),
    ("an expired certificate", expired, "tls-expired"),
    ("it hangs up", hung_up, "no-answer"),
]


@pytest.mark.parametrize(
    ("plant", "code"), [pytest.param(plant, code, id=name) for name, plant, code in ROWS]
)
def test_the_layer_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plant: Plant, code: str
) -> None:
    monkeypatch.setattr("accord_common.api.http.ATTEMPTS", 1)
    if plant is silent:
        monkeypatch.setattr("accord_common.api.http.CONNECT_TIMEOUT_S", 0.5)
    create_ca(tmp_path / "ca", "Accord CA", now() - timedelta(days=600))
    with ExitStack() as stack:
        url, network = plant(stack, tmp_path)
        pem = (tmp_path / "ca" / "ca.pem").read_bytes()
        with RegistryClient(url, pem, "a-token", network=network) as client:
            with pytest.raises(TransportError) as failed:
                client.info()
    error = failed.value
    assert error.code == "registry-unreachable" and error.hint
    assert error.message.startswith(f"{url}: ") and error.message.endswith(f"[{code}]")


def test_the_first_contact_goes_through_the_proxy_too(tmp_path: Path) -> None:
    with ConnectProxy(answer=status(403, "Forbidden")) as proxy:
        with pytest.raises(TransportError, match="proxy-forbids"):
            fetch_ca(f"https://{NAME}", "ab" * 32, through(proxy.url), now())
        assert proxy.seen == [f"{NAME}:443"]


def test_a_login_at_the_proxy_reaches_nobody_else(tmp_path: Path) -> None:
    """And the registry's token no proxy: it sees a CONNECT, then bytes that it cannot read."""
    create_ca(tmp_path / "ca", "Accord CA", now())
    issue(tmp_path / "ca", [NAME], tmp_path / "s.pem", tmp_path / "s.key", now())
    with TlsServer(tmp_path / "s.pem") as server:
        names = {NAME: (HOST, server.port)}
        with ConnectProxy(login=("anna", "p:w"), names=names) as proxy:
            network = Network(parse_proxy(proxy.url.replace("//", "//anna:p%3Aw@"), "here"))
            pem = (tmp_path / "ca" / "ca.pem").read_bytes()
            with RegistryClient(f"https://{NAME}", pem, "a-token", network=network) as client:
                with pytest.raises(TransportError):
                    client.invite("auditor", "x")
        (head,) = server.heads
        assert "authorization: bearer a-token" in head and "proxy-" not in head
        (connect,) = proxy.heads
        assert "a-token" not in connect and "proxy-authorization: basic" in connect
