"""Flower's SuperLink inside the aggregator: the `Transport` whose nodes are far away.

What is embedded is the SuperLink's state and handlers, in memory. Its HTTP application, with the
Control and Runtime APIs that ask nobody for a credential, is never created: nodes reach the
`Listener`, and the engine reaches the state by calls. Each Accord run has a Flower run and a state
of its own; a restarted aggregator opens a new one, registers the roster again, and nodes return.

Guarantees, beyond Flower's: a node is who its P-384 key says in every request, and pulls and
answers only the one message that is outstanding for it; an answer counts when all of its objects
are here; whatever is superseded, answered or lost is freed at once; nothing a node sends can
raise into the engine. A node whose line opens anew is let in at once, where stock Flower refuses
it for up to 60 s.

This is the server's only import of flwr.
"""

import os
import tempfile

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"
os.environ.setdefault(
    "FLWR_HOME", os.path.join(tempfile.gettempdir(), f"accord-flwr-{os.getuid()}")
)

import binascii
import logging
import queue
import secrets
import threading
import time
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from types import TracebackType
from typing import Self

import structlog
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app.message import RecordDict
from flwr.app.message.message import make_message
from flwr.app.metadata import Metadata
from flwr.common.constant import (
    HEARTBEAT_DEFAULT_INTERVAL,
    NOOP_ACCOUNT_NAME,
    NOOP_FLWR_AID,
    SUPERLINK_NODE_ID,
    SYSTEM_TIME_TOLERANCE,
    TIMESTAMP_HEADER,
    TIMESTAMP_TOLERANCE,
)
from flwr.common.serde import message_from_proto
from flwr.common.serde_utils import metadata_from_proto
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    PullMessagesRequest,
    PushMessagesRequest,
    PushMessagesResponse,
)
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.proto.message_pb2 import (
    Metadata as ProtoMetadata,
)
from flwr.proto.message_pb2 import (
    ObjectTree,
    PullObjectRequest,
    PullObjectResponse,
    PushObjectRequest,
    PushObjectResponse,
)
from flwr.server.superlink.linkstate import LinkState
from flwr.supercore.constant import (
    FLEET_HTTP_PUBLIC_KEY_HEADER,
    FLEET_HTTP_SIGNATURE_HEADER,
    FLWR_IN_MEMORY_DB_NAME,
    NOOP_FEDERATION_ID,
    TaskType,
)
from flwr.supercore.error import FlowerError
from flwr.supercore.primitives.asymmetric import public_key_to_bytes, verify_signature
from flwr.superlink.config_loader import get_objectstore_linkstate_factories
from flwr.superlink.federation import NoOpFederationManager
from flwr.superlink.servicer.fleet import fleet_handlers
from google.protobuf.message import DecodeError

from accord_common.errors import AccordError, FormatError, TransportError
from accord_common.parcel import Parcel, Tree, bytes_field, pack, pack_bulk, unpack
from accord_server.aggregator.listener import (
    ACTIVATE,
    PULL_MESSAGES,
    PULL_OBJECT,
    PUSH_MESSAGES,
    PUSH_OBJECT,
    Headers,
    Line,
    Listener,
    Refusal,
)
from accord_server.aggregator.transport import (
    Event,
    Incoming,
    Joined,
    Lost,
    Outgoing,
    check_outgoing,
)

logging.getLogger("flwr").handlers.clear()
logging.getLogger("flwr").propagate = False
logging.getLogger("flwr").setLevel(logging.CRITICAL + 1)

log = structlog.get_logger(__name__)

_TTL_S = 12 * 3600.0  # Flower's own; the stage deadlines of the manifest come first


@dataclass(eq=False, slots=True)
class _Reply:
    tree: Tree
    session: str
    missing: set[str]


@dataclass(eq=False, slots=True)
class _Exchange:
    """The one message that is outstanding for a node, and what has come back."""

    node: int
    message_id: str
    objects: frozenset[str]
    reply: _Reply | None = None


class SuperLinkTransport:
    """See `Transport`. Mounted on the listener from construction to `close`."""

    def __init__(
        self,
        listener: Listener,
        roster: Mapping[str, ec.EllipticCurvePublicKey],
        *,
        max_reply_chunks: int = 64,
    ) -> None:
        """Open a Flower run in a fresh state and register the roster.

        Args:
            listener: the port, which serves one transport at a time.
            roster: party id -> the P-384 key its node's delegation names.
            max_reply_chunks: the most bulk chunks, of 16 MiB each, that one answer may have.
        """
        self._listener = listener
        self._max_objects = max_reply_chunks + 6
        self._lock = threading.RLock()
        self._events: queue.SimpleQueue[Event | _Exchange] = queue.SimpleQueue()
        self._exchanges: dict[int, _Exchange] = {}
        self._lines: dict[int, Line] = {}
        self._state = _new_state()
        self._run_id, self._task_id = _start_run(self._state)
        self._nodes: dict[str, int] = {}
        self._keys: dict[int, ec.EllipticCurvePublicKey] = {}
        for party, key in roster.items():
            node = self._state.create_node(
                NOOP_FLWR_AID, NOOP_ACCOUNT_NAME, public_key_to_bytes(key), 0
            )
            self._nodes[party] = node
            self._keys[node] = key
        self._parties = {node: party for party, node in self._nodes.items()}
        listener.mount(self)

    # The engine's side: see `Transport`.

    def connected(self) -> frozenset[str]:
        """See `Transport`."""
        with self._lock:
            return frozenset(self._parties[node] for node in self._lines)

    def send(self, messages: Sequence[Outgoing]) -> None:
        """See `Transport`."""
        for message in messages:
            check_outgoing(message, self._nodes)
        shared: dict[int, Parcel | None] = {}
        for message in messages:
            if id(message.bulk) not in shared:
                shared[id(message.bulk)] = pack_bulk(message.bulk)
            self._send(self._nodes[message.party], message, shared[id(message.bulk)])

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
        self._state.stop_run(self._run_id)
        self._state.object_store.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _send(self, node: int, message: Outgoing, bulk: Parcel | None) -> None:
        parcel = pack(message.header, bulk)
        with self._lock:
            self._forget(node)
            line = self._lines.get(node)
            if line is None:
                self._events.put(Lost(message.party, "not connected"))
                return
            metadata, sent = _address(parcel, self._run_id, node)
            session = self._state.start_session(self._run_id)
            stored, missing = self._state.store_message_and_object_tree(
                make_message(metadata, RecordDict()),
                _to_proto(sent.tree),
                session,
            )
            if not stored or not all(
                self._state.store_object(self._run_id, session, object_id, sent.contents[object_id])
                for object_id in missing
            ):
                raise TransportError(
                    "flower-refused", f"Flower stores no message to {message.party}"
                )
            self._exchanges[node] = _Exchange(node, metadata.message_id, frozenset(sent.tree.ids()))
        line.wake()

    def _take(self, exchange: _Exchange) -> Incoming | None:
        """Open a complete answer and free it; None where it was superseded or is malformed."""
        with self._lock:
            if self._exchanges.get(exchange.node) is not exchange or exchange.reply is None:
                return None
            party = self._parties[exchange.node]
            try:
                return Incoming(party, *unpack(exchange.reply.tree.children[0], self._stored))
            except FormatError as error:
                log.warning(error.code, party=party, detail=error.message)
                return None
            finally:
                self._forget(exchange.node)

    def _stored(self, object_id: str) -> bytes:
        content = self._state.object_store.get(object_id)
        if not content:
            raise FormatError("parcel-malformed", f"object {object_id} is missing")
        return content

    def _forget(self, node: int) -> None:
        exchange = self._exchanges.pop(node, None)
        if exchange is None:
            return
        self._state.delete_messages({exchange.message_id})
        self._state.object_store.delete(exchange.message_id)
        if exchange.reply is not None:
            self._state.object_store.delete(exchange.reply.tree.object_id)

    # The listener's side: see `Application`.

    def identify(self, headers: Headers) -> int:
        """Check the headers as Flower's NodeAuthMiddleware does: key, timestamp, signature."""
        try:
            public_key = b64decode(headers[FLEET_HTTP_PUBLIC_KEY_HEADER.encode()], validate=True)
            signature = b64decode(headers[FLEET_HTTP_SIGNATURE_HEADER.encode()], validate=True)
            timestamp = headers[TIMESTAMP_HEADER.encode()]
            signed_at = datetime.fromisoformat(timestamp.decode("ascii"))
            age_s = (datetime.now(UTC) - signed_at).total_seconds()
        except (KeyError, ValueError, TypeError, binascii.Error) as error:
            raise Refusal(HTTPStatus.UNAUTHORIZED, "node-credential-malformed") from error
        node = self._state.get_node_id_by_public_key(public_key)
        if node is None:
            raise Refusal(HTTPStatus.UNAUTHORIZED, "node-not-registered")
        if not -SYSTEM_TIME_TOLERANCE < age_s < TIMESTAMP_TOLERANCE + SYSTEM_TIME_TOLERANCE:
            raise Refusal(HTTPStatus.UNAUTHORIZED, "node-clock-skew")
        if not verify_signature(self._keys[node], timestamp, signature):
            raise Refusal(HTTPStatus.UNAUTHORIZED, "node-signature-invalid")
        return node

    def answer(self, node: int, path: str, body: bytes) -> Sequence[bytes]:
        """See `Application`."""
        serve: Mapping[str, Callable[[int, bytes], Sequence[bytes]]] = {
            ACTIVATE: self._activate,
            PULL_MESSAGES: self._pull_messages,
            PULL_OBJECT: self._pull_object,
            PUSH_MESSAGES: self._push_messages,
            PUSH_OBJECT: self._push_object,
        }
        try:
            return serve[path](node, body)
        except (DecodeError, FlowerError, AccordError, ValueError) as error:
            log.debug("request-refused", party=self._parties[node], path=path, detail=str(error))
            raise Refusal(HTTPStatus.BAD_REQUEST, "request-malformed") from error

    def opened(self, node: int, line: Line, body: bytes) -> None:
        """See `Application`."""
        _same(PullMessagesRequest.FromString(body).node.node_id, node)
        with self._lock:
            self._drop(node, "replaced by a new connection")
            self._lines[node] = line
            self._state.acknowledge_node_heartbeat(node, HEARTBEAT_DEFAULT_INTERVAL)
            self._events.put(Joined(self._parties[node]))

    def closed(self, node: int, line: Line) -> None:
        """See `Application`."""
        with self._lock:
            if self._lines.get(node) is line:
                self._drop(node, "connection closed")

    def tick(self) -> None:
        """Keep the Flower run, and the nodes whose lines are open, from expiring."""
        self._state.acknowledge_task_heartbeat(self._task_id)
        with self._lock:
            for node in self._lines:
                self._state.acknowledge_node_heartbeat(node, HEARTBEAT_DEFAULT_INTERVAL)

    def _drop(self, node: int, reason: str) -> None:
        line = self._lines.pop(node, None)
        if line is None:
            return
        line.end()
        exchange = self._exchanges.get(node)
        if exchange is not None and (exchange.reply is None or exchange.reply.missing):
            self._forget(node)
        self._state.deactivate_node(node)
        self._events.put(Lost(self._parties[node], reason))

    def _activate(self, node: int, body: bytes) -> Sequence[bytes]:
        request = ActivateNodeRequest.FromString(body)
        if request.public_key != public_key_to_bytes(self._keys[node]):
            raise Refusal(HTTPStatus.UNAUTHORIZED, "node-key-differs")
        with self._lock:
            self._drop(node, "replaced by a new connection")
            self._state.deactivate_node(node)  # a node that died between activation and its line
            response = fleet_handlers.activate_node(request, self._state)
        return [response.SerializeToString()]

    def _pull_messages(self, node: int, body: bytes) -> Sequence[bytes]:
        request = PullMessagesRequest.FromString(body)
        _same(request.node.node_id, node)
        with self._lock:
            response = fleet_handlers.pull_messages(request, self._state, self._state.object_store)
        return [response.SerializeToString()]

    def _pull_object(self, node: int, body: bytes) -> Sequence[bytes]:
        request = PullObjectRequest.FromString(body)
        _same(request.node.node_id, node)
        exchange = self._exchanges.get(node)
        if exchange is None or request.object_id not in exchange.objects:
            raise Refusal(HTTPStatus.CONFLICT, "message-superseded")
        content = self._state.get_object(self._run_id, request.object_id)
        if not content:
            raise Refusal(HTTPStatus.CONFLICT, "message-superseded")
        # Protobuf's wire form concatenates: the content goes out without a copy.
        found = PullObjectResponse(object_found=True, object_available=True).SerializeToString()
        field = bytes_field(PullObjectResponse.OBJECT_CONTENT_FIELD_NUMBER, len(content))
        return [found + field, content]

    def _push_messages(self, node: int, body: bytes) -> Sequence[bytes]:
        request = PushMessagesRequest.FromString(body)
        _same(request.node.node_id, node)
        if len(request.messages_list) != 1 or len(request.message_object_trees) != 1:
            raise Refusal(HTTPStatus.BAD_REQUEST, "reply-malformed")
        message = message_from_proto(request.messages_list[0])
        tree = Tree.like(request.message_object_trees[0])
        metadata = message.metadata
        if metadata.run_id != self._run_id:
            raise Refusal(HTTPStatus.CONFLICT, "reply-for-another-run")
        if metadata.src_node_id != node:
            raise Refusal(HTTPStatus.UNAUTHORIZED, "reply-sender-differs")
        with self._lock:
            exchange = self._exchanges.get(node)
            if exchange is None or metadata.reply_to_message_id != exchange.message_id:
                raise Refusal(HTTPStatus.CONFLICT, "reply-not-wanted")
            if exchange.reply is not None:
                raise Refusal(HTTPStatus.CONFLICT, "reply-twice")
            if message.has_error():
                self._forget(node)
                self._events.put(Lost(self._parties[node], f"Flower error {message.error.code}"))
                return [PushMessagesResponse().SerializeToString()]
            ids = tree.ids()
            if (
                tree.object_id != metadata.message_id
                or tree.object_id in self._state.object_store
                or len(tree.children) != 1
                or len(ids) > self._max_objects
            ):
                raise Refusal(HTTPStatus.BAD_REQUEST, "reply-malformed")
            session = self._state.start_session(self._run_id)
            stored, missing = self._state.store_message_and_object_tree(
                message, request.message_object_trees[0], session
            )
            if not stored:
                raise Refusal(HTTPStatus.BAD_REQUEST, "reply-malformed")
            exchange.reply = _Reply(tree, session, set(missing))
        response = PushMessagesResponse(objects_to_push=missing, session_id=session)
        return [response.SerializeToString()]

    def _push_object(self, node: int, body: bytes) -> Sequence[bytes]:
        request = PushObjectRequest.FromString(body)
        _same(request.node.node_id, node)
        exchange = self._exchanges.get(node)
        reply = exchange.reply if exchange is not None else None
        if exchange is None or reply is None or request.session_id != reply.session:
            raise Refusal(HTTPStatus.CONFLICT, "reply-not-wanted")
        if request.object_id not in reply.missing:
            raise Refusal(HTTPStatus.CONFLICT, "object-not-wanted")
        stored = self._state.store_object(
            self._run_id, reply.session, request.object_id, request.object_content
        )
        if not stored:
            raise Refusal(HTTPStatus.BAD_REQUEST, "object-refused")
        with self._lock:
            reply.missing.discard(request.object_id)
            if not reply.missing:
                self._events.put(exchange)
        return [PushObjectResponse(stored=True).SerializeToString()]


def _new_state() -> LinkState:
    _, factory = get_objectstore_linkstate_factories(
        FLWR_IN_MEMORY_DB_NAME, NoOpFederationManager()
    )
    return factory.state()


def _start_run(state: LinkState) -> tuple[int, int]:
    """Open a Flower run whose server app is this process; return run and task id."""
    run_id = state.create_run(
        None, None, None, {}, NOOP_FEDERATION_ID, None, NOOP_FLWR_AID, TaskType.SERVER_APP
    )
    (run,) = state.get_run_info(run_ids=[run_id])
    task_id = run.primary_task_id
    if task_id is None or state.claim_task(task_id) is None or not state.activate_task(task_id):
        raise TransportError("flower-refused", "Flower opens no run")
    return run_id, task_id


def _address(parcel: Parcel, run_id: int, node: int) -> tuple[Metadata, Parcel]:
    """Put a parcel under a message to `node`, whose id no other node can guess."""
    proto = ProtoMetadata(
        run_id=run_id,
        src_node_id=SUPERLINK_NODE_ID,
        dst_node_id=node,
        group_id=secrets.token_hex(16),
        created_at=time.time(),
        ttl=_TTL_S,
        message_type="train",
    )
    message = parcel.within("Message", ProtoMessage(metadata=proto).SerializeToString())
    proto.message_id = message.tree.object_id
    metadata = metadata_from_proto(proto)
    metadata.delivered_at = ""
    return metadata, message


def _to_proto(tree: Tree) -> ObjectTree:
    return ObjectTree(object_id=tree.object_id, children=map(_to_proto, tree.children))


def _same(claimed: int, node: int) -> None:
    if claimed != node:
        raise Refusal(HTTPStatus.UNAUTHORIZED, "node-id-differs")
