"""The declared schema of images: size, scale and classes.

Guarantees: as `schema`. What a picture is turned into follows from its file and these constants:
decoded as stored (no EXIF rotation, no colour profile, no alpha), made grey or RGB, brought to the
size by the rule that is named here.
"""

from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from accord_common.fields import Dec
from accord_common.schema_parts import Contract

MAX_SIDE = 1024  # pixels
FILE = "file"  # the column of `labels.csv` with the pictures' names

Side = Annotated[int, Field(ge=1, le=MAX_SIDE)]
Channels = Annotated[list[Dec], Field(min_length=1, max_length=3)]


class ImageSchema(Contract):
    """Pictures of one size; a value v of a channel, 0 to 255, becomes (v / 255 - centre) / scale.

    The target's column, `identifier` and `ignored` are columns of the file `labels.csv`.
    """

    kind: Literal["images"]
    height: Side
    width: Side
    channels: Literal[1, 3]  # grey, or red, green and blue
    resize: Literal["refuse", "stretch"]  # what becomes of a picture of another size
    centre: Channels  # one number a channel, as the next
    scale: Channels

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name in ("centre", "scale"):
            given = len(getattr(self, name))
            if given != self.channels:
                raise ValueError(f"{name} has {given} numbers for {self.channels} channels")
        for scale in self.scale:
            if Decimal(scale) <= 0:
                raise ValueError(f"scale {scale} is not above 0")
        return self

    @property
    def inputs(self) -> tuple[str, ...]:
        """See `Contract`."""
        return (FILE,)
