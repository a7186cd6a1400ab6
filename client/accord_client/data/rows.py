"""The rows of a registered dataset, as training and validation see them.

Guarantees: every row met the schema and is what was checked when the dataset was registered or last
updated; no row of a patient who opted out is among them; training and validation rows share no
patient. Where the unit is a patient, each has one row.

Not covered: several rows a patient under unit patient, which would need sampling and clipping by
patient; they are refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from accord_client.data.identifiers import refuse_identifiers
from accord_client.data.reading import Mark
from accord_client.data.sources import Source
from accord_client.data.split import Split
from accord_common.errors import DataError
from accord_common.fields import Unit
from accord_common.schema import Schema

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from accord_client.datasets import LocalDataset
    from accord_common.tables import Encoded


@dataclass(frozen=True, slots=True)
class Rows:
    """What may be used of a dataset; all counts are private.

    Attributes:
        train: what training samples from; may be empty.
        validation: rows that no training here sees; None where there are none.
        opted_out: how many rows were left out.
    """

    train: Encoded
    validation: Encoded | None
    opted_out: int


def examine(
    source: Source, schema: Schema, unit: Unit, split: Split, allowed: Mapping[str, str]
) -> Mark:
    """Check every row of a source before it is registered.

    Args:
        source: where the rows are.
        schema: the contract.
        unit: whom privacy protects.
        split: who validates.
        allowed: columns that look like direct identifiers, with the steward's reasons.

    Raises:
        PolicyError: `direct-identifier`.
        DataError: `repeated-identifier` where the unit is a patient, `too-few-rows` for training,
            `no-validation-rows`, or the codes of the source.
        UsageError: `unknown-format`.
    """
    reading = source.read(schema)
    if reading.frame is not None:
        refuse_identifiers(reading.frame, schema, allowed)
    if unit == "patient":
        _refuse_repeats(reading.people or (), schema)
    rows = reading.table.rows
    training = rows - int(split.validates(reading).sum())
    if training < schema.minimum_rows:
        raise DataError(
            "too-few-rows",
            f"{training} of {rows} rows are left for training, the schema asks for "
            f"{schema.minimum_rows}",
            hint="Choose a smaller validation fraction.",
        )
    if training == rows and split.fraction != "0":
        raise DataError(
            "no-validation-rows",
            f"none of {rows} rows fell into a validation fraction of {split.fraction}",
            hint="Choose a larger fraction, or none.",
        )
    return Mark(glance=reading.glance, sha256=reading.sha256, rows=rows, training=training)


def open_rows(dataset: LocalDataset, opted_out: frozenset[str]) -> Rows:
    """Read a registered dataset without those who opted out.

    Args:
        dataset: the registration.
        opted_out: from `Datasets.opt_outs`.

    Raises:
        DataError: `dataset-missing`, `dataset-changed`, or a row breaks the schema.
    """
    import numpy as np

    reading = dataset.source.read(dataset.table, known=dataset.mark.sha256)
    people = reading.people if opted_out else None
    kept = np.array([person not in opted_out for person in people or ()], bool)
    if people is None:
        kept = np.ones(reading.table.rows, bool)
    validates = dataset.split.validates(reading)
    return Rows(
        train=_select(reading.table, kept & ~validates),
        validation=_select(reading.table, kept & validates) if (kept & validates).any() else None,
        opted_out=int((~kept).sum()),
    )


def _select(table: Encoded, chosen: NDArray[np.bool_]) -> Encoded:
    if chosen.all():
        return table  # no second copy of a large table
    return type(table)(table.features[chosen], table.labels[chosen])


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
