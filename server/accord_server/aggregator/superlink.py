"""Flower's SuperLink inside the aggregator: its state and handlers, in memory, for one run.

Its HTTP application, with the Control and Runtime APIs that ask nobody for a credential, is never
created: nodes reach the `Listener`, the engine reaches the state by calls. Each Accord run has a
state of its own, so a restarted aggregator registers the roster again and nodes return.

Guarantees, beyond Flower's: a node is who its P-384 key says in every request; a request's body
names that same node; no node can guess another's message id; large objects stay where they are and
are not hashed again. Which messages a node may see and answer is `fleet`'s business.

This is the server's only import of flwr.
"""

import os
import tempfile

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"
if "FLWR_HOME" not in os.environ:  # flwr makes this folder when it is imported
    os.environ["FLWR_HOME"] = tempfile.mkdtemp(prefix="accord-flwr-")

import binascii
import logging
import secrets
import time
from base64 import b64decode
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import cast

from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app.message import Message, RecordDict
from flwr.app.message.message import make_message
from flwr.app.metadata import Metadata
from flwr.common.constant import (
    HEARTBEAT_DEFAULT_INTERVAL,
    NOOP_ACCOUNT_NAME,
    NOOP_FLWR_AID,
    SUPERLINK_NODE_ID,
    TIMESTAMP_HEADER,
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
from flwr.server.superlink.linkstate import InMemoryLinkState, LinkState
from flwr.supercore.constant import (
    FLEET_HTTP_PUBLIC_KEY_HEADER,
    FLEET_HTTP_SIGNATURE_HEADER,
    NOOP_FEDERATION_ID,
    TaskType,
)
from flwr.supercore.error import FlowerError
from flwr.supercore.inflatable.inflatable_object import is_valid_sha256_hash
from flwr.supercore.object_store.in_memory_object_store import InMemoryObjectStore
from flwr.supercore.object_store.object_store import NoObjectInStoreError
from flwr.supercore.primitives.asymmetric import public_key_to_bytes, verify_signature
from flwr.superlink.federation import NoOpFederationManager
from flwr.superlink.servicer.fleet import fleet_handlers
from google.protobuf.message import DecodeError

from accord_common.errors import FormatError, TransportError
from accord_common.fields import CLOCK_TOLERANCE_S
from accord_common.parcel import Content, Parcel, Tree, bytes_field, last_field
from accord_server.aggregator.bodies import Headers, Piece, Refusal

logging.getLogger("flwr").handlers.clear()
logging.getLogger("flwr").propagate = False
logging.getLogger("flwr").setLevel(logging.CRITICAL + 1)

Request = PushObjectRequest

_TTL_S = 12 * 3600.0  # Flower's own; the stage deadlines of the manifest come first

MALFORMED = (DecodeError, FlowerError, ValueError, FormatError)
"""What is raised over a request that makes no sense."""


class ClockSkew(Refusal):
    """A request that a party's key has signed, at a time that is not now."""

    def __init__(self, party: str, age_s: float) -> None:
        side = "behind" if age_s > 0 else "ahead of"
        told = f"its clock is {abs(age_s):.0f} s {side} the aggregator's"
        super().__init__(
            HTTPStatus.UNAUTHORIZED, "node-clock-skew", f"{told}, the bound is {CLOCK_TOLERANCE_S}"
        )
        self.party = party


class _Objects(InMemoryObjectStore):
    """Flower's store, which also takes a `Content`: hashed by whoever made it, read when needed."""

    def put(self, object_id: str, object_content: bytes) -> None:
        if isinstance(object_content, bytes):
            return super().put(object_id, object_content)
        with self.lock_store:
            entry = self.store.get(object_id)
            if entry is None:
                raise NoObjectInStoreError(object_id)
            if not entry.is_available:
                entry.content, entry.is_available = object_content, True

    def find(self, object_id: str) -> Content | None:
        """Return an object that is here, as a `Content` in any case."""
        found: bytes | Content | None = self.get(object_id)
        return Content.of(found) if isinstance(found, bytes) and found else found or None


class _State(InMemoryLinkState):
    """Flower's state, where an object may be as long under way as `fleet` waits for it.

    Flower gives each 180 s, and looks only when the object is whole: a slow line's is thrown away.
    """

    def store_object(
        self, run_id: int, session_id: str, object_id: str, object_content: bytes
    ) -> bool:
        with self._lock_object_push_sessions:
            session = self._object_push_sessions.get(session_id)
            if session is not None:
                session.expires_at = datetime.now(UTC) + timedelta(seconds=_TTL_S)
            return super().store_object(run_id, session_id, object_id, object_content)


@dataclass(frozen=True, slots=True)
class Reply:
    """A node's announcement of an answer; its objects come next.

    Attributes:
        answers: the id of the message it answers.
        tree: the ids of its objects, as the node claims them.
        error: Flower's error code, where the node answers with an error and no objects.
    """

    answers: str
    tree: Tree
    error: int | None
    message: Message
    proto_tree: ObjectTree


class SuperLink:
    """One Flower run in a fresh state, with the roster registered. Thread-safe, as the state is."""

    def __init__(self, roster: Mapping[str, ec.EllipticCurvePublicKey]) -> None:
        """Open the run. `roster`: party id -> the P-384 key its node's delegation names."""
        self._store = _Objects()
        self._state = _State(NoOpFederationManager(), self._store)
        self._run_id, self._task_id = _start_run(self._state)
        self._keys = dict(roster)
        self._nodes: dict[str, int] = {}
        for party, key in roster.items():
            public_key = public_key_to_bytes(key)
            node = self._state.create_node(NOOP_FLWR_AID, NOOP_ACCOUNT_NAME, public_key, 0)
            self._nodes[party] = node
        self._parties = {node: party for party, node in self._nodes.items()}
        self._signed: dict[str, tuple[bytes, bytes]] = {}  # the last one that held

    def close(self) -> None:
        """End the run and free what it holds."""
        self._state.stop_run(self._run_id)
        self._store.clear()

    def __len__(self) -> int:
        """Return how many objects are held."""
        return len(self._store)

    def identify(self, headers: Headers) -> str:
        """Return whose node signed; the checks are those of Flower's NodeAuthMiddleware.

        But for the time: Flower takes a clock that is 300 s behind, and none that is 10 s ahead.
        """
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
        party = self._parties[node]
        if self._signed.get(party) != (timestamp, signature):
            if not verify_signature(self._keys[party], timestamp, signature):
                raise Refusal(HTTPStatus.UNAUTHORIZED, "node-signature-invalid")
            self._signed[party] = timestamp, signature
        if abs(age_s) > CLOCK_TOLERANCE_S:
            raise ClockSkew(party, age_s)
        return party

    # Presence. Flower's own clock of 60 s never decides it.

    def activate(self, party: str, body: bytes) -> Sequence[bytes]:
        """Answer activate-node, also while Flower believes that the node is still there."""
        request = ActivateNodeRequest.FromString(body)
        if request.public_key != public_key_to_bytes(self._keys[party]):
            raise Refusal(HTTPStatus.UNAUTHORIZED, "node-key-differs")
        self._state.deactivate_node(self._nodes[party])
        return [fleet_handlers.activate_node(request, self._state).SerializeToString()]

    def leave(self, party: str) -> None:
        """Mark a party's node as gone."""
        self._state.deactivate_node(self._nodes[party])

    def keep_alive(self, parties: Iterable[str]) -> None:
        """Keep the run, and the nodes of these parties, from expiring."""
        self._state.acknowledge_task_heartbeat(self._task_id)
        for party in parties:
            self._state.acknowledge_node_heartbeat(self._nodes[party], HEARTBEAT_DEFAULT_INTERVAL)

    # Messages to nodes.

    def post(self, party: str, parcel: Parcel) -> Tree:
        """Store a message to a party, and of its objects those that are not there yet."""
        metadata, sent = _address(parcel, self._run_id, self._nodes[party])
        session = self._state.start_session(self._run_id)
        stored, missing = self._state.store_message_and_object_tree(
            make_message(metadata, RecordDict()), _to_proto(sent.tree), session
        )
        if not stored or not all(
            self._put(session, object_id, sent.contents[object_id]) for object_id in missing
        ):
            raise TransportError("flower-refused", f"Flower stores no message to {party}")
        return sent.tree

    def pull_messages(self, party: str, body: bytes) -> Sequence[bytes]:
        """Answer pull-messages."""
        request = PullMessagesRequest.FromString(body)
        self._same(party, request.node.node_id)
        response = fleet_handlers.pull_messages(request, self._state, self._store)
        return [response.SerializeToString()]

    def pull_object(self, party: str, body: bytes, allowed: Collection[str]) -> Sequence[Piece]:
        """Answer pull-object, for an object among those that are allowed."""
        request = PullObjectRequest.FromString(body)
        self._same(party, request.node.node_id)
        content = self._store.find(request.object_id) if request.object_id in allowed else None
        if content is None:
            raise Refusal(HTTPStatus.CONFLICT, "message-superseded")
        # Protobuf's wire form concatenates: the content goes out without a copy.
        found = PullObjectResponse(object_found=True, object_available=True).SerializeToString()
        field = bytes_field(PullObjectResponse.OBJECT_CONTENT_FIELD_NUMBER, len(content))
        return [found + field + content.head, content.body]

    # Replies from nodes.

    def read_reply(self, party: str, body: bytes, max_objects: int) -> Reply:
        """Decode push-messages. Refuses another sender, another run, or an impossible tree."""
        request = PushMessagesRequest.FromString(body)
        self._same(party, request.node.node_id)
        if len(request.messages_list) != 1 or len(request.message_object_trees) != 1:
            raise Refusal(HTTPStatus.BAD_REQUEST, "reply-malformed")
        message = message_from_proto(request.messages_list[0])
        metadata = message.metadata
        if metadata.run_id != self._run_id:
            raise Refusal(HTTPStatus.CONFLICT, "reply-for-another-run")
        if metadata.src_node_id != self._nodes[party]:
            raise Refusal(HTTPStatus.UNAUTHORIZED, "reply-sender-differs")
        proto_tree = request.message_object_trees[0]
        tree = Tree.like(proto_tree)
        ids = tree.ids()
        if message.has_error():
            return Reply(
                metadata.reply_to_message_id, tree, message.error.code, message, proto_tree
            )
        if (
            tree.object_id != metadata.message_id
            or tree.object_id in self._store
            or len(tree.children) != 1
            or len(ids) > max_objects
            or not all(is_valid_sha256_hash(object_id) for object_id in ids)
        ):
            raise Refusal(HTTPStatus.BAD_REQUEST, "reply-malformed")
        return Reply(metadata.reply_to_message_id, tree, None, message, proto_tree)

    def expect(self, reply: Reply) -> tuple[str, Sequence[str]]:
        """Take a reply in; return its push session and the ids of the objects still missing."""
        session = self._state.start_session(self._run_id)
        stored, missing = self._state.store_message_and_object_tree(
            reply.message, reply.proto_tree, session
        )
        if not stored:
            raise Refusal(HTTPStatus.BAD_REQUEST, "reply-malformed")
        return session, missing

    def read_object(self, party: str, body: bytes) -> PushObjectRequest:
        """Decode push-object."""
        request: PushObjectRequest = PushObjectRequest.FromString(body)
        self._same(party, request.node.node_id)
        return request

    def read_upload(self, party: str, start: bytes, length: int) -> tuple[PushObjectRequest, bytes]:
        """Decode the start of a push-object of `length` bytes that ends with the object itself.

        Returns:
            The request without the object, and what is here of the object.
        """
        number = PushObjectRequest.OBJECT_CONTENT_FIELD_NUMBER
        fields, place = last_field(start, number, length)
        return self.read_object(party, fields), start[place:]

    def keep_object(self, request: PushObjectRequest, content: Content | bytes) -> None:
        """Store an object of a reply, if its session waits for it; bytes only under their hash."""
        if not self._put(request.session_id, request.object_id, content):
            raise Refusal(HTTPStatus.BAD_REQUEST, "object-refused")

    def _put(self, session: str, object_id: str, content: Content | bytes) -> bool:
        """Let Flower's state file an object; it hands the content to `_Objects` untouched."""
        return self._state.store_object(self._run_id, session, object_id, cast(bytes, content))

    def content(self, object_id: str) -> Content:
        """Return a stored object; `parcel-malformed` where there is none."""
        content = self._store.find(object_id)
        if content is None:
            raise FormatError("parcel-malformed", f"object {object_id} is missing")
        return content

    def free(self, message_id: str, reply_id: str | None) -> None:
        """Forget a message and its reply, and every object that nothing else needs."""
        self._state.delete_messages({message_id})
        self._store.delete(message_id)
        if reply_id is not None:
            self._store.delete(reply_id)

    def check_line(self, party: str, body: bytes) -> None:
        """Refuse a line whose body, a PullMessagesRequest, names another node than the key's."""
        try:
            self._same(party, PullMessagesRequest.FromString(body).node.node_id)
        except DecodeError as error:
            raise Refusal(HTTPStatus.BAD_REQUEST, "request-malformed") from error

    def _same(self, party: str, claimed: int) -> None:
        if claimed != self._nodes[party]:
            raise Refusal(HTTPStatus.UNAUTHORIZED, "node-id-differs")


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


def expecting(session: str, missing: Sequence[str]) -> Sequence[bytes]:
    """Build the response to push-messages."""
    return [PushMessagesResponse(objects_to_push=missing, session_id=session).SerializeToString()]


def stored() -> Sequence[bytes]:
    """Build the response to push-object."""
    return [PushObjectResponse(stored=True).SerializeToString()]
