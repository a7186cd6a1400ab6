"""Short YAML documents that a person writes: terms of an agreement, plan of a run.

Guarantees: an unknown, repeated or wrong entry is refused with line, column, its place, its value
and what is wrong, all wrong entries at once; numbers become the exact decimals that signed records
hold, whether written 0.00001, 1e-5 or "1e-5"; a template's blank that was left is named as one.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from accord_common import yaml_text
from accord_common.errors import AccordError, UsageError
from accord_common.fields import Dec, to_decimal

MAX_DOCUMENT_BYTES = 1 << 20
_MOST_SHOWN = 60  # characters of a wrong value
_FORMS = {  # what a pattern means, for people
    "^[a-z][a-z0-9]*(-[a-z0-9]+)*$": "must be lower-case words joined by `-`",
    "^[0-9a-f]{64}$": "must be a hash, 64 lower-case hex digits",
}
_BLANK = re.compile("<[a-z][^<>]*>")  # what a template leaves to its reader: <name of the study>


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


@dataclass(frozen=True, slots=True)
class Source:
    """Where entries stand, so that what is found wrong later is told with its line.

    Attributes:
        name: the file's, for people; empty for what came from no file.
        places: line and column by path.
    """

    name: str = ""
    places: Mapping[yaml_text.Path, yaml_text.Place] = field(default_factory=dict)

    def where(self, path: yaml_text.Path) -> str:
        """Write a place: `terms.yaml:12:5: `, that of the nearest entry around it."""
        for length in range(len(path), 0, -1):
            if (found := self.places.get(path[:length])) is not None:
                return f"{self.name}:{found[0]}:{found[1]}: "
        return f"{self.name}: " if self.name else ""


@dataclass(frozen=True, slots=True)
class Written(Generic[_Document]):
    """A document, and where its entries stand."""

    content: _Document
    source: Source


@dataclass(slots=True)
class Problems:
    """What is wrong with a document, collected so that all of it is told at once."""

    source: Source
    found: list[AccordError] = field(default_factory=list)

    def add(self, path: yaml_text.Path, error: AccordError) -> None:
        """Note an error of one entry; its message begins with its place."""
        told = f"{self.source.where(path)}{error.message}"
        if not any((known.code, known.message) == (error.code, told) for known in self.found):
            self.found.append(type(error)(error.code, told, hint=error.hint))

    @contextmanager
    def at(self, *path: int | str) -> Iterator[None]:
        """Note what is raised inside, as an error of the entry at `path`, and go on."""
        try:
            yield
        except AccordError as error:
            self.add(path, error)

    def stop(self, code: str) -> None:
        """Raise where there are any: the one alone as itself, several together under `code`."""
        if len(self.found) == 1:
            raise self.found[0]
        if self.found:
            lines = [f"[{item.code}] {item.message} {item.hint}".rstrip() for item in self.found]
            raise UsageError(code, "\n  ".join([f"{len(lines)} entries are wrong:", *lines]))


def read(path: Path, kind: type[_Document]) -> _Document:
    """Read a document of one kind.

    Raises:
        UsageError: `unreadable-file`, or `bad-document` naming every wrong entry.
    """
    return read_with_places(path, kind).content


def read_with_places(path: Path, kind: type[_Document]) -> Written[_Document]:
    """The same, with the places of its entries."""
    try:
        data = path.expanduser().read_bytes()
    except OSError as error:
        raise UsageError("unreadable-file", f"{path}: {error.strerror}") from error
    return decode_with_places(data, kind, path.name)


def decode(data: bytes, kind: type[_Document], name: str) -> _Document:
    """Decode YAML bytes; `name` appears in messages."""
    return decode_with_places(data, kind, name).content


def decode_with_places(data: bytes, kind: type[_Document], name: str) -> Written[_Document]:
    """The same, with the places of its entries."""
    try:
        value = yaml_text.parse(data, max_bytes=MAX_DOCUMENT_BYTES)
    except ValueError as error:
        raise _bad(name, str(error)) from error
    if not isinstance(value, dict):
        raise _bad(name, "the document is no list of `name: value` entries")
    source = Source(name, yaml_text.places(data))
    blanks = dict(_blanks(value))
    problems = Problems(source)
    for path, blank in blanks.items():
        text = f"{_place(path)} = {blank}: a template's blank that is not filled in"
        problems.add(path, UsageError("bad-document", text))
    content = None
    try:
        content = kind.model_validate(value)
    except ValidationError as error:
        for item in error.errors(include_url=False):
            if item["loc"] not in blanks:
                problems.add(item["loc"], UsageError("bad-document", explain(item, kind)))
    problems.stop("bad-document")
    assert content is not None  # else there was a problem
    return Written(content, source)


def explain(error: Any, kind: type[BaseModel]) -> str:
    """Write an item of `ValidationError.errors()`: place, value, what is wrong, what is right."""
    place, value = _place(error["loc"]), error["input"]
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        known = _entries(kind, error["loc"][:-1])
        near = get_close_matches(str(error["loc"][-1]), known, n=1)
        meant = f"; did you mean {near[0]}? Else" if near else ""
        return f"{place}: no such entry{meant or ';'} there are {', '.join(known)}"
    if error["type"] == "missing":
        return f"{place}: is not given, and has no default"
    if error["type"] == "string_pattern_mismatch":
        message = _FORMS.get(error["ctx"]["pattern"], message)
    shown = repr(value)
    if isinstance(value, dict | list) or shown in message or not error["loc"]:
        return f"{place}: {message}"
    return f"{place} = {shown[:_MOST_SHOWN]}: {message}"


def _blanks(value: Any, path: yaml_text.Path = ()) -> Iterable[tuple[yaml_text.Path, str]]:
    if isinstance(value, str) and (blank := _BLANK.search(value)):
        yield path, blank[0]
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _blanks(item, (*path, str(key)))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _blanks(item, (*path, number))


def _place(path: yaml_text.Path) -> str:
    return ".".join(str(part) for part in path) or "the document"


def _entries(kind: type[BaseModel], place: yaml_text.Path) -> list[str]:
    """Names that the mapping at `place` may hold."""
    for part in place:
        field_ = kind.model_fields.get(str(part))
        inner = None if field_ is None else field_.annotation
        for found in (inner, *get_args(inner)):  # itself, an item of a list, or one of a union
            if isinstance(found, type) and issubclass(found, BaseModel):
                kind = found
    return sorted(kind.model_fields)


def _bad(name: str, message: str) -> UsageError:
    return UsageError("bad-document", f"{name}: {message}")
