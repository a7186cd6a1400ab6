"""How a header and bulk chunks travel as the objects of one Flower message.

Flower 1.41 cuts a message into objects, each `<kind> <child ids> <body length>`, NUL and the body,
and each named by the SHA-256 of these bytes. A parcel is this tree of them, and no other:

    RecordDict {"header": ConfigRecord}                     header alone
    RecordDict {"header": ConfigRecord, "bulk": ArrayRecord -> Array -> ArrayChunk ...}

Guarantees: equal bulk gives equal objects, so what all nodes share is stored once; each chunk is
hashed once and never copied, so a parcel of chunks that lie in a file needs the memory of one;
opening refuses every other shape, kind, order or size before it reads a chunk. No flwr is needed:
the little protobuf in it, a ConfigRecord with one bytes value, is spelled out here.

Left out: opening does not hash what it reads. Integrity of bulk is the protocol's (model hash,
chunk root), TLS covers the way.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from accord_common.bulk import Body, Bulk, bodies_of
from accord_common.errors import FormatError, UsageError

MAX_HEADER_BYTES = 1 << 20
MAX_CHUNK_BYTES = 16 << 20
MAX_CHUNKS = 256  # 4 GiB: 1e9 words mod 2^32
_MAX_NAMES_BYTES = 64 << 10  # JSON that names records or chunks: 256 numbers are 2 KiB
_VARINT_BYTES = 10  # of a protobuf number: 64 bits, seven a byte
MAX_OBJECT_BYTES = MAX_CHUNK_BYTES + (64 << 10)  # a chunk with its head and its request's fields


@dataclass(frozen=True, slots=True)
class Content:
    """An object: `head` is its kind, child ids and body length, up to and with the NUL."""

    head: bytes
    body: Body

    @classmethod
    def of(cls, data: bytes) -> Self:
        """An object in memory; without a NUL it is all body."""
        end = data.find(b"\0") + 1
        return cls(data[:end], Body.of(data[end:]))

    def __len__(self) -> int:
        return len(self.head) + self.body.size


Fetch = Callable[[str], Content]
"""Object id -> the object."""


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
    """A tree and its objects."""

    tree: Tree
    contents: dict[str, Content] = field(repr=False)

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


def check_bulk(chunks: Sequence[bytes]) -> None:
    """Refuse what cannot be packed: `bulk-too-large`, `chunk-size`."""
    if len(chunks) > MAX_CHUNKS:
        raise UsageError("bulk-too-large", f"{len(chunks)} chunks, at most {MAX_CHUNKS}")
    for index, body in enumerate(bodies_of(chunks)):
        if not 0 < body.size <= MAX_CHUNK_BYTES:
            raise UsageError("chunk-size", f"chunk {index}: {body.size} B, 1 to {MAX_CHUNK_BYTES}")


def pack_bulk(chunks: Sequence[bytes]) -> Parcel | None:
    """Pack chunks, in order, each of 1 to 16 MiB; None where there are none.

    Raises:
        UsageError: `bulk-too-large`, `chunk-size`.
    """
    if not chunks:
        return None
    check_bulk(chunks)
    bodies = bodies_of(chunks)
    packed = [_object("ArrayChunk", body) for body in bodies]
    order = list(dict.fromkeys(chunk.tree.object_id for chunk in packed))
    array = {
        "dtype": "uint8",
        "shape": [sum(body.size for body in bodies)],
        "stype": "accord.chunks",
        "arraychunk_ids": [order.index(chunk.tree.object_id) for chunk in packed],
    }
    data = _object("Array", json.dumps(array).encode(), tuple(packed))
    return data.within("ArrayRecord", json.dumps({"bulk": data.tree.object_id}).encode())


def unpack(tree: Tree, fetch: Fetch) -> tuple[bytes, Bulk]:
    """Open the RecordDict at `tree`: the header, and the chunks in order, which are not read yet.

    Raises:
        FormatError: `parcel-malformed` for any other shape, `header-too-large`.
    """
    ids = [child.object_id for child in tree.children]
    names = ("header", "bulk")[: len(ids)]
    if len(ids) != len(names) or not ids:
        raise _malformed(f"{len(ids)} records")
    _expect(fetch(tree.object_id), "RecordDict", ids, dict(zip(names, ids, strict=True)))
    header = _unpack_header(_body(fetch(ids[0]), "ConfigRecord", ()))
    return header, _unpack_bulk(tree.children[1], fetch) if len(ids) == 2 else Bulk(())


def bytes_field(number: int, length: int) -> bytes:
    """Protobuf's tag and length before `length` bytes; `number` < 16.

    Protobuf's wire form concatenates, so a large last field need not be copied into its message.
    """
    out = bytearray([number << 3 | 2])
    while length > 0x7F:
        out.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([*out, length])


def last_field(start: bytes, number: int, length: int) -> tuple[bytes, int]:
    """Find the field that ends a protobuf message of `length` bytes, of which `start` is the start.

    Returns:
        The message without that field, and where the field's bytes begin.

    Raises:
        FormatError: `field-missing` where no field of bytes `number` is the last one.
    """
    place = 0
    try:
        while True:
            tag, after = start[place], place + 1
            size, after = _varint(start, after)
            if tag == (number << 3 | 2) and after + size == length:
                return start[:place], after
            if tag & 7 not in (0, 2):  # neither a number nor bytes
                raise IndexError
            place = after + (size if tag & 7 else 0)
    except IndexError as error:
        raise FormatError(
            "field-missing", f"the message does not end with field {number}"
        ) from error


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 7 * _VARINT_BYTES, 7):
        byte = data[place]
        value |= (byte & 0x7F) << shift
        place += 1
        if byte < 0x80:
            return value, place
    raise IndexError


def _before_header(length: int) -> bytes:
    """What protobuf writes before the `length` bytes in ConfigRecord({"header": ...}).

    ConfigRecord {1: Item {1: key, 2: ConfigRecordValue {6: bytes}}}, in Flower 1.41's numbering.
    """
    value = bytes_field(6, length)
    item = bytes_field(1, 6) + b"header" + bytes_field(2, len(value) + length) + value
    return bytes_field(1, len(item) + length) + item


def _unpack_header(body: Body) -> bytes:
    shortest, longest = len(_before_header(0)), len(_before_header(MAX_HEADER_BYTES))
    if body.size > longest + MAX_HEADER_BYTES:
        raise FormatError("header-too-large", f"{body.size} B, at most {MAX_HEADER_BYTES} B")
    record = body.load()
    for before in range(shortest, min(longest, len(record)) + 1):
        length = len(record) - before
        if record[:before] == _before_header(length):
            return record[before:]
    raise _malformed("the header record holds something else")


def _unpack_bulk(tree: Tree, fetch: Fetch) -> Bulk:
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
    if not all(0 < chunk.size <= MAX_CHUNK_BYTES for chunk in chunks):
        raise _malformed(f"a chunk is empty or larger than {MAX_CHUNK_BYTES} B")
    return Bulk([chunks[index] for index in order])


def _object(kind: str, body: bytes | Body, children: tuple[Parcel, ...] = ()) -> Parcel:
    body = Body.of(body) if isinstance(body, bytes) else body
    ids = dict.fromkeys(child.tree.object_id for child in children)
    content = Content(_head(kind, ids, body.size), body)
    digest = hashlib.sha256(content.head)
    digest.update(body.load())
    object_id = digest.hexdigest()
    distinct = {child.tree.object_id: child.tree for child in children}
    contents = {key: value for child in children for key, value in child.contents.items()}
    return Parcel(Tree(object_id, tuple(distinct.values())), {**contents, object_id: content})


def _head(kind: str, children: Iterable[str], size: int) -> bytes:
    return f"{kind} {','.join(children)} {size}\0".encode()


def _body(content: Content, kind: str, children: Iterable[str]) -> Body:
    if content.head != _head(kind, children, content.body.size):
        raise _malformed(f"expected {kind}, found {content.head[:40]!r}")
    return content.body


def _expect(content: Content, kind: str, children: list[str], names: dict[str, str]) -> None:
    if _json(_body(content, kind, children)) != names:
        raise _malformed(f"the {kind} names other records")


def _json(body: Body) -> dict[str, object]:
    if body.size > _MAX_NAMES_BYTES:
        raise _malformed(f"{body.size} B of names")
    try:
        value = json.loads(body.load())
    except (ValueError, RecursionError) as error:
        raise _malformed(f"not JSON: {error}") from error
    if not isinstance(value, dict):
        raise _malformed("not a JSON object")
    return value


def _malformed(why: str) -> FormatError:
    return FormatError("parcel-malformed", f"the message's objects have another shape: {why}")
