"""The node's link through a proxy: the same pins inside, its refusals named, slow lines kept."""

import os
import ssl
import time
from dataclasses import replace
from pathlib import Path

import pytest

from accord_client.link import FleetLink
from accord_client.wire import Endpoint
from accord_common.errors import TransportError
from accord_common.identity import FlowerKey
from accord_common.network.route import Proxy, parse_proxy
from accord_server.aggregator.transport import Joined, Outgoing
from tests.fleet import HOST, Certificates, answer, site, until
from tests.proxies import ConnectProxy, Line, status

LOGIN = ("anna", "p:w")


def by(proxy: ConnectProxy, login: tuple[str, str] | None = LOGIN) -> Proxy:
    return replace(parse_proxy(proxy.url, "here"), login=login)


def trouble(endpoint: Endpoint) -> TransportError:
    """What a link says that stays unconnected."""
    with FleetLink(endpoint, FlowerKey.generate(), unreachable_after_s=0) as link:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                assert link.receive(0.05) is None
            except TransportError as error:
                if "no attempt has ended" not in error.message:
                    return error
    raise AssertionError("the link said nothing")


def test_a_round_trip_goes_through_the_proxy_and_nowhere_else(tmp_path: Path) -> None:
    with ConnectProxy(login=LOGIN) as proxy, site(tmp_path, ("a",)) as made:
        endpoint = replace(made.certificates.endpoint(made.listener.port), proxy=by(proxy))
        with FleetLink(endpoint, made.keys["a"]) as link:
            until(made.transport, lambda event: event == Joined("a"))
            made.transport.send([Outgoing("a", b"question", [bytes(1 << 20)])])
            message = link.receive(10)
            assert message is not None and len(message.bulk) == 1
            link.reply(b"reply")
            assert answer(made.transport).header == b"reply"
        assert proxy.seen == [f"{HOST}:{made.listener.port}"] * 2  # the line, and the calls


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (status(403, "Forbidden"), "proxy-forbids"),
        (status(502, "Bad Gateway"), "proxy-no-route"),
        (status(504, "Gateway Timeout"), "proxy-no-route"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "proxy-failed"),
        (b"", "proxy-failed"),
    ],
)
def test_what_a_proxy_answers_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: bytes, code: str
) -> None:
    monkeypatch.setattr("accord_common.network.dial.ANSWER_S", 0.5)
    endpoint = Certificates.make(tmp_path).endpoint(9)
    with ConnectProxy(answer=said) as proxy:
        error = trouble(replace(endpoint, proxy=by(proxy)))
    assert error.code == "aggregator-unreachable" and f"[{code}]" in error.message
    assert proxy.url in error.message


def test_a_login_that_is_missing_or_wrong_is_named_and_not_told(tmp_path: Path) -> None:
    endpoint = Certificates.make(tmp_path).endpoint(9)
    with ConnectProxy(login=("anna", "right")) as proxy:
        missing = trouble(replace(endpoint, proxy=by(proxy, None)))
        wrong = trouble(replace(endpoint, proxy=by(proxy, ("anna", "hidden"))))
    for error, words in ((missing, "wants a login"), (wrong, "refuses the login of anna")):
        assert "[proxy-login]" in error.message and words in error.message
        assert "hidden" not in str(error)
    assert proxy.seen == []


def test_a_proxy_that_is_not_there_is_named(tmp_path: Path) -> None:
    endpoint = Certificates.make(tmp_path).endpoint(9)
    with ConnectProxy() as proxy:
        gone = by(proxy)
    error = trouble(replace(endpoint, proxy=gone))
    assert "[proxy-unreachable]" in error.message and gone.address in error.message


@pytest.mark.parametrize("own_key", [True, False])
def test_pins_hold_through_the_proxy(tmp_path: Path, own_key: bool) -> None:
    """One that inspects TLS shows a certificate of its own; another server, another key."""
    genuine = Certificates.make(tmp_path / "genuine")
    inspecting = Certificates.make(tmp_path / "inspecting")
    with inspecting.listen() as listener:
        names = {HOST: (HOST, listener.port)}
        with ConnectProxy(names=names) as proxy:
            endpoint = replace(genuine.endpoint(9), proxy=by(proxy))
            if own_key:  # the authority is right, the key is not
                endpoint = replace(endpoint, ca_pem=(inspecting.folder / "ca.pem").read_bytes())
            with FleetLink(endpoint, FlowerKey.generate()) as link:
                with pytest.raises(TransportError) as refused:
                    link.receive(10)
    error = refused.value
    if own_key:
        assert error.code == "aggregator-spki-mismatch" and "[tls-key]" in error.message
    else:
        assert error.code == "aggregator-certificate-refused"
        assert "[tls-intercepted]" in error.message and "'authority'" in error.message


def test_a_link_can_be_closed_while_a_proxy_keeps_it_waiting(tmp_path: Path) -> None:
    with ConnectProxy(answer=b"") as proxy:
        endpoint = replace(Certificates.make(tmp_path).endpoint(9), proxy=by(proxy))
        link = FleetLink(endpoint, FlowerKey.generate())
        deadline = time.monotonic() + 10
        while not proxy.seen and time.monotonic() < deadline:
            time.sleep(0.01)
        assert proxy.seen
        began = time.monotonic()
        link.close()
        assert time.monotonic() - began < 1


def test_no_single_write_is_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its time limit is for all of it: 64 KiB take 2 s at 256 kbit/s, 8 MiB four minutes."""
    written: list[int] = []
    send = ssl.SSLSocket.send

    def noting(self: ssl.SSLSocket, data: memoryview, flags: int = 0) -> int:
        written.append(len(data))
        return send(self, data, flags)

    monkeypatch.setattr(ssl.SSLSocket, "send", noting)
    update = os.urandom(1 << 20)
    with site(tmp_path, ("a",)) as made, made.node("a") as link:
        made.transport.send([Outgoing("a", b"question")])
        assert link.receive(10) is not None
        link.reply(b"reply", [update])
        assert b"".join(answer(made.transport).bulk) == update
    assert sum(written) > len(update) and max(written) <= 64 << 10


@pytest.mark.soak(sample=0, full=1)
def test_a_slow_line_that_moves_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An update takes longer than a node waits for one byte to go, or the aggregator for one."""
    patience_s, rate = 5.0, 512 << 10
    monkeypatch.setattr("accord_client.wire._CALL_S", patience_s)
    monkeypatch.setattr("accord_server.aggregator.bodies._STALL_S", patience_s)
    update = os.urandom(int(1.5 * patience_s * rate))
    with ConnectProxy(line=Line(rate=rate, delay_s=0.02)) as proxy, site(tmp_path, ("a",)) as made:
        endpoint = replace(made.certificates.endpoint(made.listener.port), proxy=by(proxy))
        with FleetLink(endpoint, made.keys["a"]) as link:
            until(made.transport, lambda event: event == Joined("a"))
            made.transport.send([Outgoing("a", b"question")])
            assert link.receive(30) is not None
            began = time.monotonic()
            link.reply(b"reply", [update])
            assert time.monotonic() - began > patience_s
            assert b"".join(answer(made.transport).bulk) == update
