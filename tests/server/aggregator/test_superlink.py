"""Messages over TLS between the aggregator's transport and real links."""

import gc
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from accord_common.errors import ConflictError, TransportError
from accord_common.parcel import MAX_CHUNK_BYTES
from accord_server.aggregator.fleet import SuperLinkTransport
from accord_server.aggregator.transport import Incoming, Joined, Lost, Outgoing
from tests.fleet import Certificates, Site, answer, echo, roster, site, until

BULK = (b"shared" * 1000, b"tail")


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path) as made:
        yield made


def held(transport: SuperLinkTransport) -> int:
    """How many objects the SuperLink holds."""
    return len(transport._superlink)


def test_three_nodes_answer_and_what_they_share_is_stored_once(here: Site) -> None:
    transport = here.transport
    with here.node("a") as a, here.node("b") as b, here.node("c") as c:
        assert transport.connected() == {"a", "b", "c"}
        transport.send([Outgoing(party, party.encode(), BULK) for party in "abc"])
        # Of their own: Message, RecordDict, ConfigRecord. Shared: ArrayRecord, Array, two chunks.
        assert held(transport) == 3 * 3 + 4
        for link in (a, b, c):
            echo(link)
        incoming = [answer(transport) for _ in range(3)]
        assert {event.party: event for event in incoming} == {
            party: Incoming(party, party.encode(), BULK) for party in "abc"
        }
        assert held(transport) == 0
        assert transport.receive(0.01) is None


def test_a_node_that_was_left_out_comes_back_by_connecting_again(here: Site) -> None:
    """To the aggregator the same as any node that hung up, so it is asked for keys again."""
    with here.node("a") as a:
        here.transport.send([Outgoing("a", b"before")])
        echo(a)
        assert answer(here.transport).header == b"before"
        a.reconnect()
        until(here.transport, lambda event: isinstance(event, Lost) and event.party == "a")
        until(here.transport, lambda event: event == Joined("a"))
        here.transport.send([Outgoing("a", b"again")])
        echo(a)
        assert answer(here.transport).header == b"again"


def test_a_chunk_of_full_size_goes_both_ways(here: Site) -> None:
    bulk = (bytes(range(256)) * (MAX_CHUNK_BYTES // 256), b"rest")
    with here.node("a") as a:
        here.transport.send([Outgoing("a", b"big", bulk)])
        echo(a)
        assert answer(here.transport) == Incoming("a", b"big", bulk)


def test_only_the_latest_message_is_delivered_and_answered(here: Site) -> None:
    with here.node("a") as a:
        here.transport.send([Outgoing("a", b"first")])
        first = a.receive(10)
        assert first is not None
        here.transport.send([Outgoing("a", b"second")])
        with pytest.raises(TransportError) as refused:
            a.reply(first.header)
        assert refused.value.code == "reply-not-wanted"
        echo(a)
        assert answer(here.transport).header == b"second"
        here.transport.send([Outgoing("a", b"third")])
        here.transport.send([Outgoing("a", b"fourth")])
        echo(a)
        assert answer(here.transport).header == b"fourth"
        assert held(here.transport) == 0


def test_an_answer_that_arrived_but_was_superseded_is_dropped(here: Site) -> None:
    with here.node("a") as a:
        here.transport.send([Outgoing("a", b"old")])
        echo(a)  # returns when the aggregator has all of it
        here.transport.send([Outgoing("a", b"new")])
        echo(a)
        assert answer(here.transport).header == b"new"


def test_sending_to_an_absent_party_reports_it_as_lost(here: Site) -> None:
    here.transport.send([Outgoing("b", b"anyone?")])
    assert here.transport.receive(1) == Lost("b", "not connected")


def test_a_closed_link_is_lost_at_once_and_what_it_owed_is_freed(here: Site) -> None:
    with here.node("a"):
        here.transport.send([Outgoing("a", b"work", BULK)])
        assert held(here.transport) > 0
    began = time.monotonic()
    assert until(here.transport, lambda event: True) == Lost("a", "connection closed")
    assert time.monotonic() - began < 1
    assert held(here.transport) == 0
    assert "a" not in here.transport.connected()


def test_an_answer_given_before_the_connection_broke_still_counts(here: Site) -> None:
    with here.node("a") as a:
        here.transport.send([Outgoing("a", b"work")])
        echo(a)
    assert answer(here.transport) == Incoming("a", b"work")
    until(here.transport, lambda event: isinstance(event, Lost))


def test_a_killed_node_is_lost_within_a_second_and_let_in_again_at_once(here: Site) -> None:
    process = here.process("a")
    try:
        until(here.transport, lambda event: event == Joined("a"))
        here.transport.send([Outgoing("a", b"alive?")])
        assert answer(here.transport).header == b"alive?"
    finally:
        process.kill()
        process.wait()
    began = time.monotonic()
    assert until(here.transport, lambda event: True) == Lost("a", "connection closed")
    assert time.monotonic() - began < 1
    with here.node("a") as a:  # Flower itself would refuse it for up to 60 s
        assert time.monotonic() - began < 3
        here.transport.send([Outgoing("a", b"again")])
        echo(a)
        assert answer(here.transport).header == b"again"


def test_a_link_that_is_told_to_connect_again_is_lost_and_joins(here: Site) -> None:
    with here.node("a") as a:
        a.reconnect()
        assert until(here.transport, lambda event: True) == Lost("a", "connection closed")
        assert until(here.transport, lambda event: True) == Joined("a")


def test_a_second_connection_with_the_same_key_replaces_the_first(here: Site) -> None:
    with here.node("a"), here.link("a"):
        lost = Lost("a", "replaced by a new connection")
        assert here.transport.receive(10) == lost
        assert until(here.transport, lambda event: event != lost) == Joined("a")


def test_one_run_after_another_on_one_port(tmp_path: Path) -> None:
    with site(tmp_path, ("a", "b")) as made, made.node("a") as a:
        with pytest.raises(ConflictError, match="run-active"):
            SuperLinkTransport(made.listener, {}, tmp_path)
        made.transport.send([Outgoing("a", b"of the first run")])
        stale = a.receive(10)
        assert stale is not None
        made.transport.close()
        with SuperLinkTransport(made.listener, roster(made.keys), tmp_path) as following:
            until(following, lambda event: event == Joined("a"))
            with pytest.raises(TransportError, match="reply-not-wanted"):
                a.reply(stale.header)
            following.send([Outgoing("a", b"of the second run")])
            echo(a)
            assert answer(following).header == b"of the second run"


def test_a_node_returns_by_itself_when_the_aggregator_restarts(tmp_path: Path) -> None:
    with site(tmp_path, ("a",)) as made, made.node("a") as a:
        port = made.listener.port
        made.transport.close()
        made.listener.close()
        assert a.receive(0.2) is None
        assert not a.connected
        with (
            made.certificates.listen(port) as listener,
            SuperLinkTransport(listener, roster(made.keys), tmp_path) as restarted,
        ):
            until(restarted, lambda event: event == Joined("a"))
            restarted.send([Outgoing("a", b"welcome back")])
            echo(a)
            assert answer(restarted).header == b"welcome back"


def test_a_port_in_use_and_a_bad_certificate_are_said_so(here: Site, tmp_path: Path) -> None:
    with pytest.raises(TransportError, match="address-in-use"):
        here.certificates.listen(here.listener.port)
    other = Certificates.make(tmp_path)
    (tmp_path / "key.pem").write_bytes(b"no key")
    with pytest.raises(TransportError, match="certificate-unusable"):
        other.listen()


@pytest.mark.soak(sample=200, full=2_000)
def test_memory_stays_flat_over_many_exchanges(here: Site, size: int) -> None:
    process = psutil.Process()
    chunk = bytes(200_000)

    def exchange(count: int) -> int:
        for number in range(count):
            header = number.to_bytes(4, "big")
            here.transport.send([Outgoing("a", header, (header + chunk,))])
            echo(a)
            assert answer(here.transport) == Incoming("a", header, (header + chunk,))
        gc.collect()
        return int(process.memory_info().rss)

    with here.node("a") as a:
        before = exchange(size // 4)
        after = exchange(size)
    assert held(here.transport) == 0
    assert after - before < 8 << 20  # one leaked chunk an exchange would be 40 MB
