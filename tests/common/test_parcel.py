import hashlib
import json
from collections.abc import Callable

import pytest
from flwr.app.message import ArrayRecord, ConfigRecord, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.inflatable.inflatable_utils import (
    inflate_object_from_contents,
    validate_object_content,
)
from hypothesis import given
from hypothesis import strategies as st

from accord_common.bulk import Body, Bulk, digest, taken
from accord_common.errors import FormatError, UsageError
from accord_common.parcel import (
    MAX_CHUNKS,
    MAX_HEADER_BYTES,
    Content,
    Parcel,
    Tree,
    bytes_field,
    last_field,
    pack,
    pack_bulk,
    unpack,
)

BULK = (b"first" * 100, b"second", b"first" * 100)


@given(st.binary(max_size=300), st.lists(st.binary(min_size=1, max_size=50), max_size=6))
def test_what_is_packed_is_unpacked(header: bytes, chunks: list[bytes]) -> None:
    parcel = pack(header, pack_bulk(chunks))
    opened, bulk = unpack(parcel.tree, parcel.contents.__getitem__)
    assert (opened, list(bulk)) == (header, chunks)


@pytest.mark.parametrize("size", [0, 113, 114, 127, 128, 16_383, 16_384, MAX_HEADER_BYTES])
def test_headers_of_every_length_of_varint(size: int) -> None:
    parcel = pack(bytes(size), None)
    header, bulk = unpack(parcel.tree, parcel.contents.__getitem__)
    assert (header, len(bulk)) == (bytes(size), 0)


def _bytes(parcel: Parcel) -> dict[str, bytes]:
    return {name: item.head + item.body.load() for name, item in parcel.contents.items()}


def test_flower_reads_what_is_packed() -> None:
    parcel = pack(b"header", pack_bulk(BULK))
    for content in _bytes(parcel).values():
        validate_object_content(content)
    read = inflate_object_from_contents(parcel.tree.object_id, _bytes(parcel))
    assert isinstance(read, RecordDict)
    assert isinstance(read["header"], ConfigRecord)
    assert dict(read["header"]) == {"header": b"header"}
    assert isinstance(read["bulk"], ArrayRecord)
    assert read["bulk"]["bulk"].data == b"".join(BULK)


def test_a_header_alone_is_what_flower_itself_would_send() -> None:
    record = RecordDict({"header": ConfigRecord({"header": b"header"})})
    parcel = pack(b"header", None)
    assert Tree.like(get_object_tree(record)) == parcel.tree
    nested = get_all_nested_objects(record)
    assert {name: value.deflate() for name, value in nested.items()} == _bytes(parcel)


def test_shared_bulk_has_the_same_objects_under_every_header() -> None:
    bulk = pack_bulk(BULK)
    assert bulk is not None
    one, other = pack(b"one", bulk), pack(b"other", bulk)
    assert one.contents.keys() & other.contents.keys() == bulk.contents.keys()
    assert len(bulk.contents) == 4  # ArrayRecord, Array, and two chunks: equal ones are one


def test_too_much_is_refused_before_it_is_packed() -> None:
    with pytest.raises(UsageError, match="header-too-large"):
        pack(bytes(MAX_HEADER_BYTES + 1), None)
    with pytest.raises(UsageError, match="chunk-size"):
        pack_bulk([b"x", b""])
    with pytest.raises(UsageError, match="bulk-too-large"):
        pack_bulk([b"x"] * (MAX_CHUNKS + 1))


def _swap(old: bytes, new: bytes) -> Callable[[Parcel], dict[str, Content]]:
    def swap(parcel: Parcel) -> dict[str, Content]:
        changed = {name: value.replace(old, new) for name, value in _bytes(parcel).items()}
        assert changed != _bytes(parcel)
        return {name: Content.of(value) for name, value in changed.items()}

    return swap


@pytest.mark.parametrize(
    "change",
    [
        _swap(b"ConfigRecord", b"MetricRecord"),
        _swap(b"RecordDict ", b"Message "),
        _swap(b"ArrayChunk ", b"Array "),
        _swap(b'"header": ', b'"heades": '),
        _swap(b"\x0a\x06header", b"\x0a\x06heades"),
        _swap(b"second", b"second and more"),
        _swap(b"[0, 1, 0]", b"[0, 2, 0]"),
        _swap(b"[0, 1, 0]", b"[0, 0, 0]"),
        _swap(b"[0, 1, 0]", b"[0,-1, 0]"),
        _swap(b"[0, 1, 0]", b"[0,.5, 0]"),
        _swap(b"[0, 1, 0]", json.dumps("0 1 0").encode()),
        _swap(b'{"dtype"', b'["dtype"'),
        _swap(b"\0", b""),
    ],
)
def test_every_other_shape_is_refused(change: Callable[[Parcel], dict[str, Content]]) -> None:
    parcel = pack(b"header", pack_bulk(BULK))
    with pytest.raises(FormatError) as refused:
        unpack(parcel.tree, change(parcel).__getitem__)
    assert refused.value.code == "parcel-malformed"


def test_names_that_are_nested_beyond_any_stack_are_refused() -> None:
    deep = b"[" * 60_000
    parcel = pack(b"header", None)
    (child,) = parcel.tree.children
    head = f"RecordDict {child.object_id} {len(deep)}".encode() + b"\0"
    contents = {**parcel.contents, parcel.tree.object_id: Content.of(head + deep)}
    with pytest.raises(FormatError, match="parcel-malformed"):
        unpack(parcel.tree, contents.__getitem__)


def test_a_number_of_many_bytes_is_refused_at_the_tenth() -> None:
    with pytest.raises(FormatError, match="field-missing"):
        last_field(b"\x08" + b"\xff" * (1 << 20), 3, 1 << 21)


def test_a_tree_of_another_shape_is_refused_before_anything_is_fetched() -> None:
    bulk = pack(b"header", pack_bulk(BULK)).tree
    for tree in (
        Tree(bulk.object_id),
        Tree(bulk.object_id, bulk.children * 2),
    ):
        with pytest.raises(FormatError, match="parcel-malformed"):
            unpack(tree, dict[str, Content]().__getitem__)


def test_a_header_over_the_limit_is_refused() -> None:
    parcel = pack(b"x", None)
    big = pack_bulk([bytes(MAX_HEADER_BYTES + 100)])
    assert big is not None
    head = b"ConfigRecord  %d\0" % (MAX_HEADER_BYTES + 100)
    contents = {
        **parcel.contents,
        parcel.tree.children[0].object_id: Content.of(head + bytes(1 << 20) + bytes(100)),
    }
    with pytest.raises(FormatError, match="header-too-large"):
        unpack(parcel.tree, contents.__getitem__)


def test_chunks_in_a_file_are_read_one_at_a_time_and_not_before_they_are_asked_for() -> None:
    data, reads = bytes(range(250)) * 10, list[tuple[int, int]]()

    def read(start: int, count: int) -> bytes:
        reads.append((start, count))
        return data[start : start + count]

    bulk = Body(len(data), read).split(1000)
    assert (len(bulk), reads) == (3, [])
    parcel = pack(b"header", pack_bulk(bulk))
    assert reads == [(0, 1000), (1000, 1000), (2000, 500)]
    assert parcel.tree == pack(b"header", pack_bulk(list(bulk))).tree
    reads.clear()
    _, opened = unpack(parcel.tree, parcel.contents.__getitem__)
    assert ([body.size for body in opened.bodies], reads) == ([1000, 1000, 500], [])
    assert opened[1] == data[1000:2000]
    assert isinstance(opened[1:], Bulk) and b"".join(opened[1:]) == data[1000:]
    assert bulk.bodies[2].read(100, 7) == data[2100:2107]


def test_a_large_last_field_is_found_in_the_first_bytes_of_a_message() -> None:
    fields = b"\x0a\x02ab\x10\xac\x02\x2a\x01c"  # 1: bytes, 2: a number, 5: bytes
    head = fields + bytes_field(4, 1000)
    assert last_field(head + b"xy", 4, len(head) + 1000) == (fields, len(head))
    for start, length in (
        (head, len(head) + 1001),  # something follows
        (fields, len(head) + 1000),  # it lies further on
        (b"\x0d" + head, len(head) + 1001),  # a kind of field that nobody sends
        (b"\x0a" + b"\xff" * 20, 2000),
        (b"", 1000),
    ):
        with pytest.raises(FormatError, match="field-missing"):
            last_field(start, 4, length)


def test_a_bulk_that_is_taken_is_in_memory_once() -> None:
    bulk = Body.of(b"abcdefg").split(3)
    left = [(chunk, len(bulk)) for chunk in taken(bulk)]
    assert left == [(b"abc", 2), (b"def", 1), (b"g", 0)]
    assert list(taken((b"x", b"y"))) == [b"x", b"y"]


def test_a_body_hashes_as_its_bytes_do() -> None:
    data = bytes(range(256)) * 5000  # more than is read at once
    assert digest(Body.of(data)) == hashlib.sha256(data).hexdigest()
