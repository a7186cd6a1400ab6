"""What is counted of a table for its profile; nothing of anybody who opted out."""

from pathlib import Path

import pytest

from accord_client.data.files import FileSource
from accord_client.data.profiling import measure
from accord_client.data.reading import Mark
from accord_client.data.split import Split
from accord_client.datasets import LocalDataset
from accord_common.fields import format_time, new_id, now
from accord_common.profiles import Counts
from accord_common.schema import CategoryColumn, NumberColumn, TableSchema
from accord_common.schema_parts import Target

SCHEMA = TableSchema(
    kind="table",
    name="tumours",
    columns=[
        NumberColumn(
            name="age", type="integer", minimum="0", maximum="120", centre="60", scale="9"
        ),
        CategoryColumn(name="stage", type="category", categories=["I", "II"]),
    ],
    target=Target(column="dead", type="binary", classes=["no", "yes"]),
    identifier="patient",
    ignored=["note"],
    minimum_rows=1,
)
ROWS = [
    ("a", "61", "I", "no", "x"),
    ("b", "", "II", "yes", "x"),
    (" a ", "61.5", "III", "no", ""),
    ("c", "121", "", "maybe", ""),
    ("d", "old", "I", "no", ""),
    ("e", "61", "I", "no", "other"),
    ("gone", "1", "I", "yes", ""),
]


def dataset(path: Path) -> LocalDataset:
    return LocalDataset(
        id=new_id(),
        name="tumours",
        source=FileSource.at(path),
        population=new_id(),
        table=SCHEMA,
        size=200,
        unit="record",
        policy="ask",
        split=Split.make("0"),
        allowed={},
        mark=Mark(glance="", sha256="ab" * 32, rows=7, training=7, patients=6),
        added=format_time(now()),
    )


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_defects_categories_and_repeats_are_counted(tmp_path: Path, suffix: str) -> None:
    """As the table is, though it meets its schema no more."""
    path = tmp_path / f"tumours.{suffix}"
    if suffix == "csv":
        lines = ["patient,age,stage,dead,note", *(",".join(row) for row in ROWS)]
        path.write_text("\n".join(lines) + "\n")
    else:
        import pandas as pd

        frame = pd.DataFrame(ROWS, columns=["patient", "age", "stage", "dead", "note"])
        frame.loc[1, "age"] = None
        frame.to_parquet(path)
    found = measure(dataset(path), frozenset({"gone"}))
    assert found.rows == 6
    assert found.columns["age"] == Counts(missing=1, wrong_type=2, outside=1)
    assert found.columns["stage"] == Counts(missing=1, outside=1, levels={"I": 3, "II": 1})
    assert found.columns["dead"] == Counts(outside=1, levels={"no": 4, "yes": 1})
    assert found.columns["patient"] == Counts()
    assert (found.repeated_rows, found.repeated_identifiers) == (1, 1)


def test_a_column_that_is_gone_is_missing_everywhere(tmp_path: Path) -> None:
    path = tmp_path / "tumours.parquet"
    import pandas as pd

    pd.DataFrame(
        {"age": [1, 2], "stage": pd.Categorical(["I", "II"]), "dead": [True, False]}
    ).to_parquet(path)
    found = measure(dataset(path), frozenset({"gone"}))
    assert found.columns["patient"].missing == 2 and found.repeated_identifiers == 0
    assert found.columns["stage"].levels == {"I": 1, "II": 1}
    assert found.columns["dead"].wrong_type == 2 and found.columns["age"] == Counts()
