"""The declared schema of a dataset: what a row looks like, without any row.

A row is a table's, an image (`image_schema`) or a text (`text_schema`); `kind` says which.

Guarantees: everything that scales or encodes a feature is a public constant of the schema, never an
estimate from rows; the hash covers all of it, so parties that agree on the hash compute the same
features. Decimals are strings, as in every signed record.

`schema_file` reads what a person wrote; `tables`, `images` and `texts` validate and encode rows.
"""

from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from accord_common.canonical import parse
from accord_common.errors import FormatError
from accord_common.fields import MAX_RECORD_BYTES, Dec, Name, Record
from accord_common.image_schema import ImageSchema
from accord_common.schema_parts import MAX_COLUMNS, Contract, refuse_repeats
from accord_common.text_schema import TextSchema


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
        refuse_repeats("category", self.categories)
        return self

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features that this column gives."""
        return tuple(f"{self.name}={value}" for value in self.categories[1:])


Column = Annotated[NumberColumn | CategoryColumn, Field(discriminator="type")]


class TableSchema(Contract):
    """A table's contract; columns named nowhere in it are refused."""

    kind: Literal["table"]
    columns: Annotated[list[Column], Field(min_length=1, max_length=MAX_COLUMNS)]

    @property
    def inputs(self) -> tuple[str, ...]:
        """See `Contract`."""
        return tuple(column.name for column in self.columns)

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the encoded features, in order."""
        return tuple(name for column in self.columns for name in column.features)


Schema = Annotated[TableSchema | ImageSchema | TextSchema, Field(discriminator="kind")]
_SCHEMA: TypeAdapter[Schema] = TypeAdapter(Schema)


def validate(document: object) -> Schema:
    """Make a schema of JSON values; raises pydantic's `ValidationError`."""
    return _SCHEMA.validate_python(document)


def from_bytes(data: bytes) -> Schema:
    """Decode a schema's canonical bytes strictly.

    Raises:
        FormatError: `too-large`, `not-json`, `not-canonical`, or `bad-record` naming the field.
    """
    document = parse(data, max_bytes=MAX_RECORD_BYTES)
    try:
        return validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "record"
        raise FormatError("bad-record", f"schema.{where}: {first['msg']}") from error
