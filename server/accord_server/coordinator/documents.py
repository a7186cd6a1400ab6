"""Short YAML documents that a person writes: terms of an agreement, plan of a run.

Guarantees: an unknown, repeated or wrong entry is refused with its place and what is wrong; numbers
become the exact decimals that signed records hold, whether written 0.00001, 1e-5 or "1e-5".
"""

from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from accord_common import yaml_text
from accord_common.errors import UsageError
from accord_common.fields import Dec, to_decimal

MAX_DOCUMENT_BYTES = 1 << 20


class Document(BaseModel):
    """Base of what people write: entries may be left out, unknown ones are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _number(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("must be a number")
    try:
        return to_decimal(value if isinstance(value, float) else Decimal(value))
    except (InvalidOperation, ValueError) as error:
        raise ValueError(
            f"{value!r} is no plain number, or has over 24 digits behind the point"
        ) from error


Number = Annotated[Dec, BeforeValidator(_number)]

_Document = TypeVar("_Document", bound=Document)


def read(path: Path, kind: type[_Document]) -> _Document:
    """Read a document of one kind.

    Raises:
        UsageError: `unreadable-file`, or `bad-document` naming the first wrong entry.
    """
    try:
        data = path.expanduser().read_bytes()
    except OSError as error:
        raise UsageError("unreadable-file", f"{path}: {error.strerror}") from error
    return decode(data, kind, path.name)


def decode(data: bytes, kind: type[_Document], name: str) -> _Document:
    """Decode YAML bytes; `name` appears in messages."""
    try:
        value = yaml_text.parse(data, max_bytes=MAX_DOCUMENT_BYTES)
    except ValueError as error:
        raise _bad(name, str(error)) from error
    if not isinstance(value, dict):
        raise _bad(name, "the document is no list of `name: value` entries")
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the document"
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            message = f"no such entry; there are {', '.join(_entries(kind, first['loc'][:-1]))}"
        raise _bad(name, f"{place}: {message}") from error


def _entries(kind: type[BaseModel], place: tuple[int | str, ...]) -> list[str]:
    """Names that the mapping at `place` may hold; those of the whole document below lists."""
    for part in place:
        field = kind.model_fields.get(str(part))
        inner = None if field is None else field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            kind = inner
    return sorted(kind.model_fields)


def _bad(name: str, message: str) -> UsageError:
    return UsageError("bad-document", f"{name}: {message}")
