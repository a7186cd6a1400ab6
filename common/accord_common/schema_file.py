"""A schema as a person writes it, in YAML or JSON.

    name: breast-cancer
    target: {column: malignant, type: binary}    # classes 0 and 1 unless named
    identifier: patient                          # optional; never a feature
    ignored: [comment]                           # optional; may be present, never read
    minimum_rows: 20                             # optional
    columns:
      - {name: radius, type: number, minimum: 0, maximum: 50, centre: 14, scale: 3.5}
      - {name: children, type: integer, minimum: 0, maximum: 20}
      - {name: stage, type: category, categories: [I, II, III]}

Centre and scale default to the middle and half the width of the range. Images and texts name their
kind; here they stand with what may be left out behind a #:

    name: chest
    kind: images
    height: 64
    width: 64
    channels: 1                                  # grey; 3 for colours
    target: {type: classes, classes: [clear, shadow]}    # column: label
    # resize: refuse, or stretch; centre: [0.5]; scale: [0.5]

    name: questions
    kind: text
    target: {type: classes, classes: [who, where, when]}    # column: label
    # column: text; buckets: 4096; length: 64; words: casefold-sha256

Identifier, ignored and minimum_rows mean the same in all three. Each mistake is refused with the
column's name. Needs PyYAML (`yaml_text`), neither pandas nor torch.
"""

from decimal import Decimal, InvalidOperation, localcontext
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from accord_common import yaml_text
from accord_common.errors import DataError
from accord_common.fields import to_decimal
from accord_common.image_schema import ImageSchema
from accord_common.schema import Schema, TableSchema
from accord_common.text_schema import TextSchema

MAX_SCHEMA_BYTES = 1 << 20
DEFAULT_MINIMUM_ROWS = 20  # noise that hides one of fewer rows leaves nothing to learn
DEFAULT_BUCKETS = 4096  # some thousand words of a narrow field collide little
DEFAULT_LENGTH = 64  # words: a paragraph
_KINDS: dict[str, type[TableSchema | ImageSchema | TextSchema]] = {
    "table": TableSchema,
    "images": ImageSchema,
    "text": TextSchema,
}


def load(path: Path) -> Schema:
    """Read a schema that a person wrote, `.yaml`, `.yml` or `.json`.

    Raises:
        DataError: `unreadable-file`, or `bad-schema` naming the column and what is wrong.
    """
    try:
        text = path.read_bytes()[: MAX_SCHEMA_BYTES + 1]
    except OSError as error:
        raise DataError("unreadable-file", f"{path}: {error.strerror}") from error
    try:
        value = yaml_text.parse(text, max_bytes=MAX_SCHEMA_BYTES)
    except ValueError as error:
        raise _bad(f"{path.name}: {error}") from error
    return from_document(value)


def from_document(value: object) -> Schema:
    """Complete and validate a decoded document; see `load` for the defaults.

    Raises:
        DataError: `bad-schema`.
    """
    if not isinstance(value, dict):
        raise _bad("the document is not a mapping of fields")
    document: dict[str, Any] = {"kind": "table", "identifier": None, "ignored": []} | value
    document.setdefault("minimum_rows", DEFAULT_MINIMUM_ROWS)
    kind = document["kind"]
    if not isinstance(kind, str) or kind not in _KINDS:
        raise _bad(f"kind: {kind!r} is none of {', '.join(_KINDS)}")
    if isinstance(target := document.get("target"), dict):
        if target.get("type") == "binary":
            target = {"classes": ["0", "1"]} | target
        document["target"] = _texts(target, "classes")
    complete = {"table": _complete_table, "images": _complete_images, "text": _complete_text}
    complete[kind](document)
    try:
        return _KINDS[kind].model_validate(document)
    except ValidationError as error:
        raise _explain(error, document) from error


def _complete_table(document: dict[str, Any]) -> None:
    if isinstance(columns := document.get("columns"), list):
        document["columns"] = [_complete_column(column) for column in columns]


def _complete_images(document: dict[str, Any]) -> None:
    """Pixels come to lie between -1 and 1."""
    document.setdefault("resize", "refuse")
    if isinstance(target := document.get("target"), dict):
        target.setdefault("column", "label")
    for field in ("centre", "scale"):
        if field in document:
            given = document[field]
            document[field] = list(map(_decimal_text, given)) if isinstance(given, list) else given
        elif document.get("channels") in (1, 3):
            document[field] = ["0.5"] * document["channels"]


def _complete_text(document: dict[str, Any]) -> None:
    document.setdefault("column", "text")
    document.setdefault("words", "casefold-sha256")
    document.setdefault("buckets", DEFAULT_BUCKETS)
    document.setdefault("length", DEFAULT_LENGTH)
    if isinstance(target := document.get("target"), dict):
        target.setdefault("column", "label")


def _complete_column(column: object) -> object:
    """Write numbers as decimals, fill in centre and scale, write categories as text."""
    if not isinstance(column, dict):
        return column
    column = _texts(column, "categories")
    for field in ("minimum", "maximum", "centre", "scale"):
        if field in column:
            column[field] = _decimal_text(column[field])
    if {"minimum", "maximum"} <= column.keys():
        try:
            low, high = Decimal(column["minimum"]), Decimal(column["maximum"])
            with localcontext(prec=50):
                column.setdefault("centre", to_decimal((low + high) / 2))
                column.setdefault("scale", to_decimal((high - low) / 2))
        except (InvalidOperation, TypeError, ValueError):
            pass  # validation names the field
    return column


def _decimal_text(value: object) -> object:
    """Write a number as a record's decimal; leave what is none for validation to name."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return value
    try:
        return to_decimal(value if isinstance(value, float) else str(value))
    except (InvalidOperation, ValueError):
        return str(value)


def _texts(mapping: dict[Any, Any], field: str) -> dict[Any, Any]:
    """Write integers in a list of names as text: `categories: [1, 2]` means the texts 1 and 2."""
    names = mapping.get(field)
    if not isinstance(names, list):
        return dict(mapping)
    whole = [str(n) if isinstance(n, int) and not isinstance(n, bool) else n for n in names]
    return mapping | {field: whole}


def _explain(error: ValidationError, document: dict[str, Any]) -> DataError:
    """Name the column, by its name where it has one, and the field of the first mistake."""
    first = error.errors(include_url=False)[0]
    place = [str(part) for part in first["loc"]]
    if place[:1] == ["columns"] and len(place) > 1:
        column = document["columns"][int(place[1])]
        name = column.get("name") if isinstance(column, dict) else None
        label = f"column {name!r}" if name else f"column number {int(place[1]) + 1}"
        place = [label, *place[3:]]  # place[2] repeats the column's type
    message = first["msg"].removeprefix("Value error, ")
    return _bad(f"{', '.join(place) or 'the document'}: {message}")


def _bad(message: str) -> DataError:
    return DataError(
        "bad-schema",
        message,
        hint="A column has a name, a type (number, integer, category), and minimum and maximum, "
        "or categories; images have height, width and channels.",
    )
