"""A node that says what it likes: raw requests to the public listener, signed by its key."""

import http.client
import json
import ssl
from base64 import b64encode
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from flwr.common.constant import HEARTBEAT_DEFAULT_INTERVAL
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    ActivateNodeResponse,
    PullMessagesRequest,
    PullMessagesResponse,
    PushMessagesRequest,
    PushMessagesResponse,
)
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.proto.message_pb2 import ObjectTree, PushObjectRequest
from flwr.proto.node_pb2 import Node
from flwr.supercore.primitives.asymmetric import public_key_to_bytes, sign_message
from google.protobuf.message import Message as Proto

from accord_common.identity import FlowerKey
from accord_common.parcel import Parcel, Tree, bytes_field
from accord_server.aggregator import listener as paths
from accord_server.aggregator.transport import Joined, Lost, Outgoing
from tests.fleet import HOST, Site, until


@dataclass
class Raw:
    """A node that sends what it likes."""

    site: Site
    key: FlowerKey

    def headers(self, **changes: str) -> dict[str, str]:
        timestamp = changes.pop("timestamp", datetime.now(UTC).isoformat())
        public_key = public_key_to_bytes(self.key.private.public_key())
        return {
            "flwr-public-key": b64encode(public_key).decode(),
            "flwr-timestamp": timestamp,
            "flwr-signature": b64encode(
                sign_message(self.key.private, timestamp.encode())
            ).decode(),
            **changes,
        }

    def ask(
        self,
        path: str,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        verb: str = "POST",
    ) -> tuple[int, bytes]:
        folder = self.site.certificates.folder
        tls = ssl.create_default_context(cafile=str(folder / "ca.pem"))
        port = self.site.listener.port
        connection = http.client.HTTPSConnection(HOST, port, timeout=10, context=tls)
        try:
            sent = self.headers() if headers is None else headers
            connection.request(verb, path, body, sent)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def code(self, path: str, body: Proto | bytes = b"", **arguments: Any) -> tuple[int, str]:
        sent = body.SerializeToString() if isinstance(body, Proto) else body
        status, said = self.ask(path, sent, **arguments)
        return status, json.loads(said)["code"] if status != HTTPStatus.OK else ""

    def activate(self) -> Node:
        public_key = public_key_to_bytes(self.key.private.public_key())
        request = ActivateNodeRequest(
            public_key=public_key, heartbeat_interval=HEARTBEAT_DEFAULT_INTERVAL
        )
        _, body = self.ask(paths.ACTIVATE, request.SerializeToString())
        return Node(node_id=ActivateNodeResponse.FromString(body).node_id)


class Replying(Raw):
    """A node with a line open and one message pulled."""

    @property
    def party(self) -> str:
        return next(party for party, key in self.site.keys.items() if key is self.key)

    def pull(self) -> None:
        self.node = self.line()
        self.site.transport.send([Outgoing(self.party, b"question")])
        request = PullMessagesRequest(node=self.node).SerializeToString()
        _, body = self.ask(paths.PULL_MESSAGES, request)
        response = PullMessagesResponse.FromString(body)
        self.question = response.messages_list[0]
        self.question_tree = response.message_object_trees[0]

    def line(self) -> Node:
        node = self.activate()
        folder = self.site.certificates.folder
        tls = ssl.create_default_context(cafile=str(folder / "ca.pem"))
        port = self.site.listener.port
        self.open = http.client.HTTPSConnection(HOST, port, timeout=10, context=tls)
        body = PullMessagesRequest(node=node).SerializeToString()
        self.open.request("POST", paths.LINE, body, self.headers())
        self.frames = self.open.getresponse()
        until(self.site.transport, lambda event: event == Joined(self.party))
        return node

    def close(self) -> None:
        self.frames.close()
        self.open.close()
        until(self.site.transport, lambda event: isinstance(event, Lost))

    def announce(
        self, parcel: Parcel, tree: ObjectTree | None = None, **metadata: Any
    ) -> tuple[int, str]:
        status, body = self.ask(
            paths.PUSH_MESSAGES, self.announcement(parcel, tree, **metadata).SerializeToString()
        )
        if status != HTTPStatus.OK:
            return status, str(json.loads(body)["code"])
        self.wanted = PushMessagesResponse.FromString(body)
        return status, ""

    def announcement(
        self, parcel: Parcel, tree: ObjectTree | None = None, **metadata: Any
    ) -> PushMessagesRequest:
        message: ProtoMessage = message_to_proto(message_from_proto(self.question))
        message.metadata.src_node_id = self.node.node_id
        message.metadata.dst_node_id = 1
        message.metadata.reply_to_message_id = self.question.metadata.message_id
        message.metadata.message_id = parcel.tree.object_id
        for name, value in metadata.items():
            setattr(message.metadata, name, value)
        trees = [tree or proto_tree(parcel.tree)]
        return PushMessagesRequest(
            node=self.node, messages_list=[message], message_object_trees=trees
        )

    def put(self, object_id: str, content: bytes, session: str | None = None) -> tuple[int, str]:
        return self.code(paths.PUSH_OBJECT, self.before(object_id, len(content), session) + content)

    def before(self, object_id: str, size: int, session: str | None = None) -> bytes:
        """What stands before an object in its push."""
        request = PushObjectRequest(
            node=self.node,
            run_id=self.question.metadata.run_id,
            object_id=object_id,
            session_id=self.wanted.session_id if session is None else session,
        )
        field = bytes_field(PushObjectRequest.OBJECT_CONTENT_FIELD_NUMBER, size)
        fields: bytes = request.SerializeToString()
        return fields + field

    def begin(self, object_id: str, size: int, content: bytes) -> http.client.HTTPSConnection:
        """Push the first bytes of an object of `size` bytes, and no more."""
        folder = self.site.certificates.folder
        tls = ssl.create_default_context(cafile=str(folder / "ca.pem"))
        connection = http.client.HTTPSConnection(
            HOST, self.site.listener.port, timeout=10, context=tls
        )
        before = self.before(object_id, size)
        connection.putrequest("POST", paths.PUSH_OBJECT)
        for name, value in self.headers(**{"content-length": str(len(before) + size)}).items():
            connection.putheader(name, value)
        connection.endheaders()
        connection.send(before + content)
        return connection


def proto_tree(tree: Tree) -> ObjectTree:
    return ObjectTree(object_id=tree.object_id, children=map(proto_tree, tree.children))
