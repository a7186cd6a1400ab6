"""A backup's file: what is in it, and how it is told from anything else.

A tar of `manifest.json`, `registry.db` (SQLite, whatever the registry runs on, so any engine
restores it and a newer release migrates it first) and `blobs/HASH`, in this order. The manifest is
signed by the log key and names the database's hash; the database names the blobs. It holds no
secret: neither the log key, nor the server's key, nor a token or an invitation's code, of which the
database keeps hashes.
"""

import hashlib
import io
import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated, Literal

from pydantic import Field

from accord_common.envelope import Envelope, sign
from accord_common.errors import FormatError, UsageError, VerificationError
from accord_common.fields import Count, Hash, Name, PublicKey, Record, Text, Time
from accord_common.identity import SigningKey

KIND = "registry-backup"
MANIFEST, DATABASE, BLOBS = "manifest.json", "registry.db", "blobs/"
PIECE_BYTES = 1 << 20
_MOST_MANIFEST_BYTES = 1 << 16  # it is about 1 KiB
_BLOB = re.compile(r"blobs/([0-9a-f]{64})")


class Manifest(Record):
    """What a backup says of itself; `head` is the last record's leaf, null where there is none.

    `size` (bytes) and `sha256` are the database's.
    """

    format: Literal[1]
    release: Name
    created: Time
    log_key: PublicKey
    url: Text
    host: Name
    port: Annotated[int, Field(ge=1, le=65535)]
    records: Count
    head: Hash | None
    size: Count
    sha256: Hash


class Writer:
    """Adds the parts of a backup, in their order."""

    def __init__(self, file: IO[bytes]) -> None:
        self._tar = tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT)

    def manifest(self, manifest: Manifest, key: SigningKey) -> None:
        """Sign and add the manifest."""
        data = sign(KIND, manifest, key).to_bytes()
        self._tar.addfile(_member(MANIFEST, len(data)), io.BytesIO(data))

    def file(self, name: str, path: Path, size: int, sha256: str) -> None:
        """Add a file; VerificationError `damaged-blob` unless it is what it should be."""
        with path.open("rb") as source:
            checked = _Digested(source)
            try:
                self._tar.addfile(_member(name, size), checked)
            except OSError as error:  # it is shorter than `size`: tarfile's own word for it
                if error.errno is not None:
                    raise
                raise _damaged_blob(path) from error
            if source.read(1) or checked.digest.hexdigest() != sha256:
                raise _damaged_blob(path)

    def close(self) -> None:
        """Write the end."""
        self._tar.close()


class Reader:
    """Reads the parts of a backup, in their order; nothing is believed before it is verified."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._members = iter(tar)
        self._tar = tar

    def manifest(self, log_key: str) -> Manifest:
        """Read the manifest.

        Raises:
            UsageError: `wrong-log-key`: it is another registry's.
            VerificationError: the signature does not hold.
            FormatError: `damaged-backup`.
        """
        member = self._next(MANIFEST)
        if member.size > _MOST_MANIFEST_BYTES:
            raise damaged("its manifest is too large")
        source = self._tar.extractfile(member)
        assert source is not None  # `_next` takes plain files only
        try:
            envelope = Envelope.from_bytes(source.read())
            manifest = Manifest.from_bytes(envelope.payload)
        except FormatError as error:
            raise damaged(f"its manifest: {error.message}") from error
        if envelope.kind != KIND:
            raise damaged(f"it begins with a {envelope.kind}")
        if manifest.log_key != log_key:
            raise UsageError(
                "wrong-log-key",
                f"the backup is of the registry with log key {manifest.log_key[:16]}, "
                f"not {log_key[:16]}",
                hint="Name the log.pem that was in that registry's folder.",
            )
        envelope.verify([log_key])
        return manifest

    def database(self, manifest: Manifest, to: Path) -> None:
        """Write the database to a file."""
        member = self._next(DATABASE)
        with to.open("xb") as target:
            if (member.size, self._copy(member, target)) != (manifest.size, manifest.sha256):
                raise damaged("its database is not the one that its manifest names")

    def blobs(self) -> Iterator[tuple[str, int, IO[bytes]]]:
        """Hash, size and bytes of each blob; the bytes are to be verified."""
        for member in self._members:
            found = _BLOB.fullmatch(member.name)
            source = self._tar.extractfile(member) if found and member.isfile() else None
            if found is None or source is None:
                raise damaged(f"it holds {member.name[:100]!r}")
            yield found[1], member.size, source

    def _next(self, name: str) -> tarfile.TarInfo:
        member = next(self._members, None)
        if member is None or member.name != name or not member.isfile():
            raise damaged(f"{name} is not where it should be")
        return member

    def _copy(self, member: tarfile.TarInfo, target: IO[bytes]) -> str:
        source = self._tar.extractfile(member)
        assert source is not None
        digest = hashlib.sha256()
        while piece := source.read(PIECE_BYTES):
            digest.update(piece)
            target.write(piece)
        return digest.hexdigest()


@contextmanager
def reading(file: Path) -> Iterator[Reader]:
    """Open a backup; FormatError `damaged-backup` where it is none, or is cut off."""
    try:
        with tarfile.open(file, "r:") as tar:
            yield Reader(tar)
    except tarfile.TarError as error:
        raise damaged(str(error)) from error
    except FileNotFoundError as error:
        raise UsageError("no-file", f"{file} is not there") from error


def damaged(what: str) -> FormatError:
    """What is said of a file that is no whole backup."""
    return FormatError(
        "damaged-backup", f"the file is no whole backup: {what}", hint="Take another backup file."
    )


class _Digested(io.RawIOBase):
    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        piece = self._source.read(size)
        self.digest.update(piece)
        return piece


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o600
    return member


def _damaged_blob(path: Path) -> VerificationError:
    return VerificationError(
        "damaged-blob",
        f"{path} is not what its name says",
        hint="Put the file back from an older backup; without it nobody gets that model.",
    )
