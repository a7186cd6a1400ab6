"""The declared schema of texts: how words become numbers, and the classes.

Guarantees: as `schema`. Words are hashed into a public number of buckets, so no vocabulary is made
of private texts, and a word's number depends on nothing but the word.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from accord_common.fields import Name
from accord_common.schema_parts import Contract

MAX_BUCKETS = 1 << 20
MAX_LENGTH = 4096  # words
NOTHING = 0  # the number that stands where a text has ended


class TextSchema(Contract):
    """Texts with a label; a row of a table with a column of text, whose other columns are named."""

    kind: Literal["text"]
    column: Name
    words: Literal["casefold-sha256"]  # the rule of `words`, the only one so far
    buckets: Annotated[int, Field(ge=2, le=MAX_BUCKETS)]  # a power of 2
    length: Annotated[int, Field(ge=1, le=MAX_LENGTH)]  # words read of a text

    @model_validator(mode="after")
    def _power(self) -> Self:
        if self.buckets & (self.buckets - 1):
            raise ValueError(f"buckets {self.buckets} is no power of 2")
        return self

    @property
    def inputs(self) -> tuple[str, ...]:
        """See `Contract`."""
        return (self.column,)

    @property
    def numbers(self) -> int:
        """How many numbers a place of an encoded text may hold: `NOTHING`, or a bucket."""
        return NOTHING + 1 + self.buckets
