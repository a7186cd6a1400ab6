"""A node's link to the aggregator: Flower's Fleet API over a pinned TLS connection.

Guarantees: nothing is sent before the server has shown a certificate that the given authority
signed and whose public key is the one the run's manifest names; every request is signed with the
node's P-384 key; only outbound connections; nothing here ends the process, as Flower's own
connection does in four places.

One thread holds the line open for the node's whole life, also while the node trains: the
aggregator reads the node's presence from it and writes a byte when a message waits. When the line
breaks, the link connects again by itself, with exponential backoff and jitter, and what was not
answered is void. Integrity of bulk is the protocol's to check, not the link's.

This is the client's only import of flwr.
"""

import os
import tempfile

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"
os.environ.setdefault(
    "FLWR_HOME", os.path.join(tempfile.gettempdir(), f"accord-flwr-{os.getuid()}")
)

import http.client
import logging
import random
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Self, TypeVar

import structlog
from flwr.app.message import Message as FlowerMessage
from flwr.app.message import RecordDict
from flwr.app.message.message import make_message
from flwr.app.metadata import Metadata
from flwr.common.constant import HEARTBEAT_DEFAULT_INTERVAL, SUPERLINK_NODE_ID, TIMESTAMP_HEADER
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.common.serde_utils import metadata_to_proto
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    ActivateNodeResponse,
    PullMessagesRequest,
    PullMessagesResponse,
    PushMessagesRequest,
    PushMessagesResponse,
)
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.proto.message_pb2 import (
    ObjectTree,
    PullObjectRequest,
    PullObjectResponse,
    PushObjectRequest,
)
from flwr.proto.node_pb2 import Node
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER, FLEET_HTTP_SIGNATURE_HEADER
from flwr.supercore.primitives.asymmetric import public_key_to_bytes, sign_message
from google.protobuf.message import DecodeError
from google.protobuf.message import Message as Proto

from accord_client.wire import Endpoint, Wire, client_context, unreachable
from accord_common.errors import FormatError, TransportError, UsageError
from accord_common.identity import FlowerKey
from accord_common.parcel import (
    Parcel,
    Tree,
    bytes_field,
    pack,
    pack_bulk,
    unpack,
)

logging.getLogger("flwr").handlers.clear()
logging.getLogger("flwr").propagate = False
logging.getLogger("flwr").setLevel(logging.CRITICAL + 1)

log = structlog.get_logger(__name__)

_LINE = "/v1/accord/line"
_WAKE, _END = b"w", b"e"
_SILENCE_S = 15.0  # the aggregator writes into the line every 5 s
_IDLE_S = 30.0  # the aggregator closes a silent connection after 60 s
_CLOSE_S = 2.0  # a TCP connect that nobody answers cannot be cut; its thread ends by itself
_FIRST_DELAY_S, _MOST_DELAY_S = 0.1, 5.0
_MOVED_ON = frozenset({"message-superseded", "reply-not-wanted", "reply-twice"})

ResponseT = TypeVar("ResponseT", bound=Proto)


@dataclass(frozen=True, slots=True)
class Message:
    """What the aggregator sends: a header, and bulk chunks in order."""

    header: bytes
    bulk: tuple[bytes, ...] = ()


class FleetLink:
    """See the module. One thread receives and replies; any thread may close."""

    def __init__(
        self, endpoint: Endpoint, key: FlowerKey, *, unreachable_after_s: float = 120.0
    ) -> None:
        """Start connecting; `receive` says how it went.

        Args:
            endpoint: the aggregator.
            key: the P-384 key that the node's delegation names.
            unreachable_after_s: how long `receive` waits for a connection without complaint.
        """
        self._endpoint = endpoint
        self._signer = _Signer(key)
        self._tls = client_context(endpoint.ca_pem)
        self._unreachable_after_s = unreachable_after_s
        self._down_since = time.monotonic()
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._attempt: _Session | None = None
        self._session: _Session | None = None
        self._error: TransportError | None = None
        self._received: tuple[_Session, FlowerMessage] | None = None
        self._thread = threading.Thread(target=self._stay, name="fleet-line", daemon=True)
        self._thread.start()

    @property
    def connected(self) -> bool:
        """Whether the aggregator sees this node now."""
        return self._session is not None

    def receive(self, timeout_s: float) -> Message | None:
        """Return the next message as soon as it is there, or None after `timeout_s`.

        An error is raised once for each failed attempt to connect that a retry alone will not
        mend; the link goes on trying, and `receive` may be called again.

        Raises:
            TransportError: `aggregator-spki-mismatch`, `aggregator-certificate-refused`,
                `node-not-registered`, `node-clock-skew`, `node-signature-invalid`,
                `aggregator-unreachable` (down for longer than `unreachable_after_s`),
                `link-closed`.
        """
        deadline = time.monotonic() + timeout_s
        while (session := self._wait(deadline)) is not None:
            try:
                message = session.pull()
                if message is not None:
                    self._received = session, message[0]
                    return Message(*message[1])
            except FormatError as error:
                log.warning(error.code, detail=error.message)
            except TransportError as error:
                session.give_up(error)
        return None

    def reply(self, header: bytes, bulk: Sequence[bytes] = ()) -> None:
        """Answer the message received last; returns when the aggregator has all of it.

        Raises:
            UsageError: `nothing-to-answer`, `header-too-large`, `chunk-size`, `bulk-too-large`.
            TransportError: `reply-not-wanted` (the aggregator has moved on, or the connection broke
                since), `aggregator-unreachable`.
        """
        if self._received is None:
            raise UsageError("nothing-to-answer", "no message is waiting for a reply")
        parcel = pack(header, pack_bulk(bulk))
        session, message = self._received
        self._received = None
        if session is not self._session:
            raise TransportError("reply-not-wanted", "the connection has been replaced")
        try:
            session.push(message, parcel)
        except TransportError as error:
            session.give_up(error)
            raise

    def close(self) -> None:
        """Hang up. The aggregator learns it at once."""
        self._closing.set()
        with self._changed:
            attempt = self._attempt
            self._changed.notify_all()
        if attempt is not None:
            attempt.close()
        self._thread.join(_CLOSE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _wait(self, deadline: float) -> "_Session | None":
        """Return the session in which a message waits, or None when the time is over."""
        with self._changed:
            self._changed.wait_for(self._has_news, max(0.0, deadline - time.monotonic()))
            if self._closing.is_set():
                raise TransportError("link-closed", "the link was closed")
            error, self._error = self._error, None
            if error is not None:
                raise error
            session = self._session
            if session is None:
                down_s = time.monotonic() - self._down_since
                if down_s > self._unreachable_after_s:
                    where = f"{self._endpoint.host}:{self._endpoint.port}"
                    raise TransportError(
                        "aggregator-unreachable",
                        f"{where} has not answered for {down_s:.0f} s",
                        hint="The node goes on trying; is the aggregator running?",
                    )
            elif session.waiting:
                session.waiting = False
                return session
            return None

    def _has_news(self) -> bool:
        session = self._session
        waits = session is not None and session.waiting
        return waits or self._error is not None or self._closing.is_set()

    def _stay(self) -> None:
        """Keep a line open until the link is closed."""
        delay_s = _FIRST_DELAY_S
        while not self._closing.is_set():
            began = time.monotonic()
            try:
                self._hold_line()
            except TransportError as error:
                if error.code not in ("aggregator-unreachable", "no-run"):
                    with self._changed:
                        self._error = error
                        self._changed.notify_all()
            if time.monotonic() - began > _MOST_DELAY_S:  # it held: this is a new failure
                delay_s = _FIRST_DELAY_S
            self._closing.wait(delay_s * random.uniform(0.5, 1.5))
            delay_s = min(2 * delay_s, _MOST_DELAY_S)

    def _hold_line(self) -> None:
        """Connect, let `receive` know, and read the line until it ends."""
        session = _Session(
            lambda: Wire(self._endpoint, self._tls, self._signer.headers), self._signer.public_key
        )
        try:
            with self._changed:
                self._attempt = session
                if self._closing.is_set():
                    return
            session.open()
            with self._changed:
                self._session = session
            log.info("aggregator-connected", host=self._endpoint.host, port=self._endpoint.port)
            while (frame := session.next_frame()) not in (b"", _END):
                if frame == _WAKE:
                    with self._changed:
                        session.waiting = True
                        self._changed.notify_all()
        finally:
            with self._changed:
                if self._session is session:
                    self._session = None
                    self._down_since = time.monotonic()
            session.dispose()
        log.info("aggregator-hung-up", host=self._endpoint.host, port=self._endpoint.port)


class _Session:
    """One activation at the aggregator: a line, and a connection for calls."""

    def __init__(self, new_wire: Callable[[], Wire], public_key: bytes) -> None:
        self.waiting = False
        self._new_wire = new_wire
        self._public_key = public_key
        self._closed = False
        self._using = threading.Lock()
        self._line: Wire | None = None
        self._frames: http.client.HTTPResponse | None = None
        self._calls: Wire | None = None
        self._node = Node()

    def open(self) -> None:
        line = self._line = self._new_wire()
        self._connect(line)
        request = ActivateNodeRequest(
            public_key=self._public_key, heartbeat_interval=HEARTBEAT_DEFAULT_INTERVAL
        )
        activated = _call(line, "/v1/fleet/activate-node", request, ActivateNodeResponse)
        self._node = Node(node_id=activated.node_id)
        self._frames = line.post(_LINE, [PullMessagesRequest(node=self._node).SerializeToString()])
        line.set_timeout(_SILENCE_S)
        self.next_frame()

    def next_frame(self) -> bytes:
        assert self._frames is not None
        with unreachable():
            return self._frames.read(1)

    def pull(self) -> tuple[FlowerMessage, tuple[bytes, tuple[bytes, ...]]] | None:
        with self._using:
            return self._pull(self._wire())

    def push(self, message: FlowerMessage, parcel: Parcel) -> None:
        with self._using:
            self._push(self._wire(), message, parcel)

    def _pull(self, wire: Wire) -> tuple[FlowerMessage, tuple[bytes, tuple[bytes, ...]]] | None:
        request = PullMessagesRequest(node=self._node)
        response = _call(wire, "/v1/fleet/pull-messages", request, PullMessagesResponse)
        if not response.messages_list or not response.message_object_trees:
            return None
        try:
            message = message_from_proto(response.messages_list[0])
        except ValueError as error:
            raise FormatError("message-malformed", str(error)) from error
        tree = Tree.like(response.message_object_trees[0])
        run_id = message.metadata.run_id
        if len(tree.children) != 1:
            raise FormatError("parcel-malformed", "the message holds no RecordDict")

        def fetch(object_id: str) -> bytes:
            request = PullObjectRequest(node=self._node, run_id=run_id, object_id=object_id)
            found = _call(wire, "/v1/fleet/pull-object", request, PullObjectResponse)
            return found.object_content

        return message, unpack(tree.children[0], fetch)

    def _push(self, wire: Wire, message: FlowerMessage, parcel: Parcel) -> None:
        empty = make_message(_reply_metadata(message), RecordDict())
        proto = ProtoMessage(metadata=metadata_to_proto(empty.metadata))
        parcel = parcel.within("Message", proto.SerializeToString(deterministic=True))
        proto = message_to_proto(empty)
        proto.metadata.message_id = parcel.tree.object_id
        request = PushMessagesRequest(
            node=self._node,
            messages_list=[proto],
            message_object_trees=[_to_proto(parcel.tree)],
            clientapp_runtime_list=[0.0],
        )
        response = _call(wire, "/v1/fleet/push-messages", request, PushMessagesResponse)
        for object_id in response.objects_to_push:
            content = parcel.contents.get(object_id)
            if content is None:
                raise TransportError("aggregator-answer-invalid", f"it wants {object_id}")
            fields = PushObjectRequest(
                node=self._node,
                run_id=message.metadata.run_id,
                object_id=object_id,
                session_id=response.session_id,
            )
            # Protobuf's wire form concatenates: the content goes out without a copy.
            head = bytes_field(PushObjectRequest.OBJECT_CONTENT_FIELD_NUMBER, len(content))
            pieces = [fields.SerializeToString() + head, content]
            wire.call("/v1/fleet/push-object", pieces)

    def give_up(self, error: TransportError) -> None:
        """After an error that leaves the connection in doubt, hang up; the link connects again."""
        if error.code not in _MOVED_ON:
            log.warning(error.code, detail=error.message)
            self.close()

    def close(self) -> None:
        """Hang up, from any thread: whoever reads or writes fails at once."""
        self._closed = True
        for wire in (self._line, self._calls):
            if wire is not None:
                wire.cut()

    def dispose(self) -> None:
        """Hang up and free both sockets, from the line's thread."""
        self.close()
        with self._using:
            for wire in (self._line, self._calls):
                if wire is not None:
                    wire.close()

    def _wire(self) -> Wire:
        if self._calls is None or self._calls.idle_s > _IDLE_S:
            if self._calls is not None:
                self._calls.close()
            self._calls = self._new_wire()
            self._connect(self._calls)
        return self._calls

    def _connect(self, wire: Wire) -> None:
        wire.connect()
        if self._closed:  # meanwhile
            raise TransportError("aggregator-unreachable", "the connection was closed here")


class _Signer:
    """Makes the headers that Flower's NodeAuth checks."""

    def __init__(self, key: FlowerKey) -> None:
        self._key = key.private
        self.public_key = public_key_to_bytes(key.private.public_key())

    def headers(self) -> dict[str, str]:
        timestamp = datetime.now(UTC).isoformat()
        signature = sign_message(self._key, timestamp.encode("ascii"))
        return {
            FLEET_HTTP_PUBLIC_KEY_HEADER: b64encode(self.public_key).decode("ascii"),
            TIMESTAMP_HEADER: timestamp,
            FLEET_HTTP_SIGNATURE_HEADER: b64encode(signature).decode("ascii"),
        }


def _call(wire: Wire, path: str, request: Proto, kind: type[ResponseT]) -> ResponseT:
    body = wire.call(path, [request.SerializeToString()])
    try:
        response: ResponseT = kind.FromString(body)
    except DecodeError as error:
        raise TransportError("aggregator-answer-invalid", f"{path}: not protobuf") from error
    return response


def _reply_metadata(message: FlowerMessage) -> Metadata:
    asked = message.metadata
    now = time.time()
    metadata = Metadata(
        run_id=asked.run_id,
        message_id="",
        src_node_id=asked.dst_node_id,
        dst_node_id=SUPERLINK_NODE_ID,
        reply_to_message_id=asked.message_id,
        group_id=asked.group_id,
        created_at=now,
        ttl=asked.created_at + asked.ttl - now,
        message_type=asked.message_type,
    )
    metadata.delivered_at = ""
    return metadata


def _to_proto(tree: Tree) -> ObjectTree:
    return ObjectTree(object_id=tree.object_id, children=map(_to_proto, tree.children))
