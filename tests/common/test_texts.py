"""Texts with labels, in tables and in lines."""

import io
from pathlib import Path

import pandas as pd
import pytest

from accord_common import tables, words
from accord_common.errors import AccordError
from accord_common.tables import Encoded
from tests.common.test_pictures import schema as of_images
from tests.common.test_words import schema

CSV = b'note,patient,text,label\nx,P1,"How far, how near?",1\ny,P2,Here.,0\n'


def read(data: bytes, format_: str = "csv", **changes: object) -> Encoded:
    contract = schema(**changes)
    return tables.encode(tables.read(data, format_, contract), contract)


def test_a_table_gives_words_and_labels() -> None:
    found = read(CSV, identifier="patient", ignored=["note"])
    numbers = [words.number_of(word, 64) for word in ("how", "far", "near", "here")]
    assert found.features.tolist() == [
        [numbers[0], numbers[1], numbers[0], numbers[2]],
        [numbers[3], 0, 0, 0],
    ]
    assert found.labels.tolist() == [1, 0]
    parquet = io.BytesIO()
    pd.read_csv(io.BytesIO(CSV), dtype=str).to_parquet(parquet)
    same = read(parquet.getvalue(), "parquet", identifier="patient", ignored=["note"])
    assert (same.features == found.features).all()
    contract = schema(identifier="patient", ignored=["note"])
    assert tables.people(tables.read(CSV, "csv", contract), contract) == ["P1", "P2"]


def test_lines_give_the_same() -> None:
    lines = "\ufeff1 How far, how near?\r\n\n  0\tHere.  \n".encode()
    plain = b"text,label\n" + CSV.partition(b"\n")[2].replace(b"x,P1,", b"").replace(b"y,P2,", b"")
    assert (read(lines, "lines").features == read(plain).features).all()
    assert read(lines, "lines").labels.tolist() == [1, 0]
    assert tables.format_of(Path("a/questions.TXT")) == "lines"


@pytest.mark.parametrize(
    ("data", "format_", "code"),
    [
        (CSV, "csv", "extra-column.*'note'"),
        (b"text\na\n", "csv", "missing-column.*'label'"),
        (b"text,label\na,0\n,1\n", "csv", "missing-value.*'text', row 2"),
        (b"text,label\na,2\n", "csv", "unknown-category.*'label', row 1: '2' is none of 0, 1"),
        (b"text,label\n", "csv", "too-few-rows"),
        (b"1 a\n\n0\n", "lines", "missing-value.*line 3"),
        (b"1 caf\xe9\n", "lines", "unreadable-table.*UTF-8"),
        (b"2 a\n", "lines", "unknown-category.*'2'"),
    ],
)
def test_each_mistake_is_named(data: bytes, format_: str, code: str) -> None:
    with pytest.raises(AccordError, match=code):
        read(data, format_)


def test_a_table_is_no_folder_of_pictures() -> None:
    contract = of_images(minimum_rows=1)
    frame = tables.read(b"file,label\na.png,0\n", "csv", contract)
    with pytest.raises(AccordError, match=r"wrong-kind.*images"):
        tables.encode(frame, contract)
