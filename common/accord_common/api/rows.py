"""Views as flat rows: for spreadsheets, data frames and lists.

Guarantees: a spreadsheet runs nothing that is in a cell: text that it might take for a formula is
preceded by an apostrophe (OWASP, "CSV Injection"). Nothing is lost or rounded; null is empty.
"""

import csv
import io
import re
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")


def to_rows(views: Sequence[BaseModel]) -> list[dict[str, Any]]:
    """Return one flat dict a view, as `pandas.DataFrame` takes them; lists are joined by spaces.

    Decimals stay strings: `frame.astype({"spent": float})` makes numbers of them.
    """
    return [{name: _flat(value) for name, value in view} for view in views]


def to_csv(model: type[BaseModel], views: Sequence[BaseModel]) -> str:
    """Write views of one model as RFC 4180, with a header line and a column for each field."""
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(model.model_fields)
    for row in to_rows(views):
        writer.writerow(_cell(row[name]) for name in model.model_fields)
    return out.getvalue()


def _flat(value: object) -> object:
    return " ".join(map(str, value)) if isinstance(value, list) else value


def _cell(value: object) -> object:
    if isinstance(value, str) and value.startswith(_FORMULA) and not _NUMBER.fullmatch(value):
        return f"'{value}"
    return value
