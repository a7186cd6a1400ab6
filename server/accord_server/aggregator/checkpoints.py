"""Models and optimiser state on disk, named by what they hold.

Guarantees: a checkpoint is there whole and durable, or not at all; `load` returns only what has the
hash that was asked for. Only safetensors is read. The newest two stay, older ones go.

Not covered: which checkpoint counts; the journal's last completed round says that.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save_file

from accord_common.errors import FormatError, VerificationError
from accord_common.files import put_in_place

Vector = NDArray[np.float32]
MODEL = "model"
KEPT = 2
MOST_VECTORS = 3  # a model and two moments
HEADER_BYTES = 1024  # above what safetensors writes for them


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model (d,) and its optimiser's state, each (d,), float32."""

    model: Vector
    state: dict[str, Vector]


class Checkpoints:
    """The folder of one run's checkpoints."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        self.folder = folder
        for leftover in folder.glob("*.part"):
            leftover.unlink()
        found = sorted(folder.glob("*.safetensors"), key=lambda path: path.stat().st_mtime_ns)
        self._names = [path.stem for path in found]

    def save(self, model: Vector, state: Mapping[str, Vector]) -> str:
        """Store durably and return the file's SHA-256, which is its name."""
        part = self.folder / "next.part"
        try:
            save_file({MODEL: model, **state}, part)
        except SafetensorError as error:  # how that library reports a full disk
            raise OSError(f"{part} cannot be written: {error}") from error
        with part.open("rb") as file:
            name = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
        put_in_place(part, self._path(name))
        if name in self._names:
            self._names.remove(name)
        self._names.append(name)
        return name

    def require_space(self, dimension: int) -> None:
        """Raise OSError where the disk has no room for one more checkpoint of that size."""
        part = self.folder / "space.part"
        try:
            with part.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, 4 * dimension * MOST_VECTORS + HEADER_BYTES)
        finally:
            part.unlink(missing_ok=True)

    def prune(self) -> None:
        """Delete all but the newest `KEPT`; call it once the journal names the newest."""
        while len(self._names) > KEPT:
            self._path(self._names.pop(0)).unlink(missing_ok=True)

    def load(self, name: str) -> Checkpoint:
        """Read a checkpoint.

        Raises:
            VerificationError: `checkpoint-altered`, `checkpoint-missing`.
            FormatError: `bad-checkpoint`.
        """
        try:
            data = self._path(name).read_bytes()
        except FileNotFoundError as error:
            raise VerificationError("checkpoint-missing", f"{self._path(name)} is gone") from error
        if hashlib.sha256(data).hexdigest() != name:
            raise VerificationError(
                "checkpoint-altered",
                f"{self._path(name)} does not hash to its name",
                hint="The disk or somebody changed it; restore the file from a backup.",
            )
        try:
            arrays = load(data)
        except SafetensorError as error:
            raise FormatError("bad-checkpoint", f"{name[:16]}: {error}") from error
        if MODEL not in arrays or any(part.dtype != np.float32 for part in arrays.values()):
            raise FormatError("bad-checkpoint", f"{name[:16]} holds no float32 model")
        model = arrays.pop(MODEL)
        return Checkpoint(model, arrays)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"
