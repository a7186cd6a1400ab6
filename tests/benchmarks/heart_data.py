"""The forms in which hospitals register UCI Heart Disease (`accord_server.demo.heart`).

`STANDARD` holds features that were divided by deviations of the centre's own training rows, as
FLamby does: that leaks, so it is for runs without privacy. `PLAIN` holds what was measured, and its
schema scales by ranges that anybody may know: that is the demonstration's.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from accord_common import schema_file
from accord_common.schema import TableSchema
from accord_common.tables import Encoded, encode, validate
from accord_server.demo import heart
from accord_server.demo.heart import CENTRES, TARGET, Centre
from tests import public_data

__all__ = ["CENTRES", "PLAIN", "STANDARD", "TARGET", "Centre", "Form", "load", "standardised"]

_ADDED = 1e-9  # to a deviation, which may be 0
_FAR = 1000  # beyond any standardised value of a training row


@dataclass(frozen=True, slots=True)
class Form:
    """How an institution registers its table: a document that declares it, and the CSV."""

    document: dict[str, Any]
    csv: Callable[[Centre], str]
    test: Callable[[Centre], Encoded]

    @property
    def schema(self) -> TableSchema:
        """The declared schema."""
        return _schema(self.document)


def load() -> list[Centre]:
    """Read and split UCI's files; `public_data.Absent` where they are not here."""
    return heart.load(public_data.folder("heart_disease").parent)


def standardised(rows: Sequence[pd.DataFrame], by: Sequence[pd.DataFrame]) -> Encoded:
    """Features of `rows`, by mean and sample deviation of the rows of `by`."""
    table, known = _measured(pd.concat(rows)), _measured(pd.concat(by)).features
    features = (table.features - known.mean(0)) / (known.std(0, ddof=1) + _ADDED)
    return Encoded(features.astype(np.float32), table.labels)


def _schema(document: dict[str, Any]) -> TableSchema:
    schema = schema_file.from_document(document)
    assert isinstance(schema, TableSchema)
    return schema


_MEASURED = _schema(heart.document("measured", heart.columns(scaled=False)))


def _measured(frame: pd.DataFrame) -> Encoded:
    return encode(validate(frame, _MEASURED), _MEASURED)


def _standard_csv(centre: Centre) -> str:
    table = standardised([centre.train], [centre.train])
    frame = pd.DataFrame(table.features, columns=list(_MEASURED.features))
    frame[TARGET] = table.labels
    text: str = frame.to_csv(index=False, float_format="%.8e")  # every bit of a float32
    return text


def _plain_test(centre: Centre) -> Encoded:
    return encode(validate(centre.test, PLAIN.schema), PLAIN.schema)


STANDARD = Form(
    heart.document(
        "heart-standard", [heart.number(x, -_FAR, _FAR, 0, 1) for x in _MEASURED.features]
    ),
    _standard_csv,
    lambda centre: standardised([centre.test], [centre.train]),
)
PLAIN = Form(
    heart.document("heart", heart.columns(scaled=True)),
    lambda centre: centre.train.to_csv(index=False),
    _plain_test,
)
