"""What left the building: one signed line for each thing sent, written before it is sent.

`outbox.jsonl` holds one canonical JSON object a line: sequence number, the previous line's hash,
time, kind, receiver, size, SHA-256, place in a run, and the node key's signature over all of it.

Guarantees: a line is on disk (fsync) before `append` returns, so nothing leaves without one; a
changed, moved or removed line in the middle breaks the chain that `verify` walks; several processes
of one node may append. A last line that a crash cut short, or left with a hole where a sector never
reached the disk, was never followed by a send, and is dropped.

Not covered: lines cut off at the end by somebody who can write the file, and the node's own key:
whoever holds it can write a new outbox.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

from pydantic import StringConstraints

from accord_client.disk import named_failures
from accord_common import identity
from accord_common.canonical import canonical_bytes, sha256_hex
from accord_common.errors import FormatError, VerificationError
from accord_common.fields import Count, Hash, Id, PublicKey, Record, Time, format_time, now
from accord_common.files import sync
from accord_common.identity import SigningKey

FIRST = "0" * 64  # `previous` of the first line
MAX_LINE_BYTES = 4096  # every field is bounded far below
FILE_NAME = "outbox.jsonl"

_DOMAIN = b"accord outbox v1\n"
_HOLE = b"\0"  # what a sector holds that was never written; no line has one

Kind = Literal[
    "agreement-signature",
    "withdrawal",
    "suspension",
    "resumption",
    "dataset-description",
    "dataset-entry",
    "dataset-profile",
    "consent",
    "advertisement",
    "shares",
    "upload",
    "confirmation",
    "unmasking",
    "refusal",
    "acknowledgement",
    "node-receipt",
]
Receiver = Literal["registry", "aggregator"]


class Line(Record):
    """One thing that left: what, how much, to whom, and where in a run."""

    sequence: Count
    previous: Hash
    time: Time
    kind: Kind
    to: Receiver
    bytes: Count
    sha256: Hash
    run: Id | None
    round: Count | None
    attempt: Count | None


class _Signed(Line):
    key: PublicKey
    signature: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{128}$")]


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a run something was sent; empty for what belongs to no run."""

    run: str | None = None
    round: int | None = None
    attempt: int | None = None


@dataclass(frozen=True, slots=True)
class Outbox:
    """One node's outbox.

    Args:
        path: the file; made at the first line, mode 0600.
        key: the node key that signs lines.
    """

    path: Path
    key: SigningKey

    def append(
        self, kind: Kind, to: Receiver, digest: str, size: int, place: Place | None = None
    ) -> Line:
        """Write one line, durable on return.

        Args:
            kind: what is about to leave.
            to: who gets it.
            digest: SHA-256 of its bytes, hex; an upload's root stands for its chunks.
            size: bytes.
            place: where in a run.

        Raises:
            ConflictError: `outbox-unwritable`; nothing may leave then.
            VerificationError: `outbox-broken`.
        """
        place = place or Place()
        with named_failures("outbox", self.path), self._locked() as file:
            last = _last_line(file)
            line = Line(
                sequence=0 if last is None else last[0].sequence + 1,
                previous=FIRST if last is None else last[1],
                time=format_time(now()),
                kind=kind,
                to=to,
                bytes=size,
                sha256=digest,
                run=place.run,
                round=place.round,
                attempt=place.attempt,
            )
            file.write(_sign(line, self.key) + b"\n")
            file.flush()
            os.fsync(file.fileno())
            if last is None:
                sync(self.path.parent)  # the name too: a file may be on the disk without one
        return line

    @contextmanager
    def _locked(self) -> Iterator[BinaryIO]:
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file


def lines(path: Path) -> Iterator[Line]:
    """Read an outbox from its start without verifying it; nothing where there is none."""
    for _, line, _ in _signed(path):
        yield line


def lines_from(path: Path, start: int) -> tuple[list[Line], int]:
    """Read lines from a byte on, where one begins; returns them, and where the next will begin."""
    found, at = [], start
    for raw, line, _ in _signed(path, start):
        found.append(line)
        at += len(raw) + 1
    return found, at


def verify(path: Path, keys: frozenset[str]) -> int:
    """Walk the whole chain and return how many lines it has.

    Args:
        path: the file.
        keys: the node keys that may have signed, present and past.

    Raises:
        VerificationError: `outbox-broken` naming the line, `bad-signature`.
        FormatError: a line that does not decode.
    """
    head, count = FIRST, 0
    for raw, line, signed in _signed(path):
        if (line.sequence, line.previous) != (count, head):
            raise VerificationError(
                "outbox-broken",
                f"line {count + 1} of {path.name} does not follow the one before it",
                hint="Keep the file as it is and find out who changed it.",
            )
        if signed.key not in keys:
            raise VerificationError(
                "outbox-broken", f"line {count + 1} is signed by the unknown key {signed.key[:16]}"
            )
        identity.verify(
            signed.key,
            bytes.fromhex(signed.signature),
            _DOMAIN + canonical_bytes(line.to_json()),
        )
        head, count = sha256_hex(raw), count + 1
    return count


def _sign(line: Line, key: SigningKey) -> bytes:
    signature = key.sign(_DOMAIN + canonical_bytes(line.to_json()))
    signed = _Signed(**line.model_dump(), key=key.public, signature=signature.hex())
    return signed.to_bytes()


def _decode(raw: bytes) -> tuple[Line, _Signed]:
    signed = _Signed.from_bytes(raw, max_bytes=MAX_LINE_BYTES)
    return Line(**signed.model_dump(exclude={"key", "signature"})), signed


def _signed(path: Path, start: int = 0) -> Iterator[tuple[bytes, Line, _Signed]]:
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        file.seek(start)
        for number, raw in enumerate(file, 1):
            if not raw.endswith(b"\n") or (_HOLE in raw and not file.peek(1)):
                return  # cut short by a crash: never followed by a send
            raw = raw[:-1]
            try:
                yield (raw, *_decode(raw))
            except FormatError as error:
                raise FormatError(error.code, f"line {number}: {error.message}") from error


def _last_line(file: BinaryIO) -> tuple[Line, str] | None:
    """Return the last whole line and its hash, leaving the file at its end, without a torn tail."""
    size = file.seek(0, os.SEEK_END)
    start = max(0, size - 2 * MAX_LINE_BYTES)
    file.seek(start)
    tail = file.read()
    whole = tail.rfind(b"\n") + 1
    if len(tail) - whole > MAX_LINE_BYTES:
        raise VerificationError(
            "outbox-broken",
            f"the last {len(tail) - whole} bytes hold no line, a crash leaves {MAX_LINE_BYTES} at "
            "most",
            hint="Keep the file as it is and find out who changed it.",
        )
    if _HOLE in tail[tail.rfind(b"\n", 0, max(0, whole - 1)) + 1 : whole]:
        whole = tail.rfind(b"\n", 0, whole - 1) + 1  # its end reached the disk, not all before it
    if start + whole != size:
        file.truncate(start + whole)
    file.seek(start + whole)
    if not whole:
        return None
    raw = tail[tail.rfind(b"\n", 0, whole - 1) + 1 : whole - 1]
    return _decode(raw)[0], sha256_hex(raw)
