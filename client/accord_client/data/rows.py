"""The rows of a registered dataset, as training sees them.

Guarantees: what is returned met the schema in every cell, and is what was checked when the dataset
was registered or last updated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from accord_client.data.reading import Mark, Reading
from accord_client.data.sources import Source
from accord_common.errors import DataError
from accord_common.fields import Unit
from accord_common.schema import Schema

if TYPE_CHECKING:
    from accord_client.datasets import LocalDataset


def examine(source: Source, schema: Schema, unit: Unit) -> Mark:
    """Check every row of a source before it is registered.

    Raises:
        DataError: `repeated-identifier` where the unit is a patient, or the codes of the source.
        UsageError: `unknown-format`.
    """
    reading = source.read(schema)
    if unit == "patient":
        _refuse_repeats(reading.people or (), schema)
    return reading.mark


def read_dataset(dataset: LocalDataset) -> Reading:
    """Read a registered dataset.

    Raises:
        DataError: `dataset-missing`, `dataset-changed`, or a row breaks the schema.
    """
    return dataset.source.read(dataset.table, known=dataset.mark.sha256)


def _refuse_repeats(people: Sequence[str], schema: Schema) -> None:
    seen: dict[str, int] = {}
    for row, person in enumerate(people, 1):
        if person in seen:
            raise DataError(
                "repeated-identifier",
                f"column {schema.identifier!r}, row {row}: {person[:80]!r} stands in row "
                f"{seen[person]} already, and unit patient allows each patient one row",
                hint="Make one row a patient, or register unit record: it protects rows, not all "
                "that a patient's rows say together.",
            )
        seen[person] = row
