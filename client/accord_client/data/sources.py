"""The kinds of sources that a dataset may have; `reading` says what each of them offers."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from accord_client.data.files import FileSource
from accord_client.data.images import ImagesSource
from accord_client.data.sql import SqlSource
from accord_common.image_schema import ImageSchema
from accord_common.schema import Schema

Source = Annotated[FileSource | SqlSource | ImagesSource, Field(discriminator="kind")]


def at(path: Path, schema: Schema | None) -> Source:
    """The rows that lie at a path as a person wrote it; a folder is of pictures."""
    if isinstance(schema, ImageSchema) or (schema is None and path.expanduser().is_dir()):
        return ImagesSource.at(path)
    return FileSource.at(path)
