"""A file that stays readable for as long as anybody holds on to it, whatever becomes of its name.

Guarantees: the descriptor is closed when the last reference goes, or by `close`; a read or write
after that fails, and never touches another file that has the same descriptor by then.
"""

import os
import tempfile
import threading
import weakref
from collections.abc import Sequence
from io import FileIO
from pathlib import Path
from typing import Self

from accord_common.bulk import Body


class OpenFile:
    """Reads and writes at given places; any thread may call."""

    def __init__(self, file: FileIO) -> None:
        self._file = file
        self._using = threading.Lock()
        weakref.finalize(self, file.close)

    @classmethod
    def read_only(cls, path: Path) -> Self:
        """Open what is there."""
        return cls(path.open("rb", buffering=0))

    @classmethod
    def nameless(cls, folder: Path) -> Self:
        """Make an empty file that nobody else can open and that no crash leaves behind."""
        return cls(tempfile.TemporaryFile(dir=folder, buffering=0))

    def close(self) -> None:
        """Free the descriptor, and the disk space of a file without a name, now."""
        with self._using:
            self._file.close()

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return os.fstat(self._file.fileno()).st_size

    def read(self, start: int, count: int) -> bytes:
        """Return `count` bytes; OSError where they are not there, ValueError after `close`."""
        with self._using:
            data = os.pread(self._file.fileno(), count, start)
        if len(data) != count:
            raise OSError(f"{len(data)} of {count} bytes at {start}: the file was cut short")
        return data

    def write(self, start: int, pieces: Sequence[bytes]) -> None:
        """Write all pieces, one behind the other; OSError on a full disk, ValueError as above."""
        place = start
        for piece in pieces:
            rest = memoryview(piece)
            while rest:
                with self._using:
                    done = os.pwrite(self._file.fileno(), rest, place)
                place, rest = place + done, rest[done:]

    def sync(self) -> None:
        """Have on the disk what was written."""
        os.fsync(self._file.fileno())

    def body(self, start: int, size: int) -> Body:
        """Return a part of the file, unread; it keeps the file open."""
        return Body(size, lambda offset, count: self.read(start + offset, count))
