"""Texts with labels: read, check, encode.

    question,label                     a CSV or Parquet table; the schema names its columns
    How far is it?,where

    where How far is it?               or a .txt file: a line is a label, spaces, and its text

Guarantees: as `words` and `labels`. Needs pandas and pyarrow.
"""

import pandas as pd

from accord_common import labels, words
from accord_common.errors import DataError
from accord_common.tables import Encoded
from accord_common.text_schema import TextSchema


def read_lines(data: bytes, schema: TextSchema) -> pd.DataFrame:
    """Decode lines of UTF-8, each a label, blanks and a text; empty lines are left out.

    Raises:
        DataError: `unreadable-table`, or `missing-value` naming a line without a text.
    """
    try:
        lines = data.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(
            "unreadable-table", f"the file is no UTF-8: {error}", hint="Convert it to UTF-8."
        ) from error
    rows = []
    for number, line in enumerate(lines, 1):
        label, _, text = line.strip().partition(" ")
        if label and not text:
            raise DataError(
                "missing-value",
                f"line {number} is no label and a text",
                hint="Write `label text`, or remove the line.",
            )
        if label:
            rows.append((label, text))
    return pd.DataFrame(rows, columns=[schema.target.column, schema.column], dtype=object)


def validate(frame: pd.DataFrame, schema: TextSchema) -> pd.DataFrame:
    """Check rows against the schema; see `labels.validate`."""
    return labels.validate(frame, schema, schema.column)


def encode(frame: pd.DataFrame, schema: TextSchema) -> Encoded:
    """Turn validated rows into numbers of words (n, length) and labels."""
    return Encoded(words.encode(frame[schema.column], schema), labels.numbers(frame, schema))
