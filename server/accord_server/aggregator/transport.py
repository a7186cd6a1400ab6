"""What the round engine asks of a transport, and one that stays in the process.

Messages to and from nodes are a header (small, structured by the protocol) and bulk chunks (bytes).
A transport guarantees: at most one message a party is outstanding; an `Incoming` answers the
latest one sent to that party, exactly once; a party that was `Lost` answers nothing that was sent
before. It promises no delivery and no deadline: those belong to the engine.
"""

import threading
from collections import deque
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from accord_common.errors import UsageError
from accord_common.parcel import MAX_HEADER_BYTES, check_bulk


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message for one party; chunks are 1 B to 16 MiB, and those of many are one object.

    A `Bulk` is read as nodes fetch it, so its bytes must stay as they are until all have answered.
    """

    party: str
    header: bytes
    bulk: Sequence[bytes] = ()


@dataclass(frozen=True, slots=True)
class Incoming:
    """A party's answer to the latest message it was sent; a `Bulk` is read from the disk."""

    party: str
    header: bytes
    bulk: Sequence[bytes] = ()


NOT_CONNECTED = "not connected"  # what is lost by sending it to nobody


@dataclass(frozen=True, slots=True)
class Lost:
    """The party's connection is gone, and with it what it was working on."""

    party: str
    reason: str


@dataclass(frozen=True, slots=True)
class Joined:
    """The party's node connected, or connected again, and waits."""

    party: str


Event = Incoming | Lost | Joined


class Transport(Protocol):
    """The engine's side of the wire. One thread sends and receives."""

    def connected(self) -> frozenset[str]:
        """Return the parties whose node is connected now."""
        ...

    def send(self, messages: Sequence[Outgoing]) -> None:
        """Send, forgetting what each of these parties has not answered yet.

        A party that is not connected is reported as `Lost`. Raises UsageError `unknown-party`,
        `header-too-large`, `chunk-size` or `bulk-too-large`, and then nothing was sent.
        """
        ...

    def receive(self, timeout_s: float) -> Event | None:
        """Return the next event as soon as there is one, or None after `timeout_s`."""
        ...

    def close(self) -> None:
        """Let go of nodes and messages. Nothing is sent or received afterwards."""
        ...


Answer = Callable[[bytes, tuple[bytes, ...]], tuple[bytes, tuple[bytes, ...]] | None]
"""A node in a function: header and bulk in, header and bulk out, or None for no answer."""


class InProcessTransport:
    """Nodes that are functions, called while sending: for tests and dry runs.

    Deterministic: events come in the order of the calls. A function that raises ConnectionError is
    a node that dies over its message. `connect` and `disconnect` may come from another thread.
    """

    def __init__(self, nodes: Mapping[str, Answer]) -> None:
        self._nodes = dict(nodes)
        self._connected: set[str] = set()
        self._events: deque[Event] = deque()
        self._changed = threading.Condition()
        for party in sorted(self._nodes):
            self.connect(party)

    def connect(self, party: str, answer: Answer | None = None) -> None:
        """Let a party (re)join, answering with another function if one is given."""
        with self._changed:
            self._nodes[party] = answer or self._nodes[party]
            self._connected.add(party)
            self._put(Joined(party))

    def disconnect(self, party: str, reason: str = "connection closed") -> None:
        """Cut a party off; what it has answered already can still be received."""
        with self._changed:
            if party in self._connected:
                self._connected.remove(party)
                self._put(Lost(party, reason))

    def connected(self) -> frozenset[str]:
        """See `Transport`."""
        with self._changed:
            return frozenset(self._connected)

    def send(self, messages: Sequence[Outgoing]) -> None:
        """See `Transport`; every function has run when this returns."""
        for message in messages:
            check_outgoing(message, self._nodes)
        for message in messages:
            self._send(message)

    def _send(self, message: Outgoing) -> None:
        party = message.party
        with self._changed:
            stale = [e for e in self._events if isinstance(e, Incoming) and e.party == party]
            for event in stale:
                self._events.remove(event)
            if party not in self._connected:
                return self._put(Lost(party, NOT_CONNECTED))
        try:
            answer = self._nodes[party](message.header, tuple(message.bulk))
        except ConnectionError as error:
            return self.disconnect(party, str(error))
        if answer is not None:
            with self._changed:
                self._put(Incoming(party, *answer))

    def _put(self, event: Event) -> None:
        self._events.append(event)
        self._changed.notify()

    def receive(self, timeout_s: float) -> Event | None:
        """See `Transport`."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._events), timeout_s)
            return self._events.popleft() if self._events else None

    def close(self) -> None:
        """See `Transport`."""
        with self._changed:
            self._connected.clear()
            self._events.clear()


def check_outgoing(message: Outgoing, roster: Container[str]) -> None:
    """Refuse what no transport may send; `Transport.send` says with which codes."""
    if message.party not in roster:
        raise UsageError("unknown-party", f"{message.party} is not in the roster")
    if len(message.header) > MAX_HEADER_BYTES:
        raise UsageError("header-too-large", f"{len(message.header)} B > {MAX_HEADER_BYTES} B")
    check_bulk(message.bulk)
