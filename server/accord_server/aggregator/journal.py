"""What a run has done, one durable line each: the aggregator's memory and its outgoing mail.

Guarantees: a line is on disk when `append` returns (unless it is a note), and lines keep their
order; a line that a crash cut short is dropped on opening, any other damage is refused. The state
of a run follows from its lines; what the registry must learn is read from them, from a cursor on,
so nothing is sent out of order and nothing is lost while the registry is away.

Not covered: models and optimiser state (`checkpoints`), which a line names by hash.
"""

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import Field, TypeAdapter, ValidationError

from accord_common.api.schemas import Level
from accord_common.api.wire import WireEnvelope
from accord_common.errors import FormatError
from accord_common.fields import Count, Hash, Record, Text
from accord_common.files import replace_file
from accord_common.receipts import Parties


class Opened(Record):
    """An attempt's train message is about to go out: number used up, cohort charged."""

    type: Literal["opened"] = "opened"
    round: Count
    attempt: Count
    cohort: Parties


class Unmasking(Record):
    """Nodes are about to be asked to undo the open attempt's masks, for good; `sum` is spooled."""

    type: Literal["unmasking"] = "unmasking"
    round: Count
    attempt: Count
    sum: Hash


class Ended(Record):
    """An attempt ended as its signed receipt says; `checkpoint` is what a completed one left."""

    type: Literal["ended"] = "ended"
    receipt: WireEnvelope
    checkpoint: Hash | None


class Note(Record):
    """A line for people who watch the run; not synced, a crash may lose the latest."""

    type: Literal["note"] = "note"
    level: Level
    message: Text


class Concluded(Record):
    """The run's signed result; nothing follows it but notes."""

    type: Literal["concluded"] = "concluded"
    result: WireEnvelope


Line: TypeAlias = Opened | Unmasking | Ended | Note | Concluded
Entry: TypeAlias = Annotated[Line, Field(discriminator="type")]
_ENTRY: TypeAdapter[Line] = TypeAdapter(Entry)


class Journal:
    """An append-only file of entries and a cursor beside it. Threads may share it."""

    def __init__(self, path: Path) -> None:
        """Open or make the file; a last line without its end is cut off."""
        self._path = path
        self._cursor_path = path.with_suffix(".delivered")
        self._changed = threading.Condition()
        self._file = path.open("ab", buffering=0)  # a failed write leaves nothing to come later
        self._size = _whole(path)
        self._file.truncate(self._size)
        os.fsync(self._file.fileno())
        stored = self._cursor_path.read_text() if self._cursor_path.exists() else "0"
        self.cursor = int(stored) if stored.isdigit() and int(stored) <= self._size else 0

    def append(self, entry: Line) -> None:
        """Add a line; durable on return, but for notes. An OSError leaves the file as it was."""
        line = entry.to_bytes() + b"\n"
        with self._changed:
            try:
                rest = memoryview(line)
                while rest:
                    rest = rest[self._file.write(rest) :]
                if not isinstance(entry, Note):
                    os.fdatasync(self._file.fileno())
            except OSError:
                self._file.truncate(self._size)
                raise
            self._size += len(line)
            self._changed.notify_all()

    def read(self, start: int = 0) -> Iterator[tuple[Line, int]]:
        """Yield what there is from byte `start` on, each entry with the position behind it.

        Raises:
            FormatError: `journal-damaged`.
        """
        position, end = start, self._size
        with self._path.open("rb") as file:
            file.seek(start)
            while position < end:
                line = file.readline()
                position += len(line)
                try:
                    yield _ENTRY.validate_json(line), position
                except ValidationError as error:
                    raise FormatError(
                        "journal-damaged",
                        f"{self._path}, before byte {position}: {error.errors()[0]['msg']}",
                        hint="Restore the file from a backup; the run cannot go on without it.",
                    ) from error

    def delivered(self, position: int) -> None:
        """Remember that everything before `position` has reached the registry.

        Delivering again changes nothing there, so a crash may forget it.
        """
        self.cursor = position
        replace_file(self._cursor_path, str(position).encode())

    def wait(self, position: int) -> bool:
        """Wait for something behind `position`; False once closed, with nothing more to come."""
        with self._changed:
            self._changed.wait_for(lambda: self._size > position or self._file.closed)
            return self._size > position

    def waiting(self) -> int:
        """How many lines have not been delivered."""
        with self._path.open("rb") as file:
            file.seek(self.cursor)
            return sum(1 for _ in file)

    @property
    def size(self) -> int:
        """Bytes of whole lines: the position behind the last."""
        return self._size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End writing and let waiters go; what was written can still be read."""
        with self._changed:
            self._file.close()
            self._changed.notify_all()


def _whole(path: Path) -> int:
    """Return how many bytes of the file are whole lines."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - (4 << 20)))  # the longest line is a result: an envelope, 2 MiB
        tail = file.read()
    return size - len(tail) + tail.rfind(b"\n") + 1
