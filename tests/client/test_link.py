"""The node's link against servers that are not what they should be; test_superlink has the rest."""

import os
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from accord_client.link import FleetLink
from accord_client.wire import Endpoint, Wire
from accord_common.errors import FormatError, TransportError, UsageError
from accord_common.identity import FlowerKey
from accord_common.parcel import MAX_HEADER_BYTES
from accord_common.tls import trusting
from accord_server.aggregator.transport import Joined, Lost, Outgoing
from tests.fleet import HOST, Certificates, answer, echo, site, until


@contextmanager
def server(certificates: Certificates, serve: Callable[[ssl.SSLSocket], None]) -> Iterator[int]:
    """A TLS server on a free port that hands each connection to `serve`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    folder = certificates.folder
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    with socket.create_server((HOST, 0)) as listening:

        def accept() -> None:
            while True:
                try:
                    plain, _ = listening.accept()
                except OSError:
                    return
                try:
                    with context.wrap_socket(plain, server_side=True) as connection:
                        serve(connection)
                except OSError:
                    pass

        thread = threading.Thread(target=accept)
        thread.start()
        yield int(listening.getsockname()[1])
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


def failure(endpoint: Endpoint, key: FlowerKey | None = None) -> TransportError:
    with FleetLink(endpoint, key or FlowerKey.generate()) as link:
        with pytest.raises(TransportError) as failed:
            link.receive(10)
        assert not link.connected
        return failed.value


def test_nothing_is_sent_to_a_server_with_another_key(tmp_path: Path) -> None:
    certificates = Certificates.make(tmp_path)
    seen: list[bytes] = []
    with server(certificates, lambda connection: seen.append(connection.recv(1))) as port:
        genuine = certificates.endpoint(port)
        pinned = Endpoint(genuine.host, port, genuine.ca_pem, "0" * 64)
        assert failure(pinned).code == "aggregator-spki-mismatch"
    assert set(seen) == {b""}


def test_a_certificate_of_another_authority_is_refused(tmp_path: Path) -> None:
    certificates = Certificates.make(tmp_path / "one")
    other = Certificates.make(tmp_path / "other")
    seen: list[bytes] = []
    with server(certificates, lambda connection: seen.append(connection.recv(1))) as port:
        assert failure(other.endpoint(port)).code == "aggregator-certificate-refused"
    assert not any(seen)  # it is looked at once more, for its issuer; nothing is sent


def test_a_certificate_for_another_host_is_refused(tmp_path: Path) -> None:
    certificates = Certificates.make(tmp_path)
    with server(certificates, lambda connection: None) as port:
        genuine = certificates.endpoint(port)
        renamed = Endpoint("localhost", port, genuine.ca_pem, genuine.tls_spki)
        assert failure(renamed).code == "aggregator-certificate-refused"


def test_an_authority_that_is_no_certificate_is_refused() -> None:
    with pytest.raises(FormatError, match="bad-certificate"):
        FleetLink(Endpoint(HOST, 1, b"no PEM", "0" * 64), FlowerKey.generate())


def test_a_node_that_is_not_in_the_roster_learns_so_and_lives(tmp_path: Path) -> None:
    def stop(*_: object) -> None:
        raise AssertionError("the process was told to stop")

    before = signal.signal(signal.SIGINT, stop)  # Flower's own connection sends it to itself
    try:
        with site(tmp_path, ("a",)) as made:
            endpoint = made.certificates.endpoint(made.listener.port)
            assert failure(endpoint).code == "node-not-registered"
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_aggregator_that_is_not_there_is_waited_for_and_then_named(tmp_path: Path) -> None:
    certificates = Certificates.make(tmp_path)
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
    with FleetLink(certificates.endpoint(port), FlowerKey.generate()) as link:
        assert link.receive(0.2) is None
    with FleetLink(
        certificates.endpoint(port), FlowerKey.generate(), unreachable_after_s=0.1
    ) as link:
        with pytest.raises(TransportError) as failed:
            link.receive(0.3)
        assert failed.value.code == "aggregator-unreachable"


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n\xff\xff\xff",
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort",
        b"HTTP/1.1 302 Found\r\nlocation: https://elsewhere/\r\ncontent-length: 0\r\n\r\n",
        b'HTTP/1.1 500 No\r\ncontent-length: 30\r\n\r\n{"code": "<b>not a code</b>"}  ',
    ],
)
def test_a_server_that_talks_nonsense_ends_no_node(tmp_path: Path, said: bytes) -> None:
    certificates = Certificates.make(tmp_path)

    def serve(connection: ssl.SSLSocket) -> None:
        connection.recv(1 << 16)
        connection.sendall(said)

    with server(certificates, serve) as port:
        with FleetLink(certificates.endpoint(port), FlowerKey.generate()) as link:
            try:
                assert link.receive(0.5) is None
            except TransportError as error:
                assert error.code == "aggregator-answer-invalid"
            assert not link.connected


def test_a_connection_idles_from_its_request_not_from_a_slow_answer(tmp_path: Path) -> None:
    """The aggregator hangs up on an idle one; its clock starts when the answer leaves its hands."""
    certificates = Certificates.make(tmp_path)
    slow_s = 0.3

    def serve(connection: ssl.SSLSocket) -> None:
        connection.recv(1 << 16)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\na")
        threading.Event().wait(slow_s)
        connection.sendall(b"b")
        connection.recv(1)

    with server(certificates, serve) as port:
        endpoint = certificates.endpoint(port)
        wire = Wire(endpoint, trusting(endpoint.ca_pem), dict)
        wire.connect()
        assert wire.call("/", [b""]) == b"ab"
        assert wire.idle_s >= slow_s
        wire.close()


def test_an_answer_that_is_cut_off_is_no_answer(tmp_path: Path) -> None:
    certificates = Certificates.make(tmp_path)

    def serve(connection: ssl.SSLSocket) -> None:
        connection.recv(1 << 16)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort")

    with server(certificates, serve) as port:
        endpoint = certificates.endpoint(port)
        wire = Wire(endpoint, trusting(endpoint.ca_pem), dict)
        wire.connect()
        with pytest.raises(TransportError, match="5 of 9 bytes came"):
            wire.call("/", [b""])
        wire.close()


def test_a_link_can_be_closed_while_a_server_keeps_it_waiting(tmp_path: Path) -> None:
    certificates = Certificates.make(tmp_path)
    with socket.create_server((HOST, 0)) as silent:  # accepts, and never says a word
        link = FleetLink(certificates.endpoint(silent.getsockname()[1]), FlowerKey.generate())
        began = time.monotonic()
        link.close()
        assert time.monotonic() - began < 1
        with pytest.raises(TransportError, match="link-closed"):
            link.receive(1)


def test_closing_wakes_whoever_receives(tmp_path: Path) -> None:
    with site(tmp_path, ("a",)) as made, made.node("a") as a:
        timer = threading.Timer(0.1, a.close)
        timer.start()
        with pytest.raises(TransportError, match="link-closed"):
            a.receive(10)
        timer.join()


def test_a_reply_needs_a_message_and_may_be_tried_again(tmp_path: Path) -> None:
    with site(tmp_path, ("a",)) as made, made.node("a") as a:
        with pytest.raises(UsageError, match="nothing-to-answer"):
            a.reply(b"x")
        made.transport.send([Outgoing("a", b"question")])
        assert a.receive(10) is not None
        with pytest.raises(UsageError, match="header-too-large"):
            a.reply(bytes(MAX_HEADER_BYTES + 1))
        a.reply(b"shorter")
        assert answer(made.transport).header == b"shorter"


def test_the_key_is_checked_on_every_connection_of_a_link(tmp_path: Path) -> None:
    with site(tmp_path / "first", ("a",)) as made, made.node("a") as a:
        port = made.listener.port
        made.transport.send([Outgoing("a", b"x")])
        echo(a)
        made.transport.close()
        made.listener.close()
        impostor = Certificates.make(tmp_path / "first")  # the same place, other keys
        assert impostor.tls_spki != made.certificates.tls_spki
        with impostor.listen(port):
            with pytest.raises(TransportError) as failed:
                a.receive(10)
            assert failed.value.code == "aggregator-certificate-refused"


def test_a_line_that_falls_silent_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("accord_client.fleet._SILENCE_S", 0.3)
    monkeypatch.setattr("accord_server.aggregator.listener.ALIVE_S", 60.0)
    with site(tmp_path, ("a",)) as made, made.node("a"):
        until(made.transport, lambda event: event != Joined("a"))
        until(made.transport, lambda event: event == Joined("a"))


def test_a_node_may_leave_until_it_can_answer_again(tmp_path: Path) -> None:
    with site(tmp_path, ("a",)) as made, made.node("a") as link:
        link.leave()
        until(made.transport, lambda event: isinstance(event, Lost))
        link.reconnect()
        assert link.receive(0.3) is None  # no trouble: it wants to be away
        assert not (link.here or link.connected)
        link.come_back()
        until(made.transport, lambda event: event == Joined("a"))
        link.come_back()  # in the place of the one that is there
        until(made.transport, lambda event: isinstance(event, Lost))
        until(made.transport, lambda event: event == Joined("a"))


def test_flower_says_nothing_and_calls_nobody() -> None:
    assert os.environ["FLWR_TELEMETRY_ENABLED"] == "0"
    assert os.environ["FLWR_DISABLE_UPDATE_CHECK"] == "1"
    assert os.environ["FLWR_HOME"]
