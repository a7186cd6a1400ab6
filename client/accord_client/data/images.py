"""Pictures in a folder, or in a pair of IDX files, where they lie; see `picture_files`.

The mark's hash is over names, labels, identifiers and bytes; at a glance a folder is known by the
names, sizes and times of modification of all its files, also of those that `labels.csv` leaves out.
"""

from pathlib import Path
from typing import Literal, NoReturn

from accord_client.data.reading import (
    PathSource,
    Reading,
    absolute,
    changed,
    refuse_changed,
    refuse_changing,
)
from accord_common.errors import DataError, UsageError
from accord_common.image_schema import ImageSchema
from accord_common.schema import Schema


class ImagesSource(PathSource):
    """A folder, or the file of an IDX pair that holds the images."""

    kind: Literal["images"]

    @classmethod
    def at(cls, path: Path) -> "ImagesSource":
        """The folder or file at a path as a person wrote it."""
        return cls(kind="images", path=absolute(path))

    def glance(self) -> str:
        """See `picture_files.glance`; `dataset-missing`."""
        from accord_common import picture_files  # pandas and Pillow, which --help need not load

        return picture_files.glance(Path(self.path))

    def read(self, schema: Schema, *, known: str | None = None) -> Reading:
        """Decode every picture.

        Args:
            schema: the contract.
            known: the SHA-256 that they must have, or None.

        Raises:
            DataError: `dataset-missing`, `dataset-changed` (also while they were read), or the
                codes of `picture_files.read`.
            UsageError: `wrong-kind`, `unknown-format`.
        """
        from accord_common import picture_files

        if not isinstance(schema, ImageSchema):
            raise UsageError(
                "wrong-kind", f"schema {schema.name!r} declares {schema.kind}, not images"
            )
        before = self.glance()
        try:
            found = picture_files.read(Path(self.path), schema)
        except DataError as error:
            if known is None or error.code == "dataset-missing":
                raise
            raise changed(self.path) from error  # all of them met the schema when it was known
        refuse_changed(self.path, found.sha256, known)
        refuse_changing(self.path, before, self.glance())
        return Reading(
            table=found.table,
            people=found.people,
            frame=None,
            glance=before,
            sha256=found.sha256,
        )

    def columns(self) -> NoReturn:
        """Pictures have none: `no-columns`."""
        raise UsageError(
            "no-columns",
            f"{self.path} holds pictures, which have no columns to look at",
            hint=f"For the list beside them: accord-node dataset report {self.path}/labels.csv",
        )
