"""How a header and bulk chunks travel as the objects of one Flower message.

Flower 1.41 cuts a message into objects, each `<kind> <child ids> <body length>`, NUL and the body,
and each named by the SHA-256 of these bytes. A parcel is this tree of them, and no other:

    RecordDict {"header": ConfigRecord}                     header alone
    RecordDict {"header": ConfigRecord, "bulk": ArrayRecord -> Array -> ArrayChunk ...}

Guarantees: equal bulk gives equal objects, so what all nodes share is stored once; each chunk is
hashed once and copied once; opening refuses every other shape, kind, order or size. No flwr is
needed: the little protobuf in it, a ConfigRecord with one bytes value, is spelled out here.

Left out: opening does not hash what it reads. Integrity of bulk is the protocol's (model hash,
chunk root), TLS covers the way.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from accord_common.errors import FormatError, UsageError

MAX_HEADER_BYTES = 1 << 20
MAX_CHUNK_BYTES = 16 << 20
MAX_CHUNKS = 256  # 4 GiB: 1e9 words mod 2^32
MAX_OBJECT_BYTES = MAX_CHUNK_BYTES + (64 << 10)  # a chunk with its head and its request's fields

Fetch = Callable[[str], bytes]
"""Object id -> the object's bytes."""


@dataclass(frozen=True, slots=True)
class Tree:
    """An object's id above those of the objects it refers to."""

    object_id: str
    children: tuple["Tree", ...] = ()

    @classmethod
    def like(cls, tree: Any) -> Self:
        """Copy anything that has `object_id` and `children`, such as Flower's ObjectTree."""
        return cls(str(tree.object_id), tuple(cls.like(child) for child in tree.children))

    def ids(self) -> list[str]:
        """Every id, children before parents, each once."""
        below = [object_id for child in self.children for object_id in child.ids()]
        return list(dict.fromkeys([*below, self.object_id]))


@dataclass(frozen=True, slots=True)
class Parcel:
    """A tree and the bytes of its objects."""

    tree: Tree
    contents: dict[str, bytes] = field(repr=False)

    def within(self, kind: str, body: bytes) -> "Parcel":
        """Return this parcel as the only child of a new object."""
        return _object(kind, body, (self,))


def pack(header: bytes, bulk: Parcel | None) -> Parcel:
    """Put a header and packed bulk (shared by many messages, or None) into one parcel.

    Raises:
        UsageError: `header-too-large`.
    """
    if len(header) > MAX_HEADER_BYTES:
        raise UsageError("header-too-large", f"{len(header)} B, at most {MAX_HEADER_BYTES} B")
    records = {"header": _object("ConfigRecord", _before_header(len(header)) + header)}
    if bulk is not None:
        records["bulk"] = bulk
    names = {name: record.tree.object_id for name, record in records.items()}
    return _object("RecordDict", json.dumps(names).encode(), tuple(records.values()))


def pack_bulk(chunks: Sequence[bytes]) -> Parcel | None:
    """Pack chunks, in order, each of 1 to 16 MiB; None where there are none.

    Raises:
        UsageError: `bulk-too-large`, `chunk-size`.
    """
    if not chunks:
        return None
    if len(chunks) > MAX_CHUNKS:
        raise UsageError("bulk-too-large", f"{len(chunks)} chunks, at most {MAX_CHUNKS}")
    packed = []
    for index, chunk in enumerate(chunks):
        if not 0 < len(chunk) <= MAX_CHUNK_BYTES:
            raise UsageError("chunk-size", f"chunk {index}: {len(chunk)} B, 1 to {MAX_CHUNK_BYTES}")
        packed.append(_object("ArrayChunk", chunk))
    order = list(dict.fromkeys(chunk.tree.object_id for chunk in packed))
    array = {
        "dtype": "uint8",
        "shape": [sum(len(chunk) for chunk in chunks)],
        "stype": "accord.chunks",
        "arraychunk_ids": [order.index(chunk.tree.object_id) for chunk in packed],
    }
    data = _object("Array", json.dumps(array).encode(), tuple(packed))
    return data.within("ArrayRecord", json.dumps({"bulk": data.tree.object_id}).encode())


def unpack(tree: Tree, fetch: Fetch) -> tuple[bytes, tuple[bytes, ...]]:
    """Open the RecordDict at `tree`: the header, and the chunks in order.

    Raises:
        FormatError: `parcel-malformed` for any other shape, `header-too-large`.
    """
    ids = [child.object_id for child in tree.children]
    names = ("header", "bulk")[: len(ids)]
    if len(ids) != len(names) or not ids:
        raise _malformed(f"{len(ids)} records")
    _expect(fetch(tree.object_id), "RecordDict", ids, dict(zip(names, ids, strict=True)))
    header = _unpack_header(_body(fetch(ids[0]), "ConfigRecord", ()))
    return header, _unpack_bulk(tree.children[1], fetch) if len(ids) == 2 else ()


def bytes_field(number: int, length: int) -> bytes:
    """Protobuf's tag and length before `length` bytes; `number` < 16.

    Protobuf's wire form concatenates, so a large last field need not be copied into its message.
    """
    out = bytearray([number << 3 | 2])
    while length > 0x7F:
        out.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([*out, length])


def _before_header(length: int) -> bytes:
    """What protobuf writes before the `length` bytes in ConfigRecord({"header": ...}).

    ConfigRecord {1: Item {1: key, 2: ConfigRecordValue {6: bytes}}}, in Flower 1.41's numbering.
    """
    value = bytes_field(6, length)
    item = bytes_field(1, 6) + b"header" + bytes_field(2, len(value) + length) + value
    return bytes_field(1, len(item) + length) + item


def _unpack_header(record: bytes) -> bytes:
    shortest, longest = len(_before_header(0)), len(_before_header(MAX_HEADER_BYTES))
    if len(record) > longest + MAX_HEADER_BYTES:
        raise FormatError("header-too-large", f"{len(record)} B, at most {MAX_HEADER_BYTES} B")
    for before in range(shortest, min(longest, len(record)) + 1):
        length = len(record) - before
        if record[:before] == _before_header(length):
            return record[before:]
    raise _malformed("the header record holds something else")


def _unpack_bulk(tree: Tree, fetch: Fetch) -> tuple[bytes, ...]:
    if len(tree.children) != 1:
        raise _malformed(f"{len(tree.children)} arrays")
    (array,) = tree.children
    _expect(fetch(tree.object_id), "ArrayRecord", [array.object_id], {"bulk": array.object_id})
    ids = [child.object_id for child in array.children]
    described = _json(_body(fetch(array.object_id), "Array", ids))
    order = described.get("arraychunk_ids")
    if not isinstance(order, list) or not 0 < len(order) <= MAX_CHUNKS:
        raise _malformed("the array names no chunks")
    if any(type(index) is not int or not 0 <= index < len(ids) for index in order):
        raise _malformed("the array names a chunk that is not there")
    if set(order) != set(range(len(ids))):
        raise _malformed("the array does not name each of its chunks")
    chunks = [_body(fetch(chunk_id), "ArrayChunk", ()) for chunk_id in ids]
    if not all(0 < len(chunk) <= MAX_CHUNK_BYTES for chunk in chunks):
        raise _malformed(f"a chunk is empty or larger than {MAX_CHUNK_BYTES} B")
    return tuple(chunks[index] for index in order)


def _object(kind: str, body: bytes, children: tuple[Parcel, ...] = ()) -> Parcel:
    ids = dict.fromkeys(child.tree.object_id for child in children)
    content = b"".join((f"{kind} {','.join(ids)} {len(body)}\0".encode(), body))
    object_id = hashlib.sha256(content).hexdigest()
    distinct = {child.tree.object_id: child.tree for child in children}
    contents = {key: value for child in children for key, value in child.contents.items()}
    return Parcel(Tree(object_id, tuple(distinct.values())), {**contents, object_id: content})


def _body(content: bytes, kind: str, children: Iterable[str]) -> bytes:
    head, divider, body = content.partition(b"\0")
    if not divider or head != f"{kind} {','.join(children)} {len(body)}".encode():
        raise _malformed(f"expected {kind}, found {head[:40]!r}")
    return body


def _expect(content: bytes, kind: str, children: list[str], names: dict[str, str]) -> None:
    if _json(_body(content, kind, children)) != names:
        raise _malformed(f"the {kind} names other records")


def _json(body: bytes) -> dict[str, object]:
    try:
        value = json.loads(body)
    except ValueError as error:
        raise _malformed(f"not JSON: {error}") from error
    if not isinstance(value, dict):
        raise _malformed("not a JSON object")
    return value


def _malformed(why: str) -> FormatError:
    return FormatError("parcel-malformed", f"the message's objects have another shape: {why}")
