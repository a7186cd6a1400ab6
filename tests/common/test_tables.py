"""A table is held to its schema, cell by cell, and encoded by public constants only."""

import io
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accord_common.errors import AccordError
from accord_common.schema import Schema
from accord_common.schema_file import from_document
from accord_common.tables import encode, read, validate

SCHEMA = from_document(
    {
        "name": "clinic",
        "target": {"column": "ill", "type": "binary", "classes": ["no", "yes"]},
        "identifier": "patient",
        "ignored": ["comment"],
        "minimum_rows": 3,
        "columns": [
            {"name": "age", "type": "integer", "minimum": 0, "maximum": 120},
            {
                "name": "dose",
                "type": "number",
                "minimum": 0,
                "maximum": 1,
                "centre": 0.5,
                "scale": 0.2,
            },
            {"name": "stage", "type": "category", "categories": ["I", "NA", "3"]},
        ],
    }
)
CSV = """patient,age,dose,stage,ill,comment
p1,30,0.5,I,no,
p2,60,0.7,NA,yes,"a, b
c"
p3,120,1e-1,3,yes,x
"""


def refused(text: str, code: str, message: str, schema: Schema = SCHEMA) -> None:
    with pytest.raises(AccordError, match=rf"\[{code}\].*{message}"):
        read(text.encode(), "csv", schema)


def test_a_csv_becomes_features_and_labels() -> None:
    encoded = encode(read(CSV.encode(), "csv", SCHEMA), SCHEMA)
    assert encoded.features.dtype == np.float32
    # (rows, age | dose | stage=NA | stage=3)
    expected = np.array([[-0.5, 0, 0, 0], [0, 1, 1, 0], [1, -2, 0, 1]])
    assert np.allclose(encoded.features, expected)
    assert encoded.labels.tolist() == [0, 1, 1]
    assert encoded.labels.dtype == np.int64


def test_parquet_with_its_own_types_gives_the_same() -> None:
    frame = pd.read_csv(io.StringIO(CSV), keep_default_na=False, dtype={"stage": "category"})
    buffer = io.BytesIO()
    frame.to_parquet(buffer)
    from_parquet = encode(read(buffer.getvalue(), "parquet", SCHEMA), SCHEMA)
    from_csv = encode(read(b"\xef\xbb\xbf" + CSV.encode(), "csv", SCHEMA), SCHEMA)
    assert np.array_equal(from_parquet.features, from_csv.features)
    assert np.array_equal(from_parquet.labels, from_csv.labels)


@pytest.mark.parametrize(
    ("old", "new", "code", "message"),
    [
        ("age", "years", "missing-column", "'age'"),
        ("comment", "note", "extra-column", "'note'"),
        ("comment", "age", "repeated-column", "'age'"),
        ("60,", ",", "missing-value", "'age', row 2"),
        ("0.7", "nan", "wrong-type", "'dose', row 2: 'nan' is no number"),
        ("0.7", "?", "wrong-type", r"'dose', row 2: '\?' is no number"),
        ("0.7", "inf", "out-of-range", r"'dose', row 2: 'inf' is outside \[0, 1\]"),
        ("0.7", "1.01", "out-of-range", r"'dose', row 2: '1.01' is outside \[0, 1\]"),
        ("60", "60.5", "wrong-type", "'age', row 2: '60.5' is no integer"),
        ("60", "-1", "out-of-range", r"'age', row 2: '-1.0' is outside \[0, 120\]"),
        (",I,", ",II,", "unknown-category", "'stage', row 1: 'II' is none of I, NA, 3"),
        ("no,", "No,", "unknown-category", "'ill', row 1: 'No' is none of no, yes"),
        ("p3,", "", "unreadable-table", "Expected 6 columns, got 5"),
        (CSV[CSV.index("p2") :], "", "too-few-rows", "1 rows, the schema asks for 3"),
        (CSV, "", "unreadable-table", "[Ee]mpty"),
    ],
)
def test_each_breach_names_column_row_and_bound(
    old: str, new: str, code: str, message: str
) -> None:
    assert old in CSV
    refused(CSV.replace(old, new), code, message)


def test_bytes_that_are_no_table_are_refused() -> None:
    with pytest.raises(AccordError, match="unreadable-table"):
        read(b"PAR1 not really", "parquet", SCHEMA)
    with pytest.raises(AccordError, match="unreadable-table"):
        read(CSV.encode("utf-16"), "csv", SCHEMA)
    with pytest.raises(AccordError, match="unreadable-table"):
        read(CSV.replace("p1", "\udcff").encode("utf-8", "surrogateescape"), "csv", SCHEMA)


@pytest.mark.parametrize(
    ("column", "values", "code"),
    [
        ("age", [True, False, True], "wrong-type"),
        ("age", [1, None, 3], "missing-value"),
        ("age", pd.to_datetime(["2026-01-01"] * 3), "wrong-type"),
        ("stage", [1.0, 2.0, 3.0], "wrong-type"),
        ("ill", [True, False, True], "wrong-type"),
    ],
)
def test_types_of_other_kinds_are_refused(column: str, values: Any, code: str) -> None:
    frame = pd.DataFrame(
        {
            "patient": [1, 2, 3],
            "age": [1, 2, 3],
            "dose": [0.1, 0.2, 0.3],
            "stage": ["I"] * 3,
            "ill": ["no", "yes", "no"],
        }
    )
    assert len(validate(frame, SCHEMA)) == 3
    frame[column] = values
    with pytest.raises(AccordError, match=f"{code}.*'{column}'"):
        validate(frame, SCHEMA)


@given(
    ages=st.lists(st.integers(0, 120), min_size=3, max_size=8),
    position=st.integers(0, 2),
)
def test_a_row_is_encoded_alike_whatever_the_others_are(ages: list[int], position: int) -> None:
    def frame(values: list[int]) -> pd.DataFrame:
        n = len(values)
        return pd.DataFrame(
            {
                "patient": range(n),
                "age": values,
                "dose": [value / 120 for value in values],
                "stage": ["I"] * n,
                "ill": ["no"] * n,
            }
        )

    whole = encode(validate(frame(ages), SCHEMA), SCHEMA)
    alone = encode(validate(frame([ages[position]] * 3), SCHEMA), SCHEMA)
    assert np.array_equal(whole.features[position], alone.features[0])
