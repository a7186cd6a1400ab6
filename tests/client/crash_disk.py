"""What a disk may hold after the power went: everything synced, and any part of the rest.

Rebuilt from what crash_shim.c logged. Since the last sync of a file, each of its sectors that was
written, and each new length, may be there or not, in any combination; a name that was given, taken
or moved is sure once its folder was synced. A sector is whole or not there at all, as SQLite, too,
assumes. SQLite's -shm files are left out: it makes them anew.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

SECTOR = 512  # bytes


@dataclass(frozen=True, slots=True)
class Change:
    """One logged call: C)reate, W)rite, T)runcate, S)ync, R)ename, L)ink, U)nlink, or a M)ark."""

    kind: str
    path: str
    number: int  # an offset, a length, or a mark's number
    data: bytes


def read_log(path: Path) -> list[Change]:
    """Everything that was logged, in order."""
    changes, log, place = [], path.read_bytes(), 0
    while place < len(log):
        end = log.index(b"\n", place)
        kind, number, size, name = log[place:end].decode().split(" ", 3)
        place = end + 1 + int(size)
        changes.append(Change(kind, name, int(number), log[end + 1 : place]))
    return changes


@dataclass(slots=True)
class _File:
    durable: bytes
    pending: list[Change] = field(default_factory=list)

    def content(self, kept: Callable[[], bool]) -> bytes:
        data = bytearray(self.durable)
        for change in self.pending:
            if change.kind == "T":
                if kept():
                    data[change.number :] = bytes(max(0, change.number - len(data)))
                continue
            for start, part in _sectors(change):
                if kept():
                    data.extend(bytes(max(0, start - len(data))))
                    data[start : start + len(part)] = part
        return bytes(data)


def _sectors(change: Change) -> Iterator[tuple[int, bytes]]:
    start, end = change.number, change.number + len(change.data)
    while start < end:
        stop = min(end, (start // SECTOR + 1) * SECTOR)
        yield start, change.data[start - change.number : stop - change.number]
        start = stop


class Disk:
    """The files right under `folder`, as they were, and the changes that the system took since."""

    def __init__(self, folder: Path, before: dict[str, bytes], changes: list[Change]) -> None:
        self._folder = str(folder)
        self._names = {path: _File(data) for path, data in before.items()}
        self._sure = dict(self._names)
        self._renamed: list[dict[str, _File | None]] = []  # since the folder was synced
        for change in changes:
            self._apply(change)

    def after_power_loss(self, kept: Callable[[], bool]) -> dict[str, bytes]:
        """Files by path; `kept` decides about each change that was not synced."""
        names: dict[str, _File | None] = dict(self._sure)
        for moved in self._renamed:
            if kept():
                names.update(moved)
        return {
            path: file.content(kept)
            for path, file in names.items()
            if file is not None and not path.endswith("-shm")
        }

    def _apply(self, change: Change) -> None:
        path = change.path
        match change.kind:
            case "W" | "T":
                self._names[path].pending.append(change)
            case "S" if path in self._names:
                file = self._names[path]
                file.durable, file.pending = file.content(lambda: True), []
            case "S" if path == self._folder:
                self._sure, self._renamed = dict(self._names), []
            case "C":
                self._rename({path: _File(b"")})
            case "L":
                self._rename({path: self._names[change.data.decode()]})
            case "R":
                old = change.data.decode()
                self._rename({path: self._names[old], old: None})
            case "U":
                self._rename({path: None})

    def _rename(self, moved: dict[str, _File | None]) -> None:
        self._renamed.append(moved)
        for path, file in moved.items():
            if file is None:
                self._names.pop(path, None)
            else:
                self._names[path] = file
