"""Tables in files: `.csv` and `.parquet`, where they lie.

The mark's hash is SHA-256 of the file's bytes; at a glance a file is known by size and time of
modification. Not covered: a change that keeps both goes unseen until the file is read.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from accord_client.data.reading import (
    PathSource,
    Reading,
    absolute,
    refuse_changed,
    refuse_changing,
)
from accord_common.canonical import sha256_hex
from accord_common.errors import DataError
from accord_common.schema import Schema

if TYPE_CHECKING:
    import pandas as pd


class FileSource(PathSource):
    """One file."""

    kind: Literal["file"]

    @classmethod
    def at(cls, path: Path) -> FileSource:
        """The file at a path as a person wrote it."""
        return cls(kind="file", path=absolute(path))

    def glance(self) -> str:
        """Size in bytes and time of modification in ns since 1970; `dataset-missing`."""
        try:
            seen = Path(self.path).stat()
        except OSError as error:
            raise DataError(
                "dataset-missing",
                f"{self.path}: {error.strerror}",
                hint="Put the file back, or point to its new place: accord-node dataset update.",
            ) from error
        return f"{seen.st_size} bytes of {seen.st_mtime_ns}"

    def read(self, schema: Schema, *, known: str | None = None) -> Reading:
        """Read the whole file and check every cell.

        Args:
            schema: the contract.
            known: the SHA-256 that it must have, or None.

        Raises:
            DataError: `dataset-missing`, `dataset-changed` (also while it was read), or the codes
                of `tables.decode` and `tables.validate`.
            UsageError: `unknown-format`.
        """
        from accord_common import tables  # pandas and pandera: seconds that --help need not take

        format_, before = tables.format_of(Path(self.path)), self.glance()
        data = self._bytes()
        refuse_changing(self.path, before, self.glance())
        sha256 = sha256_hex(data)
        refuse_changed(self.path, sha256, known)
        frame = tables.decode(data, format_)
        rows = tables.validate(frame, schema)
        return Reading(
            table=tables.encode(rows, schema),
            people=tables.people(rows, schema),
            frame=frame,
            glance=before,
            sha256=sha256,
        )

    def columns(self) -> pd.DataFrame:
        """Read the columns as they are, under no schema; errors as in `read`."""
        from accord_common import tables

        return tables.decode(self._bytes(), tables.format_of(Path(self.path)))

    def _bytes(self) -> bytes:
        try:
            return Path(self.path).read_bytes()
        except OSError as error:
            raise DataError("dataset-missing", f"{self.path}: {error.strerror}") from error
