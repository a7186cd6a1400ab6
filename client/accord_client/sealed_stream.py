"""A file sealed by a passphrase, written and read as a stream.

    <canonical JSON header> LF  <chunk 0, empty: is it this passphrase?>  <chunk 1>  ...  <last>

Guarantees: without the passphrase the file gives away its size; each guess costs one scrypt with 64
MiB of memory; a byte that was changed, a chunk that was moved, and an end that was cut off do not
open. STREAM of Hoang, Reyhanitabar, Rogaway and Vizár 2015 over AES-256-GCM: the nonce is the
chunk's number (11 bytes, big-endian) and whether it is the last; the key is fresh for each file,
and the header is additional data of every chunk.

Not covered: bytes are handed out chunk by chunk, each authentic; that the end is the end shows only
in `Opened.finish`, so nothing may count before that.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, BinaryIO, Final, Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import StringConstraints

from accord_common.errors import FormatError, UsageError
from accord_common.fields import Record
from accord_common.sealed_key import SALT_BYTES, check_passphrase, stretch

_CHUNK_BYTES: Final = 64 << 10
_TAG_BYTES: Final = 16
_MAX_HEADER_BYTES: Final = 1024


class _Header(Record):
    format: Literal["accord-sealed-stream-v1"]
    salt: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]


class Sealed:
    """Takes bytes and writes them sealed; `close` writes the last chunk."""

    def __init__(self, target: BinaryIO, passphrase: str) -> None:
        header = _Header(format="accord-sealed-stream-v1", salt=os.urandom(SALT_BYTES).hex())
        self._target = target
        self._header = header.to_bytes()
        self._cipher = AESGCM(stretch(passphrase, bytes.fromhex(header.salt)))
        self._waiting = bytearray()
        self._count = 0
        target.write(self._header + b"\n")
        self._put(b"", last=False)

    def write(self, data: bytes) -> int:
        """Take bytes."""
        self._waiting += data
        while len(self._waiting) > _CHUNK_BYTES:  # a full chunk waits: it may be the last
            self._put(bytes(self._waiting[:_CHUNK_BYTES]), last=False)
            del self._waiting[:_CHUNK_BYTES]
        return len(data)

    def close(self) -> None:
        """End the file; without it nobody opens it."""
        self._put(bytes(self._waiting), last=True)

    def _put(self, chunk: bytes, *, last: bool) -> None:
        nonce = _nonce(self._count, last=last)
        self._target.write(self._cipher.encrypt(nonce, chunk, self._header))
        self._count += 1


class Opened:
    """Reads what `Sealed` wrote.

    Raises:
        FormatError: `bad-backup` where the bytes are no such file, or were changed or cut off.
        UsageError: `wrong-passphrase`.
    """

    def __init__(self, source: BinaryIO, passphrase: str) -> None:
        line = source.readline(_MAX_HEADER_BYTES)
        try:
            header = _Header.from_bytes(line.removesuffix(b"\n"))
        except FormatError as error:
            raise FormatError(
                "bad-backup",
                "the file does not begin as a backup does",
                hint="It comes from: accord-node backup FILE",
            ) from error
        self._source = source
        self._header = header.to_bytes()
        self._cipher = AESGCM(stretch(passphrase, bytes.fromhex(header.salt)))
        try:
            self._cipher.decrypt(_nonce(0, last=False), source.read(_TAG_BYTES), self._header)
        except InvalidTag as error:
            raise UsageError(
                "wrong-passphrase",
                "the backup does not open with this passphrase, or its beginning is damaged",
            ) from error
        self._next = source.read(_CHUNK_BYTES + _TAG_BYTES)
        self._open = b""
        self._count = 1
        self._over = False

    def read(self, size: int) -> bytes:
        """Return `size` bytes, fewer at the end."""
        while len(self._open) < size and not self._over:
            self._open += self._chunk()
        data, self._open = self._open[:size], self._open[size:]
        return data

    def finish(self) -> None:
        """Read to the end; what was read counts only once this returned."""
        while not self._over:
            self._chunk()

    def _chunk(self) -> bytes:
        sealed, self._next = self._next, self._source.read(_CHUNK_BYTES + _TAG_BYTES)
        self._over = not self._next
        nonce = _nonce(self._count, last=self._over)
        try:
            chunk = self._cipher.decrypt(nonce, sealed, self._header)
        except InvalidTag as error:
            raise FormatError(
                "bad-backup",
                f"the backup is damaged or cut off after {(self._count - 1) * _CHUNK_BYTES} bytes",
                hint="Use another copy of it.",
            ) from error
        self._count += 1
        return chunk


@contextmanager
def sealing(target: BinaryIO, passphrase: str) -> Iterator[Sealed]:
    """Seal what the block writes; the file is whole only if the block ends well.

    Raises:
        UsageError: `short-passphrase`.
    """
    check_passphrase(passphrase)
    sealed = Sealed(target, passphrase)
    yield sealed
    sealed.close()


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])
