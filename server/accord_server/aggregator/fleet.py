"""The `Transport` whose nodes are far away: what each may see, what each has answered, who is here.

Guarantees: a node pulls and answers only the one message that is outstanding for it; an answer
counts once all of its objects are here, and its bulk waits on the disk until the engine reads it;
whatever is superseded, answered or lost is freed at once; nothing a node sends can raise into the
engine; a node is present exactly while its line is open, and one that comes back is let in at once.
A full disk loses the node whose answer it cannot hold, and nobody else.

Three threads meet here: the engine's, the listener's event loop, and its workers for large bodies.
"""

import queue
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Self

import structlog
from cryptography.hazmat.primitives.asymmetric import ec

from accord_common.errors import FormatError
from accord_common.parcel import (
    MAX_HEADER_BYTES,
    MAX_OBJECT_BYTES,
    Content,
    Parcel,
    Tree,
    pack,
    pack_bulk,
    unpack,
)
from accord_server.aggregator.answers import Arriving, Shelf
from accord_server.aggregator.bodies import Headers, Piece, Refusal
from accord_server.aggregator.listener import (
    ACTIVATE,
    PULL_MESSAGES,
    PULL_OBJECT,
    PUSH_MESSAGES,
    Line,
    Listener,
)
from accord_server.aggregator.superlink import (
    MALFORMED,
    ClockSkew,
    Request,
    SuperLink,
    expecting,
    stored,
)
from accord_server.aggregator.transport import (
    NOT_CONNECTED,
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
    shelf: Shelf
    begun: set[str] = field(default_factory=set)


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
        folder: Path,
        *,
        max_reply_chunks: int = 2,
        max_reply_bytes: int = 2 * MAX_OBJECT_BYTES,
    ) -> None:
        """Open a Flower run with the roster registered, and let its nodes in.

        Args:
            listener: the port, which serves one transport at a time.
            roster: party id -> the P-384 key its node's delegation names.
            folder: where answers wait, in files without names; as large as all of them together.
            max_reply_chunks: the most bulk chunks that one answer may have.
            max_reply_bytes: the most bytes that they may have together.
        """
        self._listener = listener
        self._folder = folder
        self._max_objects = max_reply_chunks + _FRAME_OBJECTS
        self._room = max_reply_bytes + 2 * MAX_HEADER_BYTES  # and what else may be large
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
        shared = {id(message.bulk): message.bulk for message in messages}
        packed = {key: pack_bulk(bulk) for key, bulk in shared.items()}
        for message in messages:
            self._send(message.party, pack(message.header, packed[id(message.bulk)]))

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
            for exchange in self._exchanges.values():
                if exchange.answer is not None:
                    exchange.answer.shelf.drop()  # uploads under way end with the run
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
                self._events.put(Lost(party, NOT_CONNECTED))
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
            except Exception:  # nothing that one node sends may end the process
                log.exception("answer-unreadable", party=party)
                return None
            finally:
                self._forget(exchange.party)

    def _forget(self, party: str) -> None:
        exchange = self._exchanges.pop(party, None)
        if exchange is not None:
            answer = exchange.answer
            if answer is not None and answer.missing:
                answer.shelf.drop()
            self._superlink.free(exchange.message_id, answer.tree.object_id if answer else None)

    # The listener's side: see `Application`.

    def identify(self, headers: Headers) -> str:
        """See `Application`. That a node cannot come in for its clock is the engine's to know."""
        try:
            return self._superlink.identify(headers)
        except ClockSkew as skew:
            with self._lock:
                if skew.party not in self._lines:
                    self._events.put(Lost(skew.party, skew.detail))
            raise

    def answer(self, party: str, path: str, body: bytes) -> Sequence[Piece]:
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

    def upload(self, party: str, start: bytes, length: int) -> "_Upload":
        """See `Application`."""
        try:
            request, here = self._superlink.read_upload(party, start, length)
        except MALFORMED as error:
            raise Refusal(HTTPStatus.BAD_REQUEST, "request-malformed", str(error)) from error
        with self._lock:
            _, answer = self._wanted(party, request)
            if request.object_id in answer.begun:  # an honest node starts anew, with a new line
                raise Refusal(HTTPStatus.CONFLICT, "object-not-wanted")
            answer.begun.add(request.object_id)
            size = length - len(start) + len(here)
            upload = _Upload(self, party, request, Arriving(answer.shelf, request.object_id, size))
        upload.write([here])
        return upload

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

    def _pull_object(self, party: str, body: bytes) -> Sequence[Piece]:
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
            shelf = Shelf(self._folder, self._room)
            exchange.answer = _Answer(reply.tree, session, set(missing), shelf)
        return expecting(session, missing)

    def _push_object(self, party: str, body: bytes) -> Sequence[bytes]:
        request = self._superlink.read_object(party, body)
        with self._lock:
            _, answer = self._wanted(party, request)
            answer.shelf.take(len(body))
        return self.keep(party, request, request.object_content)

    def keep(self, party: str, request: Request, content: Content | bytes) -> Sequence[bytes]:
        """Take an object that has come whole; with the last one the answer counts."""
        exchange, answer = self._wanted(party, request)
        self._superlink.keep_object(request, content)  # may hash it, so outside the lock
        with self._lock:
            answer.missing.discard(request.object_id)
            if not answer.missing and self._exchanges.get(party) is exchange:
                self._events.put(exchange)
        return stored()

    def no_room(self, party: str, error: OSError) -> Refusal:
        """Lose a node whose answer the disk cannot hold; return what it is told."""
        log.error(
            "no-room-for-answer",
            party=party,
            why=error.strerror or str(error),
            folder=str(self._folder),
            hint="Make room where this aggregator's home lies; the node comes back by itself.",
        )
        with self._lock:
            self._drop(party, f"the aggregator's disk cannot hold its answer: {error.strerror}")
        return Refusal(HTTPStatus.INSUFFICIENT_STORAGE, "aggregator-disk-full")

    def _wanted(self, party: str, request: Request) -> tuple[_Exchange, _Answer]:
        """Find what an object belongs to; Refusal where it is not waited for."""
        exchange = self._exchanges.get(party)
        answer = exchange.answer if exchange is not None else None
        if exchange is None or answer is None or request.session_id != answer.session:
            raise Refusal(HTTPStatus.CONFLICT, "reply-not-wanted")
        if request.object_id not in answer.missing:
            raise Refusal(HTTPStatus.CONFLICT, "object-not-wanted")
        return exchange, answer


@dataclass(frozen=True, slots=True)
class _Upload:
    """See `bodies.Upload`: one large object on its way to its answer's shelf."""

    transport: SuperLinkTransport
    party: str
    request: Request
    arriving: Arriving

    def write(self, pieces: Sequence[bytes]) -> None:
        try:
            self.arriving.write(pieces)
        except OSError as error:
            raise self.transport.no_room(self.party, error) from error

    def finish(self) -> Sequence[Piece]:
        return self.transport.keep(self.party, self.request, self.arriving.finish())
