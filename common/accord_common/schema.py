"""The declared schema of a table: what a row looks like, without any row.

Guarantees: everything that scales or encodes a feature is a public constant of the schema, never an
estimate from rows; the hash covers all of it, so parties that agree on the hash compute the same
features. Decimals are strings, as in every signed record.

`schema_file` reads what a person wrote; `tables` validates and encodes rows.
"""

from decimal import Decimal
from functools import cached_property
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from accord_common.canonical import sha256_hex
from accord_common.fields import Dec, Name, Positive, Record, Slug

MAX_COLUMNS = 10_000


class NumberColumn(Record):
    """A feature (x - centre) / scale; every value lies in [minimum, maximum]."""

    name: Name
    type: Literal["number", "integer"]
    minimum: Dec
    maximum: Dec
    centre: Dec
    scale: Dec

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if Decimal(self.minimum) >= Decimal(self.maximum):
            raise ValueError(f"minimum {self.minimum} is not below maximum {self.maximum}")
        if Decimal(self.scale) <= 0:
            raise ValueError(f"scale {self.scale} is not above 0")
        return self

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features that this column gives."""
        return (self.name,)


class CategoryColumn(Record):
    """One feature, 0 or 1, for each category but the first; values are compared as text."""

    name: Name
    type: Literal["category"]
    categories: Annotated[list[Name], Field(min_length=2, max_length=1000)]

    @model_validator(mode="after")
    def _unique(self) -> Self:
        _refuse_repeats("category", self.categories)
        return self

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features that this column gives."""
        return tuple(f"{self.name}={value}" for value in self.categories[1:])


Column = Annotated[NumberColumn | CategoryColumn, Field(discriminator="type")]


class Target(Record):
    """What is predicted; the label is the value's position in `classes`, compared as text."""

    column: Name
    type: Literal["binary", "classes"]
    classes: Annotated[list[Name], Field(min_length=2, max_length=1000)]

    @model_validator(mode="after")
    def _counted(self) -> Self:
        _refuse_repeats("class", self.classes)
        if self.type == "binary" and len(self.classes) != 2:
            raise ValueError(f"a binary target has 2 classes, not {len(self.classes)}")
        return self


class Schema(Record):
    """A table's contract; columns named nowhere in it are refused."""

    name: Slug
    columns: Annotated[list[Column], Field(min_length=1, max_length=MAX_COLUMNS)]
    target: Target
    identifier: Name | None  # whose each row is; never a feature
    ignored: Annotated[list[Name], Field(max_length=MAX_COLUMNS)]  # may be present; never read
    minimum_rows: Positive

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        identifier = [] if self.identifier is None else [self.identifier]
        named = [column.name for column in self.columns]
        _refuse_repeats("column", [*named, self.target.column, *identifier, *self.ignored])
        return self

    @cached_property
    def hash(self) -> str:
        """SHA-256 (hex) of the schema's canonical bytes."""
        return sha256_hex(self.to_bytes())

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the encoded features, in order."""
        return tuple(name for column in self.columns for name in column.features)

    @property
    def classes(self) -> int:
        """How many classes the target has."""
        return len(self.target.classes)


def _refuse_repeats(kind: str, names: list[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{kind} {name!r} is named twice")
        seen.add(name)
