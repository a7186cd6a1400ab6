"""The kinds of sources that a dataset may have; `reading` says what each of them offers."""

from typing import Annotated

from pydantic import Field

from accord_client.data.files import FileSource
from accord_client.data.sql import SqlSource

Source = Annotated[FileSource | SqlSource, Field(discriminator="kind")]
