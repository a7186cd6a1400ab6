"""What the schemas of tables, images and texts share."""

from abc import abstractmethod
from functools import cached_property
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from accord_common.canonical import sha256_hex
from accord_common.fields import Name, Positive, Record, Slug

MAX_CLASSES = 1000
MAX_COLUMNS = 10_000


class Target(Record):
    """What is predicted; the label is the value's position in `classes`, compared as text."""

    column: Name
    type: Literal["binary", "classes"]
    classes: Annotated[list[Name], Field(min_length=2, max_length=MAX_CLASSES)]

    @model_validator(mode="after")
    def _counted(self) -> Self:
        refuse_repeats("class", self.classes)
        if self.type == "binary" and len(self.classes) != 2:
            raise ValueError(f"a binary target has 2 classes, not {len(self.classes)}")
        return self


class Contract(Record):
    """The part of a schema that does not depend on what a row is made of."""

    name: Slug
    target: Target
    identifier: Name | None  # whose each row is; never a feature
    ignored: Annotated[list[Name], Field(max_length=MAX_COLUMNS)]  # may be present; never read
    minimum_rows: Positive

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        refuse_repeats("column", [*self.wanted, *self.ignored])
        return self

    @property
    @abstractmethod
    def inputs(self) -> tuple[str, ...]:
        """Names of the columns that features are made of."""

    @property
    def wanted(self) -> tuple[str, ...]:
        """Names of all columns that are read."""
        identifier = () if self.identifier is None else (self.identifier,)
        return *self.inputs, self.target.column, *identifier

    @cached_property
    def hash(self) -> str:
        """SHA-256 (hex) of the schema's canonical bytes."""
        return sha256_hex(self.to_bytes())

    @property
    def classes(self) -> int:
        """How many classes the target has."""
        return len(self.target.classes)


def refuse_repeats(kind: str, names: list[str]) -> None:
    """Raise ValueError, naming the first name that stands there twice."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{kind} {name!r} is named twice")
        seen.add(name)
