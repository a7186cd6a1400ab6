"""One session with the aggregator: Flower's Fleet API over a pinned TLS connection.

Guarantees: nothing is sent before the server has shown a certificate that the given authority
signed and whose public key is the one the run's manifest names; every request carries the time,
signed with the node's P-384 key at most `_SIGNED_FOR_S` ago; only outbound connections; nothing
here ends the process, as Flower's own connection does in four places.

`link.py` opens sessions, one after another. Integrity of bulk is the protocol's to check.

This is the client's only import of flwr.
"""

import os
import tempfile

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"
if "FLWR_HOME" not in os.environ:  # flwr makes this folder when it is imported
    os.environ["FLWR_HOME"] = tempfile.mkdtemp(prefix="accord-flwr-")

import http.client
import logging
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TypeVar

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

from accord_client.wire import Wire, unreachable
from accord_common.bulk import Bulk
from accord_common.errors import FormatError, TransportError
from accord_common.identity import FlowerKey
from accord_common.parcel import Content, Parcel, Tree, bytes_field, unpack

logging.getLogger("flwr").handlers.clear()
logging.getLogger("flwr").propagate = False
logging.getLogger("flwr").setLevel(logging.CRITICAL + 1)

log = structlog.get_logger(__name__)

_LINE = "/v1/accord/line"
# The aggregator writes into the line every 5 s. At 256 kbit/s, beside an update that filled a queue
# of 1.5 MB, that came up to 16 s apart.
_SILENCE_S = 30.0
_IDLE_S = 30.0  # the aggregator closes a silent connection after 60 s
_SIGNED_FOR_S = 2.0  # Flower takes one for 300 s; a node makes some thirty requests a round
_MOVED_ON = frozenset({"message-superseded", "reply-not-wanted", "reply-twice"})

Asked = FlowerMessage  # what a reply answers; nobody else needs to look inside
ResponseT = TypeVar("ResponseT", bound=Proto)


class Session:
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
        """Connect, activate the node, and open the line; returns when the aggregator sees it."""
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
        """Wait for the line's next byte; empty where it ended."""
        assert self._frames is not None
        with unreachable():
            return self._frames.read(1)

    def pull(self) -> tuple[FlowerMessage, tuple[bytes, Bulk]] | None:
        """Fetch the message that waits: Flower's frame of it, then header and chunks."""
        with self._using:
            return self._pull(self._wire())

    def push(self, message: FlowerMessage, parcel: Parcel) -> None:
        """Answer `message`; returns when the aggregator has every object."""
        with self._using:
            self._push(self._wire(), message, parcel)

    def _pull(self, wire: Wire) -> tuple[FlowerMessage, tuple[bytes, Bulk]] | None:
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

        def fetch(object_id: str) -> Content:
            request = PullObjectRequest(node=self._node, run_id=run_id, object_id=object_id)
            found = _call(wire, "/v1/fleet/pull-object", request, PullObjectResponse)
            return Content.of(found.object_content)

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
            # Protobuf's wire form concatenates: the content goes out last, without a copy.
            field = bytes_field(PushObjectRequest.OBJECT_CONTENT_FIELD_NUMBER, len(content))
            before = fields.SerializeToString() + field + content.head
            wire.call("/v1/fleet/push-object", [before, content.body.load()])

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


class Signer:
    """Makes the headers that Flower's NodeAuth checks. Thread-safe: at worst one signs again.

    A signature covers the time and nothing else, so requests of the same moment share one: what a
    thief of headers could do, he can do with or without this. TLS keeps them from him.
    """

    def __init__(self, key: FlowerKey) -> None:
        self._key = key.private
        self.public_key = public_key_to_bytes(key.private.public_key())
        self._signed: tuple[float, dict[str, str]] | None = None

    def headers(self) -> Mapping[str, str]:
        """Return headers: key, time, and a signature of the time."""
        now = time.monotonic()
        if self._signed is None or now - self._signed[0] > _SIGNED_FOR_S:
            timestamp = datetime.now(UTC).isoformat()
            signature = sign_message(self._key, timestamp.encode("ascii"))
            self._signed = (
                now,
                {
                    FLEET_HTTP_PUBLIC_KEY_HEADER: b64encode(self.public_key).decode("ascii"),
                    TIMESTAMP_HEADER: timestamp,
                    FLEET_HTTP_SIGNATURE_HEADER: b64encode(signature).decode("ascii"),
                },
            )
        return self._signed[1]


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
