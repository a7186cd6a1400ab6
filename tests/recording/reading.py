"""What a recorded process sent, taken apart: requests, and every leaf of what they hold.

Guarantees: each byte of a connection belongs to one request, each byte of a request to its line, a
header or one leaf of its body; anything that does not decode, or that decoding would drop, is an
AssertionError. A leaf is (path, value); lists repeat a path, so a path names a field.
"""

import json
import re
from base64 import b64decode
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from flwr.proto.fleet_pb2 import ActivateNodeRequest, PullMessagesRequest, PushMessagesRequest
from flwr.proto.message_pb2 import Message, PullObjectRequest, PushObjectRequest
from flwr.proto.recorddict_pb2 import ConfigRecord
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message as Proto

from accord_common.api.wire import envelope_from_json
from accord_common.canonical import canonical_bytes
from accord_common.envelope import Envelope

Leaf = tuple[str, Any]
_PROTOS: dict[str, type[Proto]] = {
    "/v1/fleet/activate-node": ActivateNodeRequest,
    "/v1/fleet/pull-messages": PullMessagesRequest,
    "/v1/fleet/pull-object": PullObjectRequest,
    "/v1/fleet/push-messages": PushMessagesRequest,
    "/v1/fleet/push-object": PushObjectRequest,
    "/v1/accord/line": PullMessagesRequest,
}


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request, the `number`th of its site; `status` is its answer's, if one came."""

    connection: str
    number: int
    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    status: int | None = None

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def name(self) -> str:
        """Its own, among all of its site."""
        return f"request {self.number}"

    @property
    def query(self) -> list[tuple[str, str]]:
        """The target's query."""
        return parse_qsl(self.target.partition("?")[2], keep_blank_values=True)


def requests(folder: Path) -> list[Request]:
    """Every request of every process that ran with the recorder in `folder`, in order."""
    found: list[Request] = []
    for path in sorted(folder.glob("*.sent")):
        data, heard = path.read_bytes(), path.with_suffix(".heard")
        statuses = _statuses(heard.read_bytes() if heard.exists() else b"")
        while data:
            request, data = _request(path.name, len(found), data)
            status = next(statuses, None)
            answered = status or not data or not request.path.startswith("/v1/fleet/")
            assert answered, f"{path.name}: nobody answers {request.target}"
            found.append(replace(request, status=status))
    return found


def _statuses(heard: bytes) -> Iterator[int]:
    """Of each answer on one connection, up to one that has no length or is cut off."""
    while heard:
        head, end, heard = heard.partition(b"\r\n\r\n")
        if not end:
            return
        yield int(head.split(b" ", 2)[1])
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        if length is None:
            return
        heard = heard[int(length[1]) :]


def _request(connection: str, number: int, data: bytes) -> tuple[Request, bytes]:
    head, end, rest = data.partition(b"\r\n\r\n")
    assert end, f"{connection} ends within headers: {data[:80]!r}"
    line, *lines = head.decode("ascii").split("\r\n")
    method, target, version = line.split(" ")
    assert version == "HTTP/1.1", line
    headers = tuple(
        (name.lower(), value) for name, value in (item.split(": ", 1) for item in lines)
    )
    assert "transfer-encoding" not in dict(headers), line
    length = int(dict(headers).get("content-length", "0"))
    assert len(rest) >= length, f"{connection} ends within a body: {line}"
    request = Request(connection, number, method, target, headers, rest[:length])
    return request, rest[length:]


def leaves(request: Request) -> Iterator[Leaf]:
    """Everything in a request's body."""
    if request.path in _PROTOS:
        yield from _protobuf(_PROTOS[request.path], request.body)
    elif request.body:
        yield from flat("", json.loads(request.body))


def flat(path: str, value: Any) -> Iterator[Leaf]:
    """The leaves of JSON values; an envelope's are its body's, under its kind, and signatures."""
    if isinstance(value, dict) and value.keys() == {"payload", "payloadType", "signatures"}:
        kind = value["payloadType"].removeprefix("application/vnd.accord.").removesuffix("+json")
        payload = b64decode(value["payload"], validate=True)
        body = json.loads(payload)
        assert canonical_bytes(body) == payload, f"{path}: the body is not canonical"
        yield from flat(kind, body)
        yield from flat("signature", value["signatures"])
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from flat(f"{path}.{name}" if path else name, item)
    elif isinstance(value, list):
        for item in value:
            yield from flat(path, item)
    else:
        yield path, value


def content_of(request: Request) -> bytes | None:
    """The object in a `push-object`."""
    if request.path != "/v1/fleet/push-object":
        return None
    content: bytes = PushObjectRequest.FromString(request.body).object_content
    return content


def envelopes(sent: Iterable[Request]) -> Iterator[Envelope]:
    """Every envelope in what was sent, as often as it was."""
    for request in sent:
        content = content_of(request)
        if content is not None and content.startswith(b"ConfigRecord "):
            (item,) = ConfigRecord.FromString(content.partition(b"\0")[2]).items
            yield from _inside(json.loads(item.value.bytes))
        elif request.path == "/v1/records" and request.body:
            yield from _inside(json.loads(request.body))


def cut_off(sent: Iterable[Request], objects: Set[str]) -> set[str]:
    """Ids that a `push-messages` announces whose objects the aggregator wanted no more.

    It refused, or hung up on, the message or an object of it: a run's end cuts off what a node is
    saying, and so does a stage that needed no further answer. What is left of that are ids.
    """
    found: set[str] = set()
    ids: dict[str, set[str]] = {}
    for request in sent:
        if request.path == "/v1/fleet/push-messages":
            body = PushMessagesRequest.FromString(request.body)
            (message,) = body.messages_list
            announced, ahead = {message.metadata.message_id}, list(body.message_object_trees)
            while ahead:
                tree = ahead.pop()
                announced.add(tree.object_id)
                ahead += tree.children
            ids[request.connection] = announced
        pushes = request.path.startswith("/v1/fleet/push-")
        if pushes and request.status != 200 and not ids[request.connection] <= objects:
            found |= ids[request.connection]
    return found


def body_of(envelope: Envelope) -> Any:
    """An envelope's body as JSON values."""
    return json.loads(envelope.payload)


def _inside(value: Any) -> Iterator[Envelope]:
    if isinstance(value, dict) and "payloadType" in value:
        yield envelope_from_json(value)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _inside(item)


def _protobuf(kind: type[Proto], body: bytes) -> Iterator[Leaf]:
    message = kind.FromString(body)
    assert len(message.SerializeToString()) == len(body), f"{kind.__name__}: an unknown field"
    for path, value in flat("", MessageToDict(message, preserving_proto_field_name=True)):
        if path == "object_content":
            yield from _object(b64decode(value))
        else:
            yield path, value


def _object(content: bytes) -> Iterator[Leaf]:
    """A Flower object: `<kind> <child ids> <length>`, NUL, body."""
    head, _, body = content.partition(b"\0")
    kind, children, length = head.decode("ascii").split(" ")
    assert int(length) == len(body)
    for child in filter(None, children.split(",")):
        yield f"{kind} child", child
    match kind:
        case "ArrayChunk":
            yield "chunk", body
        case "ConfigRecord":
            record = ConfigRecord.FromString(body)
            assert len(record.SerializeToString()) == len(body), "an unknown field"
            (item,) = record.items
            assert item.key == "header"
            header = json.loads(item.value.bytes)
            yield from flat(header["type"], header)
        case "Message":
            message = Message.FromString(body)
            assert len(message.SerializeToString()) == len(body), "an unknown field"
            yield from flat("Message", MessageToDict(message, preserving_proto_field_name=True))
        case _:
            yield from flat(kind, json.loads(body))
