"""Models and optimiser state on disk, named by what they hold; read and written block by block.

Guarantees: a checkpoint is there whole and durable, or not at all; `load` returns only what has the
hash that was asked for. A file is safetensors: `model`, and what the optimiser keeps beside it, all
float32 of one length. The newest two stay, older ones go; one that is in use stays readable. No
vector is ever whole in memory.

Not covered: which checkpoint counts; the journal's last completed round says that.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from accord_common.bulk import Body, digest
from accord_common.errors import FormatError, VerificationError
from accord_common.files import put_in_place
from accord_common.manifest import RunManifest
from accord_common.secagg.sealing import sealed_bytes
from accord_server.aggregator.open_file import OpenFile

Vector = NDArray[np.float32]
MODEL = "model"
KEPT = 2
MOST_VECTORS = 3  # a model and two moments
HEADER_BYTES = 1024  # more than the head of a file needs
_LENGTH_BYTES = 8  # before the JSON: its length, little-endian


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What one file holds, unread.

    Attributes:
        name: the file's SHA-256.
        vectors: name -> float32, little-endian, 4 d bytes; `model` is the first.
        model_hash: SHA-256 of the model's bytes, h_r of the round that starts from it.
    """

    name: str
    vectors: Mapping[str, Body]
    model_hash: str


class Checkpoints:
    """The folder of one run's checkpoints."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        self.folder = folder
        for leftover in folder.glob("*.part"):
            leftover.unlink()
        found = sorted(folder.glob("*.safetensors"), key=lambda path: path.stat().st_mtime_ns)
        self._names = [path.stem for path in found]

    def save(
        self, names: Sequence[str], dimension: int, blocks: Iterable[Mapping[str, Vector]]
    ) -> Checkpoint:
        """Store durably what the blocks join to.

        Args:
            names: `model` and what else there is.
            dimension: d.
            blocks: consecutive parts of all vectors, name -> (block,).
        """
        head, part = _head(names, dimension), self.folder / "next.part"
        try:
            file = OpenFile(part.open("wb", buffering=0))
            model = _write(file, head, names, dimension, blocks)
            file.sync()
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        with part.open("rb") as written:
            name = hashlib.file_digest(written, "sha256").hexdigest()
        put_in_place(part, self._path(name))
        if name in self._names:
            self._names.remove(name)
        self._names.append(name)
        return Checkpoint(name, _vectors(self._open(name), names, dimension, len(head)), model)

    def require_space(self, size: int) -> None:
        """Raise OSError where the disk has no room for so many bytes."""
        part = self.folder / "space.part"
        try:
            with part.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, size)
        finally:
            part.unlink(missing_ok=True)

    def prune(self) -> None:
        """Delete all but the newest `KEPT`; call it once the journal names the newest."""
        while len(self._names) > KEPT:
            self._path(self._names.pop(0)).unlink(missing_ok=True)

    def load(self, name: str) -> Checkpoint:
        """Open a checkpoint, after reading it once to verify it.

        Raises:
            VerificationError: `checkpoint-altered`, `checkpoint-missing`.
            FormatError: `bad-checkpoint`.
        """
        file = self._open(name)
        if digest(file.body(0, file.size)) != name:
            raise VerificationError(
                "checkpoint-altered",
                f"{self._path(name)} does not hash to its name",
                hint="The disk or somebody changed it; restore the file from a backup.",
            )
        names, dimension, head = _read_head(file, name)
        vectors = _vectors(file, names, dimension, head)
        return Checkpoint(name, vectors, digest(vectors[MODEL]))

    def _open(self, name: str) -> OpenFile:
        try:
            return OpenFile.read_only(self._path(name))
        except FileNotFoundError as error:
            raise VerificationError("checkpoint-missing", f"{self._path(name)} is gone") from error

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"


def space(manifest: RunManifest) -> int:
    """Bytes of disk that one round may need at once: uploads, the sum, the next checkpoint."""
    bits = manifest.secagg.ring_bits
    uploads = manifest.n * sealed_bytes(manifest.dimension, bits)
    total = manifest.dimension * bits // 8
    return uploads + total + 4 * manifest.dimension * MOST_VECTORS + HEADER_BYTES


def open_verified(path: Path, name: str) -> Body | None:
    """Open a file that has this SHA-256; None where there is none, or it has another."""
    try:
        file = OpenFile.read_only(path)
    except FileNotFoundError:
        return None
    body = file.body(0, file.size)
    return body if digest(body) == name else None


def _write(
    file: OpenFile,
    head: bytes,
    names: Sequence[str],
    dimension: int,
    blocks: Iterable[Mapping[str, Vector]],
) -> str:
    """Write head and vectors; return the model's hash."""
    model, start = hashlib.sha256(), 0
    file.write(0, [head])
    for block in blocks:
        for index, name in enumerate(names):
            data = block[name].astype("<f4", copy=False).tobytes()
            file.write(len(head) + 4 * (index * dimension + start), [data])
            if name == MODEL:
                model.update(data)
        start += block[MODEL].shape[0]
    return model.hexdigest()


def _vectors(file: OpenFile, names: Sequence[str], dimension: int, head: int) -> Mapping[str, Body]:
    size = 4 * dimension
    return {name: file.body(head + index * size, size) for index, name in enumerate(names)}


def _head(names: Sequence[str], dimension: int) -> bytes:
    """What safetensors has before the vectors; padded, so that they are aligned."""
    size = 4 * dimension
    entries = {
        name: {
            "dtype": "F32",
            "shape": [dimension],
            "data_offsets": [index * size, (index + 1) * size],
        }
        for index, name in enumerate(names)
    }
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _LENGTH_BYTES)
    return len(text).to_bytes(_LENGTH_BYTES, "little") + text


def _read_head(file: OpenFile, name: str) -> tuple[list[str], int, int]:
    """Return the names, d, and the head's length; `bad-checkpoint` for any but our own form."""
    try:
        length = int.from_bytes(file.read(0, _LENGTH_BYTES), "little") + _LENGTH_BYTES
        head = file.read(0, min(length, HEADER_BYTES))
        entries = json.loads(head[_LENGTH_BYTES:])
        names, (dimension,) = list(entries), entries[MODEL]["shape"]
        if head == _head(names, dimension) and file.size == len(head) + 4 * dimension * len(names):
            return names, dimension, len(head)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise FormatError("bad-checkpoint", f"{name[:16]} holds no float32 model")
