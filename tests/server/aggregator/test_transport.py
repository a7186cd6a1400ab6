import pytest

from accord_common.errors import UsageError
from accord_common.parcel import MAX_CHUNK_BYTES, MAX_HEADER_BYTES
from accord_server.aggregator.transport import Incoming, InProcessTransport, Joined, Lost, Outgoing

Content = tuple[bytes, tuple[bytes, ...]]


def echo(header: bytes, bulk: tuple[bytes, ...]) -> Content:
    return header.upper(), bulk


def joined(*parties: str) -> InProcessTransport:
    transport = InProcessTransport(dict.fromkeys(parties, echo))
    assert [transport.receive(0) for _ in parties] == [Joined(party) for party in parties]
    return transport


def test_every_party_answers_what_it_was_sent() -> None:
    transport = joined("a", "b")
    transport.send([Outgoing("a", b"x", (b"1", b"2")), Outgoing("b", b"y")])
    assert transport.receive(0) == Incoming("a", b"X", (b"1", b"2"))
    assert transport.receive(0) == Incoming("b", b"Y", ())
    assert transport.receive(0) is None


def test_an_answer_to_an_earlier_message_is_dropped() -> None:
    transport = joined("a", "b")
    transport.send([Outgoing("a", b"old"), Outgoing("b", b"kept")])
    transport.send([Outgoing("a", b"new")])
    assert [transport.receive(0), transport.receive(0)] == [
        Incoming("b", b"KEPT"),
        Incoming("a", b"NEW"),
    ]
    assert transport.receive(0) is None


def test_a_node_that_dies_over_a_message_is_lost_until_it_joins_again() -> None:
    def die(header: bytes, bulk: tuple[bytes, ...]) -> Content:
        raise ConnectionError("power cut")

    transport = joined("a", "b")
    transport.connect("b", die)
    transport.send([Outgoing("b", b"x")])
    assert [transport.receive(0), transport.receive(0)] == [Joined("b"), Lost("b", "power cut")]
    assert transport.connected() == {"a"}
    transport.send([Outgoing("b", b"x")])
    assert transport.receive(0) == Lost("b", "not connected")
    transport.connect("b", echo)
    transport.send([Outgoing("b", b"x")])
    assert [transport.receive(0), transport.receive(0)] == [Joined("b"), Incoming("b", b"X")]


def test_a_silent_node_gives_no_event() -> None:
    transport = joined("a")
    transport.connect("a", lambda header, bulk: None)
    transport.send([Outgoing("a", b"x")])
    assert transport.receive(0) == Joined("a")
    assert transport.receive(0.01) is None


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (Outgoing("z", b""), "unknown-party"),
        (Outgoing("a", bytes(MAX_HEADER_BYTES + 1)), "header-too-large"),
        (Outgoing("a", b"", (b"",)), "chunk-size"),
        (Outgoing("a", b"", (bytes(MAX_CHUNK_BYTES + 1),)), "chunk-size"),
        (Outgoing("a", b"", (b"x",) * 257), "bulk-too-large"),
    ],
)
def test_nothing_is_sent_when_one_message_is_refused(message: Outgoing, code: str) -> None:
    transport = joined("a", "b")
    with pytest.raises(UsageError) as refused:
        transport.send([Outgoing("b", b"fine"), message])
    assert refused.value.code == code
    assert transport.receive(0) is None
