"""What every kind of source gives: rows that met their schema, and a mark to know them again by.

A source is a record `{kind, ...}` of a registration, with

    place     where it lies, for people
    identity  the same text for two sources that read the same thing
    glance()  a short text that differs when the source has visibly changed; cheap, reads no row
    read()    every row, checked against the schema; where a hash is known, `refuse_changed` comes
              before any row is looked at
    columns() the columns as they are, under no schema, for the report on identifiers; of sources
              that are tables

and is listed in `sources.Source`. Nothing else in the node knows one kind from another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from accord_common.errors import DataError
from accord_common.fields import Count, Hash, Record, Text

if TYPE_CHECKING:
    import pandas as pd

    from accord_common.tables import Encoded


class PathSource(Record):
    """A source that lies at a place of the file system; `path` is absolute."""

    path: str

    @property
    def place(self) -> str:
        """Where it lies."""
        return self.path

    @property
    def identity(self) -> str:
        """The file or folder behind all links to it."""
        return str(Path(self.path).resolve())


def absolute(path: Path) -> str:
    """Write a path that a person gave as a `PathSource` holds it."""
    return str(path.expanduser().absolute())


class Mark(Record):
    """How a source looked when it was checked; private to the node.

    Attributes:
        glance: what `glance` said; empty for a source that cannot tell without being read.
        sha256: over all that was read; which bytes, each kind of source says.
        rows: how many rows.
        training: how many of them training may see, were nobody to opt out.
        patients: how many identifiers; None where the schema has none.
    """

    glance: Text
    sha256: Hash
    rows: Count
    training: Count
    patients: Count | None


@dataclass(frozen=True, slots=True)
class Reading:
    """All rows of a source, each of which met the schema.

    Attributes:
        table: features and labels, n rows.
        people: n identifiers, in the order of the rows, without white space around them; None where
            the schema has none.
        frame: the columns as they were found, undeclared ones too; None for what is no table.
        glance: see `Mark`.
        sha256: see `Mark`.
    """

    table: Encoded
    people: Sequence[str] | None
    frame: pd.DataFrame | None
    glance: str
    sha256: str


def refuse_changed(place: str, found: str, known: str | None) -> None:
    """Compare the hash of what was read with the one it must have.

    Raises:
        DataError: `dataset-changed`.
    """
    if known is not None and found != known:
        raise changed(place)


def refuse_changing(place: str, before: str, after: str) -> None:
    """Compare the glances before and after all was read.

    Raises:
        DataError: `dataset-changed`.
    """
    if before != after:
        raise DataError("dataset-changed", f"{place} changed while it was read", hint="Try again.")


def changed(place: str) -> DataError:
    """The refusal of a source that is not what was checked."""
    return DataError(
        "dataset-changed",
        f"{place} changed since it was last checked",
        hint="Check it again: accord-node dataset update",
    )
