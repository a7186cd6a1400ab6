"""Rows under a declared schema: read, check, encode.

Guarantees: `encode` uses constants of the schema only, so one row's features never depend on
another row; `validate` refuses a table that breaks its contract in any cell, with the column, the
row and the bound. Row numbers count data rows from 1, without the header. Such messages quote
single values: they are for the steward at the table, and never leave a node.

Needs pandas, pandera and pyarrow; the schema itself does not.
"""

import io
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pandera.pandas as pa
import pyarrow
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray
from pandera.errors import SchemaErrors

from accord_common import lines, words
from accord_common.errors import DataError, UsageError
from accord_common.schema import Column, NumberColumn, Schema, TableSchema
from accord_common.text_schema import TextSchema

FORMATS = {".csv": "csv", ".parquet": "parquet", ".txt": "lines"}


@dataclass(frozen=True, slots=True)
class Encoded:
    """What a model sees of n rows.

    Attributes:
        features: float32 (n, p) of a table, bytes (n, C, H, W) of images, int64 (n, L) of texts.
        labels: int64 (n,).
    """

    features: NDArray[Any]
    labels: NDArray[np.int64]

    @property
    def rows(self) -> int:
        """How many rows; private at a node."""
        return len(self.labels)

    @property
    def nbytes(self) -> int:
        """Memory that they take, bytes; private at a node."""
        return self.features.nbytes + self.labels.nbytes

    def batch(self, rows: NDArray[np.int64] | slice) -> NDArray[Any]:
        """Features of some rows as a module takes them: bytes of images as float32."""
        features = self.features[rows]
        return features.astype(np.float32) if features.dtype == np.uint8 else features


def format_of(path: Path) -> str:
    """Tell a table's format by its suffix; `unknown-format` for one that `FORMATS` lacks."""
    try:
        return FORMATS[path.suffix.lower()]
    except KeyError as error:
        raise UsageError(
            "unknown-format", f"{path.name} ends in none of {', '.join(FORMATS)}"
        ) from error


def read(data: bytes, format_: str, schema: Schema) -> pd.DataFrame:
    """Decode a table and check every cell: `decode`, then `validate`."""
    return validate(decode(data, format_), schema)


def decode(data: bytes, format_: str) -> pd.DataFrame:
    """Decode a table, whatever its columns; every cell of a CSV is text.

    Args:
        data: the file's bytes; CSV is UTF-8, comma-separated, with a header.
        format_: `csv`, `parquet`, or `lines`.

    Raises:
        DataError: `unreadable-table`, `repeated-column`.
    """
    if format_ == "lines":
        return lines.read(data)
    try:
        table = (
            _read_csv(data) if format_ == "csv" else pyarrow.parquet.read_table(io.BytesIO(data))
        )
    except (pyarrow.ArrowException, UnicodeDecodeError, OSError) as error:
        raise DataError("unreadable-table", f"the file is no {format_} table: {error}") from error
    repeated = {name for name in table.column_names if table.column_names.count(name) > 1}
    if repeated:
        raise _refusal("repeated-column", f"column {min(repeated)!r} stands in the header twice")
    return table.to_pandas(ignore_metadata=True)


def validate(frame: pd.DataFrame, schema: Schema) -> pd.DataFrame:
    """Check a table against its contract.

    Returns:
        The columns of the schema, numbers as float64; categories, target and identifier as text.

    Raises:
        DataError: `missing-column`, `extra-column`, `too-few-rows`, `missing-value`, `wrong-type`,
            `out-of-range` or `unknown-category`.
    """
    present = [str(name) for name in frame.columns]
    for name in schema.wanted:
        if name not in present:
            raise _refusal("missing-column", f"column {name!r} is not in the table")
    for name in present:
        if name not in (*schema.wanted, *schema.ignored):
            raise _refusal(
                "extra-column",
                f"column {name!r} is in the table and not in the schema",
                "Remove it from the file, or declare it under `ignored`.",
            )
    refuse_too_few(len(frame), schema)
    columns = _columns(schema)
    numbers = {name: column for name, column in columns.items() if isinstance(column, NumberColumn)}
    typed = pd.DataFrame(
        {
            name: _numbers(frame[name], numbers[name]) if name in numbers else _texts(frame[name])
            for name in schema.wanted
        }
    )
    try:
        return _contract(schema).validate(typed, lazy=True)
    except SchemaErrors as error:
        raise _first_failure(error.failure_cases, schema) from None


def encode(frame: pd.DataFrame, schema: Schema) -> Encoded:
    """Turn a validated table into features and labels.

    Numbers become (x - centre) / scale; a category one 0/1 feature for each value but the first;
    a text the numbers of its words.

    Raises:
        UsageError: `wrong-kind` for a schema of images, which are files of their own.
    """
    if isinstance(schema, TextSchema):
        return Encoded(words.encode(frame[schema.column], schema), labels_of(frame, schema))
    if not isinstance(schema, TableSchema):
        raise UsageError(
            "wrong-kind",
            f"schema {schema.name!r} declares images, and this is a table",
            hint="Give the folder of the pictures.",
        )
    features = np.empty((len(frame), len(schema.features)), np.float32)
    place = 0
    for column in schema.columns:
        values = frame[column.name].to_numpy()
        if isinstance(column, NumberColumn):
            scaled = (values - float(column.centre)) / float(column.scale)
            features[:, place] = scaled
            place += 1
        else:
            for category in column.categories[1:]:
                features[:, place] = values == category
                place += 1
    return Encoded(features, labels_of(frame, schema))


def labels_of(frame: pd.DataFrame, schema: Schema) -> NDArray[np.int64]:
    """Return the positions of a validated table's classes, (n,)."""
    positions = {name: position for position, name in enumerate(schema.target.classes)}
    labels: NDArray[np.int64] = frame[schema.target.column].map(positions).to_numpy(np.int64)
    return labels


def refuse_too_few(rows: int, schema: Schema) -> None:
    """Refuse fewer rows than the schema asks for: `too-few-rows`."""
    if rows < schema.minimum_rows:
        raise _refusal("too-few-rows", f"{rows} rows, the schema asks for {schema.minimum_rows}")


def people(frame: pd.DataFrame, schema: Schema) -> list[str] | None:
    """Return each row's identifier of a validated table, without white space around it.

    None where the schema has none.
    """
    if schema.identifier is None:
        return None
    return [text.strip() for text in frame[schema.identifier]]


def _read_csv(data: bytes) -> pyarrow.Table:
    """Read every cell as text, so that this module and not a guess decides what it means."""
    data = data.removeprefix(b"\xef\xbb\xbf")  # a byte order mark, as spreadsheets write it
    options = pyarrow.csv.ParseOptions(newlines_in_values=True)
    header = pyarrow.csv.open_csv(io.BytesIO(data), parse_options=options).schema.names
    return pyarrow.csv.read_csv(
        io.BytesIO(data),
        parse_options=options,
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(header, pyarrow.string()), strings_can_be_null=False
        ),
    )


def _numbers(values: pd.Series, column: NumberColumn) -> pd.Series:
    """Return float64 values; a cell that is no number, or no whole one, is refused."""
    _refuse_missing(values, column.name)
    dtype = pd.api.types
    if dtype.is_bool_dtype(values) or dtype.is_datetime64_any_dtype(values):
        raise _cell("wrong-type", column.name, 0, values.iloc[0], f"no {column.type}")
    numbers = pd.to_numeric(values, errors="coerce")
    wrong = numbers.isna()
    if column.type == "integer":
        wrong |= numbers != np.floor(numbers)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise _cell("wrong-type", column.name, row, values.iloc[row], f"no {column.type}")
    return numbers.astype(np.float64)


def _texts(values: pd.Series) -> pd.Series:
    """Return text; whole numbers are written without a point, other types are refused."""
    name = str(values.name)
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(object)
    _refuse_missing(values, name)
    if pd.api.types.is_integer_dtype(values):
        return values.astype(str)
    for row, value in enumerate(values):
        if not isinstance(value, str):
            raise _cell("wrong-type", name, row, value, "neither text nor a whole number")
    return values


def _refuse_missing(values: pd.Series, name: str) -> None:
    missing = values.isna() | (values == "").fillna(False)
    if missing.any():
        row = int(np.argmax(missing))
        raise _refusal(
            "missing-value",
            f"column {name!r}, row {row + 1}: the cell is empty or NaN",
            "Fill it in or remove the row; missing values are not imputed.",
        )


def _columns(schema: Schema) -> dict[str, Column]:
    """Columns with bounds or categories of their own, by name."""
    if not isinstance(schema, TableSchema):
        return {}
    return {column.name: column for column in schema.columns}


def _contract(schema: Schema) -> pa.DataFrameSchema:
    """Build the pandera schema that checks ranges and categories."""
    columns = {name: pa.Column(str) for name in schema.wanted}
    for column in _columns(schema).values():
        if isinstance(column, NumberColumn):
            check = pa.Check.in_range(float(column.minimum), float(column.maximum))
            columns[column.name] = pa.Column(np.float64, check)
        else:
            columns[column.name] = pa.Column(str, pa.Check.isin(column.categories))
    columns[schema.target.column] = pa.Column(str, pa.Check.isin(schema.target.classes))
    return pa.DataFrameSchema(columns, strict=True)


def _first_failure(failures: pd.DataFrame, schema: Schema) -> DataError:
    """Describe the first cell that broke the contract, in the words of the schema."""
    first = failures.iloc[0]
    name, row, value = str(first["column"]), int(first["index"]), first["failure_case"]
    column = _columns(schema).get(name)
    if isinstance(column, NumberColumn):
        low, high = Decimal(column.minimum), Decimal(column.maximum)
        return _cell("out-of-range", name, row, value, f"outside [{low}, {high}]")
    known = schema.target.classes if column is None else column.categories
    return _cell("unknown-category", name, row, value, f"none of {', '.join(known[:20])}")


def _cell(code: str, name: str, row: int, value: object, reason: str) -> DataError:
    return _refusal(code, f"column {name!r}, row {row + 1}: {str(value)[:80]!r} is {reason}")


def _refusal(code: str, message: str, hint: str = "") -> DataError:
    return DataError(code, message, hint=hint or "Correct the file, or the schema it is held to.")
