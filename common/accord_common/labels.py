"""Rows of one text and a label: a text to read, or the name of a picture.

Guarantees: as `tables`; a refused cell is named by column and row, for the steward at the file.

Needs pandas.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from accord_common import tables
from accord_common.image_schema import ImageSchema
from accord_common.text_schema import TextSchema

Labelled = ImageSchema | TextSchema


def validate(frame: pd.DataFrame, schema: Labelled, column: str) -> pd.DataFrame:
    """Check rows of `column`, the target and, if the schema names one, the identifier.

    Returns:
        These columns as text.

    Raises:
        DataError: `missing-column`, `extra-column`, `too-few-rows`, `missing-value`, `wrong-type`
            or `unknown-category`.
    """
    identifier = [] if schema.identifier is None else [schema.identifier]
    wanted = [column, schema.target.column, *identifier]
    tables.refuse_other_columns(frame, wanted, schema)
    typed = pd.DataFrame({name: tables.text_cells(frame[name]) for name in wanted})
    given, known = typed[schema.target.column], schema.target.classes
    wrong = ~given.isin(known).to_numpy()
    if wrong.any():
        row = int(np.argmax(wrong))
        raise tables.wrong_category(schema.target.column, row, given.iloc[row], known)
    return typed


def numbers(frame: pd.DataFrame, schema: Labelled) -> NDArray[np.int64]:
    """Return the labels of validated rows, int64 (n,)."""
    return tables.labels_of(frame, schema.target)
