"""The field types of signed records, each with its bound; see SPEC.md, "Field types"."""

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Literal, Self

import uuid_utils
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)

from accord_common.canonical import Json, canonical_bytes, parse
from accord_common.errors import FormatError

MAX_RECORD_BYTES = 1 << 20  # the largest agreement of 100 parties and datasets needs about 120 KiB
CLOCK_TOLERANCE_S = 300  # each party uses its own clock; order comes from hashes

_DECIMAL = re.compile(r"(0|-?[1-9][0-9]{0,15}|-?0(?=\.))(\.[0-9]{0,23}[1-9])?")
# Control, invisible and direction-changing characters: with them a text reads otherwise than it is
# signed ("epsilon 001" for 100), and two names look alike. A fixed list, for Unicode's own grows.
_UNREADABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")


def _decimal(value: str) -> str:
    if not _DECIMAL.fullmatch(value):
        raise ValueError("not a decimal in shortest form, such as 0.25 (no exponent, no +, no 1.0)")
    return value


def _time(value: str) -> str:
    if not _TIME.fullmatch(value):
        raise ValueError("not a UTC time such as 2026-01-31T12:00:00Z")
    datetime.fromisoformat(value)
    return value


def _text(value: str) -> str:
    if found := _UNREADABLE.search(value):
        raise ValueError(f"the control or invisible character U+{ord(found[0]):04X} is not allowed")
    return value


Hash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
PublicKey = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
FlowerPublicKey = Annotated[str, StringConstraints(pattern=r"^0[23][0-9a-f]{96}$")]
Id = Annotated[
    str,
    StringConstraints(
        pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"
    ),
]
Dec = Annotated[str, AfterValidator(_decimal)]
Time = Annotated[str, AfterValidator(_time)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=100), AfterValidator(_text)]
Text = Annotated[str, StringConstraints(max_length=4000), AfterValidator(_text)]
Slug = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$", max_length=64)]
Count = Annotated[int, Field(ge=0, lt=2**53)]
Positive = Annotated[int, Field(ge=1, lt=2**53)]
Adjacency = Literal["add-remove", "replace-one"]
Unit = Literal["record", "patient"]  # whom differential privacy protects


class Record(BaseModel):
    """Base of every record body: immutable, strictly typed, no unknown field."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    def to_bytes(self) -> bytes:
        """Return the record's RFC 8785 bytes."""
        return canonical_bytes(self.to_json())

    def to_json(self) -> Json:
        """Return the record as JSON values; a field that is None is written as null."""
        value: Json = self.model_dump(mode="json")
        return value

    @classmethod
    def from_bytes(cls, data: bytes, *, max_bytes: int = MAX_RECORD_BYTES) -> Self:
        """Decode strictly.

        Raises:
            FormatError: `too-large`, `not-json`, `not-canonical`, or `bad-record` naming the field.
        """
        return cls.from_json(parse(data, max_bytes=max_bytes))

    @classmethod
    def from_json(cls, value: Json) -> Self:
        """Validate JSON values; `bad-record` names the first wrong field and why."""
        try:
            return cls.model_validate_json(canonical_bytes(value))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "record"
            raise FormatError("bad-record", f"{cls.__name__}.{where}: {first['msg']}") from error


def new_id() -> str:
    """Return a fresh UUIDv7 (RFC 9562, 5.7)."""
    return str(uuid_utils.uuid7())


def to_decimal(value: float | Decimal | str) -> str:
    """Write a number as the shortest decimal string that a record may hold."""
    number = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    text = format(number, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return _decimal("0" if text in {"-0", ""} else text)


def format_time(moment: datetime) -> str:
    """Write a time as RFC 3339 UTC with whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str) -> datetime:
    """Read a `Time` field."""
    return datetime.fromisoformat(text)


def now() -> datetime:
    """Return the present time; the only clock that processes read, passed in from their edge."""
    return datetime.now(UTC)
