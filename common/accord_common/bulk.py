"""Bulk data that need not be in memory: where the bytes are, and how to read some of them.

A model or a masked vector is larger than all else together. Whoever passes it on passes these; only
who hashes, sends or adds the bytes reads them, a piece at a time.

Not covered: whether a file still holds what was put there; hashes and seals of the protocol say so.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Self, overload

_READ_BYTES = 1 << 20  # at once, where a whole body is gone through


@dataclass(frozen=True, slots=True)
class Body:
    """Bytes that are read, whole or in part, when they are needed; from memory or from a file.

    Attributes:
        size: how many there are.
        read: start and count -> these bytes; start + count <= size.
    """

    size: int
    read: Callable[[int, int], bytes] = field(repr=False)

    @classmethod
    def of(cls, data: bytes) -> Self:
        """Bytes that are in memory."""
        return cls(len(data), lambda start, count: data[start : start + count])

    def load(self) -> bytes:
        """Read all of it; no copy where it is in memory."""
        return self.read(0, self.size)

    def split(self, size: int) -> "Bulk":
        """Cut it into chunks of `size` bytes, the last one shorter."""
        starts = range(0, self.size, size)
        return Bulk([self._part(start, min(size, self.size - start)) for start in starts])

    def _part(self, start: int, size: int) -> "Body":
        return Body(size, lambda offset, count: self.read(start + offset, count))


class Bulk(Sequence[bytes]):
    """Chunks in order. Each access reads the chunk anew; sizes are known without."""

    def __init__(self, bodies: Sequence[Body]) -> None:
        self.bodies = tuple(bodies)

    def __len__(self) -> int:
        return len(self.bodies)

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> "Bulk": ...
    def __getitem__(self, index: int | slice) -> "bytes | Bulk":
        if isinstance(index, slice):
            return Bulk(self.bodies[index])
        return self.bodies[index].load()


def bodies_of(chunks: Sequence[bytes]) -> Sequence[Body]:
    """Return the chunks as bodies, unread."""
    return chunks.bodies if isinstance(chunks, Bulk) else [Body.of(chunk) for chunk in chunks]


def digest(body: Body) -> str:
    """SHA-256 in hex of all its bytes, read a little at a time."""
    sha256 = hashlib.sha256()
    for piece in body.split(_READ_BYTES):
        sha256.update(piece)
    return sha256.hexdigest()


def taken(chunks: Sequence[bytes]) -> Iterator[bytes]:
    """Read all chunks in order; a `Bulk` forgets each, so that it is not in memory twice."""
    if not isinstance(chunks, Bulk):
        yield from chunks
        return
    while chunks.bodies:
        first, chunks.bodies = chunks.bodies[0], chunks.bodies[1:]
        yield first.load()
