"""What a node is still sending: its answer's large objects go straight to the disk as they come in.

Guarantees: memory holds no more of an upload than the pieces just read from its socket; an object
is taken only if its bytes hash to its name; one answer takes no more disk than the manifest's
vector needs, whatever a node tries; the space is free again as soon as the answer is dropped, used
up, or this process dies, unless another answer names one of its objects too: then with that one. On
the disk is what came over the wire: ciphertext.

Not covered: which objects are wanted (`fleet`), their shape (`parcel`).
"""

import hashlib
import threading
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path

from accord_common.bulk import Body
from accord_common.parcel import Content
from accord_server.aggregator.bodies import Refusal
from accord_server.aggregator.open_file import OpenFile

_MAX_HEAD_BYTES = 32 << 10  # kind and length; the ids of 256 children take 17 KiB


class Shelf:
    """The large objects of one answer, in one file without a name."""

    def __init__(self, folder: Path, room: int) -> None:
        """Make no file yet. `room`: the most bytes that all objects may have together."""
        self._folder = folder
        self._room = room
        self._used = 0
        self._file: OpenFile | None = None
        self._lock = threading.Lock()
        self._closed = False

    def take(self, size: int) -> int:
        """Use some of the room, for good; return where it begins. Refusal `answer-too-large`."""
        with self._lock:
            if self._used + size > self._room:
                raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "answer-too-large")
            self._used += size
            return self._used - size

    def write(self, start: int, pieces: Sequence[bytes]) -> None:
        """Write; OSError where the disk takes no more, Refusal once the answer was dropped."""
        self._open().write(start, pieces)

    def body(self, start: int, size: int) -> Body:
        """Return some of what was written, unread; it stays readable whoever drops the answer."""
        return self._open().body(start, size)

    def drop(self) -> None:
        """Refuse whoever is still writing; the space is free once no `body` is held any more."""
        with self._lock:
            self._closed = True
            self._file = None

    def _open(self) -> OpenFile:
        with self._lock:
            if self._closed:
                raise Refusal(HTTPStatus.CONFLICT, "reply-not-wanted")
            if self._file is None:
                self._file = OpenFile.nameless(self._folder)
            return self._file


class Arriving:
    """One object that is being received; from one thread at a time."""

    def __init__(self, shelf: Shelf, object_id: str, size: int) -> None:
        """Take room for it, or raise Refusal `answer-too-large`."""
        self._shelf = shelf
        self._object_id = object_id
        self._size = size
        self._start = shelf.take(size)
        self._digest = hashlib.sha256()
        self._got = 0

    def write(self, pieces: Sequence[bytes]) -> None:
        """Take the next pieces; errors as `Shelf.write`."""
        for piece in pieces:
            self._digest.update(piece)
        if self._got + sum(map(len, pieces)) > self._size:
            raise Refusal(HTTPStatus.BAD_REQUEST, "object-refused")
        self._shelf.write(self._start + self._got, pieces)
        self._got += sum(map(len, pieces))

    def finish(self) -> Content:
        """Return the object, once all of it is here; Refusal `object-refused`."""
        if self._got != self._size or self._digest.hexdigest() != self._object_id:
            raise Refusal(HTTPStatus.BAD_REQUEST, "object-refused")
        first = self._shelf.body(self._start, min(self._size, _MAX_HEAD_BYTES)).load()
        end = first.find(b"\0") + 1
        return Content(first[:end], self._shelf.body(self._start + end, self._size - end))
