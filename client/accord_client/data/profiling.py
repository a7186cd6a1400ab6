"""Counting what is missing, wrong or repeated in a dataset, and how often each category stands.

Guarantees: counts of rows alone; no value of a cell is in what is returned but declared categories
and classes; a row of a patient who opted out is not counted. Tables are read as they are, under no
schema, so what has broken the contract since the last check is counted too; pictures are read under
theirs, and have nothing but their labels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from accord_client.data.images import ImagesSource
from accord_common.profiles import Counts, Measured, declared_levels
from accord_common.schema import NumberColumn, Schema, TableSchema

if TYPE_CHECKING:
    import pandas as pd

    from accord_client.datasets import LocalDataset


def measure(dataset: LocalDataset, opted_out: frozenset[str]) -> Measured:
    """Count a dataset's rows, but for those who opted out.

    Args:
        dataset: the registration.
        opted_out: from `Datasets.opt_outs`.

    Raises:
        DataError: the source cannot be read.
        UsageError: `unknown-format`.
    """
    if isinstance(dataset.source, ImagesSource):
        return _pictures(dataset, dataset.source, opted_out)
    frame, table = dataset.source.columns(), dataset.table
    if table.identifier in frame.columns:
        people = frame[table.identifier].astype("string").str.strip()
        frame = frame[~people.isin(list(opted_out))]
    declared = {c.name: c for c in table.columns} if isinstance(table, TableSchema) else {}
    counted = {}
    for name, levels in declared_levels(table).items():
        column = declared.get(name)
        if name not in frame.columns:
            counted[name] = Counts(missing=len(frame))
        elif isinstance(column, NumberColumn):
            counted[name] = _numbers(frame[name], column)
        else:
            counted[name] = _texts(frame[name], levels)
    used = [name for name in table.wanted if name != table.identifier and name in frame.columns]
    return Measured(
        rows=len(frame),
        columns=counted,
        repeated_rows=int(frame[used].duplicated().sum()) if used else 0,
        repeated_identifiers=_repeats(frame, table),
    )


def _numbers(values: pd.Series, column: NumberColumn) -> Counts:
    import numpy as np
    import pandas as pd

    missing = _missing(values)
    kinds = pd.api.types
    if kinds.is_bool_dtype(values) or kinds.is_datetime64_any_dtype(values):
        return Counts(missing=int(missing.sum()), wrong_type=int((~missing).sum()))
    numbers = pd.to_numeric(values, errors="coerce").astype("float64")
    wrong = numbers.isna()
    if column.type == "integer":
        wrong |= numbers != np.floor(numbers)
    wrong &= ~missing
    outside = (numbers < float(column.minimum)) | (numbers > float(column.maximum))
    return Counts(
        missing=int(missing.sum()),
        wrong_type=int(wrong.sum()),
        outside=int((outside & ~missing & ~wrong).sum()),
    )


def _texts(values: pd.Series, levels: list[str]) -> Counts:
    """`levels` is empty for texts and identifiers, of which none is outside."""
    import pandas as pd

    missing = _missing(values)
    there = values[~missing]
    if isinstance(there.dtype, pd.CategoricalDtype):
        there = there.astype(object)
    if not pd.api.types.is_integer_dtype(there):
        text = there.map(lambda value: isinstance(value, str)).astype(bool)
        wrong, there = int((~text).sum()), there[text]
    else:
        wrong, there = 0, there.astype(str)
    found = there.value_counts()
    known = {level: int(found.get(level, 0)) for level in levels}
    outside = len(there) - sum(known.values()) if levels else 0
    return Counts(missing=int(missing.sum()), wrong_type=wrong, outside=outside, levels=known)


def _missing(values: pd.Series) -> pd.Series:
    empty: pd.Series = values.isna() | (values == "").fillna(False)
    return empty.astype(bool)


def _repeats(frame: pd.DataFrame, table: Schema) -> int:
    """Rows whose identifier stands in an earlier one."""
    if table.identifier not in frame.columns:
        return 0
    people = frame[table.identifier].astype("string").str.strip()
    return int(people[~_missing(people)].duplicated().sum())


def _pictures(dataset: LocalDataset, source: ImagesSource, opted_out: frozenset[str]) -> Measured:
    reading = source.read(dataset.table)
    people = reading.people or [""] * reading.table.rows
    kept = [place for place, person in enumerate(people) if person not in opted_out]
    classes = dataset.table.target.classes
    labels = [classes[reading.table.labels[place]] for place in kept]
    counted = {
        name: Counts(levels={level: labels.count(level) for level in levels})
        for name, levels in declared_levels(dataset.table).items()
    }
    named = [people[place] for place in kept] if reading.people is not None else []
    return Measured(
        rows=len(kept),
        columns=counted,
        repeated_rows=0,
        repeated_identifiers=len(named) - len(set(named)),
    )
