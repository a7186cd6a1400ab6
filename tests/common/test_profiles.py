"""Profiles: what a share may tell, whatever the table."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accord_common.errors import PolicyError, VerificationError
from accord_common.profiles import (
    BANDS,
    Band,
    Counts,
    Measured,
    Profile,
    band_of,
    check,
    step_of,
    summarise,
)
from accord_common.schema import CategoryColumn, NumberColumn, TableSchema
from accord_common.schema_parts import Target

LEVELS = ["I", "II", "III"]
SCHEMA = TableSchema(
    kind="table",
    name="tumours",
    columns=[
        NumberColumn(
            name="age", type="integer", minimum="0", maximum="120", centre="60", scale="9"
        ),
        CategoryColumn(name="stage", type="category", categories=LEVELS),
    ],
    target=Target(column="dead", type="binary", classes=["no", "yes"]),
    identifier="patient",
    ignored=[],
    minimum_rows=20,
)
CELL = st.one_of(st.integers(0, 12), st.integers(0, 3000))


def measured(defects: list[int], stages: list[int], dead: int, repeats: list[int]) -> Measured:
    rows = sum(stages) + sum(defects)
    missing, wrong, outside = defects
    columns = {
        "age": Counts(missing, wrong, outside),
        "stage": Counts(missing, wrong, outside, dict(zip(LEVELS, stages, strict=True))),
        "dead": Counts(levels={"no": rows - min(dead, rows), "yes": min(dead, rows)}),
        "patient": Counts(missing),
    }
    return Measured(rows, columns, *(min(repeat, rows) for repeat in repeats))


TABLES = st.builds(
    measured,
    st.lists(CELL, min_size=3, max_size=3),
    st.lists(CELL, min_size=3, max_size=3),
    CELL,
    st.lists(CELL, min_size=2, max_size=2),
).filter(lambda table: table.rows >= 100)


def cells(table: Measured, made: Profile) -> list[tuple[int, int | None]]:
    """Each count beside the share that is told of it."""
    found = [
        (table.repeated_rows, made.repeated_rows),
        (table.repeated_identifiers, made.repeated_identifiers),
    ]
    for column in made.columns:
        counts = table.columns[column.name]
        found += [
            (counts.missing, column.missing),
            (counts.wrong_type, column.wrong_type),
            (counts.outside, column.outside),
        ]
        declared = {"stage": LEVELS, "dead": ["no", "yes"]}.get(column.name, [])
        found += [
            (counts.levels[level], share)
            for level, share in zip(declared, column.levels, strict=True)
        ]
    return found


@settings(max_examples=150, deadline=None)
@given(TABLES, st.sampled_from([10, 15, 50]))
def test_no_count_below_the_smallest_cell_leaves(table: Measured, smallest: int) -> None:
    """Nor any exact count: a share stands for at least as many numbers of rows as that."""
    if smallest == 50 and table.rows < 1000:
        smallest = 20
    made = summarise(table, SCHEMA, smallest)
    for count, share in cells(table, made):
        assert (share is None) or count >= smallest
        if share is not None:
            assert share % made.step == 0
            assert abs(100 * count - share * table.rows) * 2 <= made.step * table.rows
    assert BANDS[band_of(table.rows)] * made.step >= 100 * smallest
    check(made, SCHEMA, band_of(table.rows), smallest)


@settings(max_examples=100, deadline=None)
@given(st.integers(100, 3000), st.integers(0, 9), st.integers(0, 9))
def test_rows_may_move_between_withheld_cells_unseen(third: int, one: int, other: int) -> None:
    """What is withheld has no trace in what is told."""
    moved = min(one, 9 - other)
    base = measured([0, 0, 0], [one, other, third], 0, [0, 0])
    again = measured([0, 0, 0], [one - moved, other + moved, third], 0, [0, 0])
    assert summarise(base, SCHEMA, 10) == summarise(again, SCHEMA, 10)


def test_one_withheld_share_hides_behind_another() -> None:
    """Where the rest make up the whole but for one, the rest would tell it."""
    table = measured([20, 30, 40], [5, 600, 300], 100, [0, 0])
    stage = summarise(table, SCHEMA, 10).columns[1]
    assert stage.levels[0] is None and stage.missing is None  # the smallest of the others
    assert (stage.wrong_type, stage.outside, stage.levels[1:]) == (0, 0, [60, 30])
    table = measured([5, 30, 40], [5, 600, 300], 100, [0, 0])
    stage = summarise(table, SCHEMA, 10).columns[1]
    assert (stage.missing, stage.levels[0], stage.levels[2]) == (None, None, 30)


@pytest.mark.parametrize(
    ("rows", "band"),
    [(0, "0-9"), (9, "0-9"), (10, "10-99"), (99, "10-99"), (100, "100-999"), (10**7, "1000000-")],
)
def test_a_number_of_rows_lies_in_one_band(rows: int, band: str) -> None:
    assert band_of(rows) == band


def test_steps_hide_a_smallest_cell_in_the_whole_band() -> None:
    assert [step_of(band, 10) for band in list(BANDS)[2:]] == [10, 5, 5, 5, 5]
    assert step_of("100-999", 50) == 50 and step_of("1000-9999", 100) == 10
    bands: list[tuple[Band, int]] = [("10-99", 10), ("0-9", 10), ("100-999", 51)]
    for band, smallest in bands:
        with pytest.raises(PolicyError, match=r"\[too-few-rows-to-profile\]"):
            step_of(band, smallest)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"step": 5}, "profile-not-coarse"),
        ({"repeated_rows": 13}, "profile-not-coarse"),
        ({"columns": [0, 1, 2]}, "profile-differs"),
        ({"columns": [1, 0, 2, 3]}, "profile-differs"),
        ({"stage": {"levels": [None, 60, 30]}}, "profile-not-coarse"),
        ({"stage": {"levels": [60, 30]}}, "profile-differs"),
        ({"stage": {"missing": 7}}, "profile-not-coarse"),
    ],
)
def test_a_profile_that_tells_more_is_found(change: dict[str, Any], code: str) -> None:
    made = summarise(measured([50, 60, 70], [100, 300, 200], 100, [0, 0]), SCHEMA, 10)
    check(made, SCHEMA, "100-999", 10)
    value: Any = made.to_json()
    if "stage" in change:
        value["columns"][1] |= {"missing": 10, "wrong_type": 10, "outside": 10} | change["stage"]
    elif "columns" in change:
        value["columns"] = [value["columns"][place] for place in change["columns"]]
    else:
        value |= change
    with pytest.raises(VerificationError) as caught:
        check(Profile.from_json(value), SCHEMA, "100-999", 10)
    assert caught.value.code == code
    with pytest.raises(VerificationError, match=r"\[profile-not-coarse\]"):
        check(made, SCHEMA, "100-999", 20)
