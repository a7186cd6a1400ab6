"""The auditor's bundle: records, proofs and checkpoints in one file (SPEC.md, "Transparency log").

Guarantees: the same contents give the same bytes; reading takes the memory of a line, refuses every
other member, order, size or header, every line that is not canonical JSON of its kind, and whatever
follows the end. What is read is not verified (`audit`).
"""

import io
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Literal, TypeVar

from accord_common.api.wire import WireEnvelope
from accord_common.envelope import Envelope
from accord_common.errors import FormatError
from accord_common.fields import Count, Hash, Positive, PublicKey, Record
from accord_common.files import replacing
from accord_common.log.checkpoint import Proof

FORMAT = 1
MAX_LINE_BYTES = 4 << 20  # an envelope is at most 2 MiB
MAX_BUNDLE_BYTES = 16 << 30
_ABOUT, _CHECKPOINTS, _RECORDS, _JOINTS = _NAMES = (
    "bundle.json",
    "checkpoints.jsonl",
    "records.jsonl",
    "consistency.jsonl",
)
_BLOCK = 512
_Line = TypeVar("_Line", bound=Record)
_COPIED = 1 << 20  # at once

Scope = Literal["all", "agreement", "run"]


class About(Record):
    """What a bundle is of: everything, or one agreement, or one run; and of which log."""

    format: Literal[1]
    scope: Scope
    subject: str | None
    log: PublicKey


class Entry(Record):
    """A record and its place; the proof leads to the bundle's head, null where all are there."""

    sequence: Positive
    leaf: Hash
    envelope: WireEnvelope
    proof: Proof | None


class Joint(Record):
    """Consistency from the tree of `size` records to the bundle's head."""

    size: Count
    proof: Proof


class Checkpointed(Record):
    """A line of `checkpoints.jsonl`."""

    envelope: WireEnvelope


class Writer:
    """Takes a bundle's parts, in any order within each kind's own; `save` writes the file."""

    def __init__(self, about: About) -> None:
        self._about = about
        self._open = ExitStack()
        self._parts: dict[str, IO[bytes]] = {
            name: self._open.enter_context(tempfile.TemporaryFile()) for name in _NAMES
        }
        self._parts[_ABOUT].write(about.to_bytes())

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def checkpoint(self, envelope: Envelope) -> None:
        """Add a checkpoint; the head comes last."""
        self._line(_CHECKPOINTS, Checkpointed(envelope=envelope))

    def entry(self, entry: Entry) -> None:
        """Add a record, in order of sequence."""
        self._line(_RECORDS, entry)

    def joint(self, joint: Joint) -> None:
        """Add a consistency proof, in order of size."""
        self._line(_JOINTS, joint)

    def save(self, path: Path) -> None:
        """Write the whole bundle; the file is there completely or not at all."""
        with replacing(path) as target:
            for name, part in self._parts.items():
                size = part.seek(0, io.SEEK_END)
                part.seek(0)
                target.write(_header(name, size))
                while piece := part.read(_COPIED):
                    target.write(piece)
                target.write(bytes(-size % _BLOCK))
            target.write(bytes(2 * _BLOCK))

    def _line(self, name: str, record: Record) -> None:
        self._parts[name].write(record.to_bytes() + b"\n")


class Reader:
    """Reads a bundle from its beginning to its end, once: each call goes on from the one before.

    Raises, from every call:
        FormatError: `damaged-bundle`, or what the decoding of a line says.
    """

    def __init__(self, source: IO[bytes]) -> None:
        size = source.seek(0, io.SEEK_END)
        if size > MAX_BUNDLE_BYTES:
            raise _damaged(f"{size} bytes, the bound is {MAX_BUNDLE_BYTES}")
        source.seek(0)
        self._source = source

    def about(self) -> About:
        """Say what it is of."""
        size = self._member(_ABOUT)
        if size > MAX_LINE_BYTES:
            raise _damaged(f"{_ABOUT} has {size} bytes")
        found = About.from_bytes(self._exactly(size))
        self._padding(size)
        return found

    def checkpoints(self) -> Iterator[Envelope]:
        """Yield the checkpoints, the head last."""
        for number, line in self._lines(_CHECKPOINTS):
            yield _decoded(Checkpointed, line, f"line {number} of {_CHECKPOINTS}").envelope

    def entries(self) -> Iterator[Entry]:
        """Yield the records; an error names the last that was whole."""
        last = 0
        for number, line in self._lines(_RECORDS):
            entry = _decoded(Entry, line, f"line {number} of {_RECORDS}, behind record {last}")
            if entry.sequence <= last:
                raise _damaged(f"record {entry.sequence} comes behind record {last}")
            last = entry.sequence
            yield entry

    def joints(self) -> Iterator[Joint]:
        """Yield the consistency proofs; then the bundle must end."""
        last = -1
        for number, line in self._lines(_JOINTS):
            joint = _decoded(Joint, line, f"line {number} of {_JOINTS}")
            if joint.size <= last:
                raise _damaged(f"the proof for {joint.size} records comes behind that for {last}")
            last = joint.size
            yield joint
        if self._exactly(2 * _BLOCK) != bytes(2 * _BLOCK) or self._source.read(1):
            raise _damaged("it does not end where it should")

    def _lines(self, name: str) -> Iterator[tuple[int, bytes]]:
        size = left = self._member(name)
        number = 0
        while left:
            number += 1
            line = self._source.readline(min(left, MAX_LINE_BYTES + 1))
            if not line.endswith(b"\n"):
                raise _damaged(f"line {number} of {name} has no end within {MAX_LINE_BYTES} bytes")
            left -= len(line)
            yield number, line[:-1]
        self._padding(size)

    def _member(self, name: str) -> int:
        head = self._exactly(_BLOCK)
        try:
            size = tarfile.TarInfo.frombuf(head, "ascii", "strict").size
        except (tarfile.HeaderError, UnicodeDecodeError) as error:
            raise _damaged(f"no {name} where it belongs") from error
        if not 0 <= size <= MAX_BUNDLE_BYTES or head != _header(name, size):
            raise _damaged(f"no {name} where it belongs")
        return size

    def _padding(self, size: int) -> None:
        if any(self._exactly(-size % _BLOCK)):
            raise _damaged("bytes between its members")

    def _exactly(self, count: int) -> bytes:
        data = self._source.read(count)
        if len(data) != count:
            raise _damaged("it is cut off")
        return data


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    return info.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")


def _decoded(kind: type[_Line], line: bytes, place: str) -> _Line:
    try:
        return kind.from_bytes(line, max_bytes=MAX_LINE_BYTES)
    except FormatError as error:
        raise _damaged(f"{place}: {error.message}") from error


def _damaged(why: str) -> FormatError:
    return FormatError(
        "damaged-bundle",
        f"the bundle cannot be read: {why}",
        hint="Fetch it anew: accord audit bundle",
    )
