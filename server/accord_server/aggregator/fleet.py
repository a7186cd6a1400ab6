"""The `Transport` whose nodes are far away: what each may see, what each has answered, who is here.

Guarantees: a node pulls and answers only the one message that is outstanding for it; an answer
counts once all of its objects are here; whatever is superseded, answered or lost is freed at once;
nothing a node sends can raise into the engine; a node is present exactly while its line is open,
and one that comes back is let in at once.

Three threads meet here: the engine's, the listener's event loop, and its workers for large bodies.
"""

import queue
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Self

import structlog
from cryptography.hazmat.primitives.asymmetric import ec

from accord_common.errors import FormatError
from accord_common.parcel import Parcel, Tree, pack, pack_bulk, unpack
from accord_server.aggregator.listener import (
    ACTIVATE,
    PULL_MESSAGES,
    PULL_OBJECT,
    PUSH_MESSAGES,
    Headers,
    Line,
    Listener,
    Refusal,
)
from accord_server.aggregator.superlink import MALFORMED, SuperLink, expecting, stored
from accord_server.aggregator.transport import (
    Event,
    Incoming,
    Joined,
    Lost,
    Outgoing,
    check_outgoing,
)

log = structlog.get_logger(__name__)

_FRAME_OBJECTS = 5  # Message, RecordDict, ConfigRecord, ArrayRecord, Array; then the chunks


@dataclass(eq=False, slots=True)
class _Answer:
    tree: Tree
    session: str
    missing: set[str]


@dataclass(eq=False, slots=True)
class _Exchange:
    """The one message that is outstanding for a node, and what has come back."""

    party: str
    message_id: str
    objects: frozenset[str]
    answer: _Answer | None = None

    @property
    def complete(self) -> bool:
        return self.answer is not None and not self.answer.missing


class SuperLinkTransport:
    """See `Transport`. Mounted on the listener from construction to `close`."""

    def __init__(
        self,
        listener: Listener,
        roster: Mapping[str, ec.EllipticCurvePublicKey],
        *,
        max_reply_chunks: int = 64,
    ) -> None:
        """Open a Flower run with the roster registered, and let its nodes in.

        Args:
            listener: the port, which serves one transport at a time.
            roster: party id -> the P-384 key its node's delegation names.
            max_reply_chunks: the most bulk chunks, of 16 MiB each, that one answer may have.
        """
        self._listener = listener
        self._max_objects = max_reply_chunks + _FRAME_OBJECTS
        self._lock = threading.RLock()
        self._events: queue.SimpleQueue[Event | _Exchange] = queue.SimpleQueue()
        self._exchanges: dict[str, _Exchange] = {}
        self._lines: dict[str, Line] = {}
        self._superlink = SuperLink(roster)
        self._roster = frozenset(roster)
        listener.mount(self)

    # The engine's side: see `Transport`.

    def connected(self) -> frozenset[str]:
        """See `Transport`."""
        with self._lock:
            return frozenset(self._lines)

    def send(self, messages: Sequence[Outgoing]) -> None:
        """See `Transport`."""
        for message in messages:
            check_outgoing(message, self._roster)
        shared: dict[int, Parcel | None] = {}
        for message in messages:
            if id(message.bulk) not in shared:
                shared[id(message.bulk)] = pack_bulk(message.bulk)
            parcel = pack(message.header, shared[id(message.bulk)])
            self._send(message.party, parcel)

    def receive(self, timeout_s: float) -> Event | None:
        """See `Transport`."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                event = self._events.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return None
            if not isinstance(event, _Exchange):
                return event
            if (incoming := self._take(event)) is not None:
                return incoming

    def close(self) -> None:
        """See `Transport`. The listener may then serve another run."""
        self._listener.unmount()
        with self._lock:
            for line in self._lines.values():
                line.end()
            self._lines.clear()
            self._exchanges.clear()
            self._superlink.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, party: str, parcel: Parcel) -> None:
        with self._lock:
            self._forget(party)
            line = self._lines.get(party)
            if line is None:
                self._events.put(Lost(party, "not connected"))
                return
            tree = self._superlink.post(party, parcel)
            self._exchanges[party] = _Exchange(party, tree.object_id, frozenset(tree.ids()))
        line.wake()

    def _take(self, exchange: _Exchange) -> Incoming | None:
        """Open a complete answer and free it; None where it was superseded or is malformed."""
        with self._lock:
            if self._exchanges.get(exchange.party) is not exchange or exchange.answer is None:
                return None
            party = exchange.party
            try:
                content = exchange.answer.tree.children[0]
                return Incoming(party, *unpack(content, self._superlink.content))
            except FormatError as error:
                log.warning(error.code, party=party, detail=error.message)
                return None
            finally:
                self._forget(exchange.party)

    def _forget(self, party: str) -> None:
        exchange = self._exchanges.pop(party, None)
        if exchange is not None:
            answer = exchange.answer
            self._superlink.free(exchange.message_id, answer.tree.object_id if answer else None)

    # The listener's side: see `Application`.

    def identify(self, headers: Headers) -> str:
        """See `Application`."""
        return self._superlink.identify(headers)

    def answer(self, party: str, path: str, body: bytes) -> Sequence[bytes]:
        """See `Application`."""
        try:
            if path == ACTIVATE:
                return self._activate(party, body)
            if path == PULL_MESSAGES:
                return self._superlink.pull_messages(party, body)
            if path == PULL_OBJECT:
                return self._pull_object(party, body)
            if path == PUSH_MESSAGES:
                return self._push_messages(party, body)
            return self._push_object(party, body)
        except MALFORMED as error:
            raise Refusal(HTTPStatus.BAD_REQUEST, "request-malformed", str(error)) from error

    def opened(self, party: str, line: Line, body: bytes) -> None:
        """See `Application`."""
        self._superlink.check_line(party, body)
        with self._lock:
            self._drop(party, "replaced by a new connection")
            self._lines[party] = line
            self._superlink.keep_alive([party])
            self._events.put(Joined(party))

    def closed(self, party: str, line: Line) -> None:
        """See `Application`."""
        with self._lock:
            if self._lines.get(party) is line:
                self._drop(party, "connection closed")

    def tick(self) -> None:
        """See `Application`."""
        with self._lock:
            self._superlink.keep_alive(self._lines)

    def _drop(self, party: str, reason: str) -> None:
        line = self._lines.pop(party, None)
        if line is None:
            return
        line.end()
        exchange = self._exchanges.get(party)
        if exchange is not None and not exchange.complete:
            self._forget(party)
        self._superlink.leave(party)
        self._events.put(Lost(party, reason))

    def _activate(self, party: str, body: bytes) -> Sequence[bytes]:
        with self._lock:
            self._drop(party, "replaced by a new connection")
            return self._superlink.activate(party, body)

    def _pull_object(self, party: str, body: bytes) -> Sequence[bytes]:
        exchange = self._exchanges.get(party)
        allowed = exchange.objects if exchange is not None else frozenset()
        return self._superlink.pull_object(party, body, allowed)

    def _push_messages(self, party: str, body: bytes) -> Sequence[bytes]:
        reply = self._superlink.read_reply(party, body, self._max_objects)
        with self._lock:
            exchange = self._exchanges.get(party)
            if exchange is None or reply.answers != exchange.message_id:
                raise Refusal(HTTPStatus.CONFLICT, "reply-not-wanted")
            if exchange.answer is not None:
                raise Refusal(HTTPStatus.CONFLICT, "reply-twice")
            if reply.error is not None:
                self._forget(party)
                self._events.put(Lost(party, f"Flower error {reply.error}"))
                return expecting("", [])
            session, missing = self._superlink.expect(reply)
            exchange.answer = _Answer(reply.tree, session, set(missing))
        return expecting(session, missing)

    def _push_object(self, party: str, body: bytes) -> Sequence[bytes]:
        request = self._superlink.read_object(party, body)
        exchange = self._exchanges.get(party)
        answer = exchange.answer if exchange is not None else None
        if exchange is None or answer is None or request.session_id != answer.session:
            raise Refusal(HTTPStatus.CONFLICT, "reply-not-wanted")
        if request.object_id not in answer.missing:
            raise Refusal(HTTPStatus.CONFLICT, "object-not-wanted")
        self._superlink.keep_object(request)  # hashes it, so outside the lock
        with self._lock:
            answer.missing.discard(request.object_id)
            if not answer.missing:
                self._events.put(exchange)
        return stored()
