"""UCI Heart Disease as four institutions hold it, prepared as FLamby does (du Terrail et al. 2022).

Guarantees: rows, the 13 features and the split are FLamby's, so figures can be held against its
published ones. No header, `?` is missing; slope, ca and thal are dropped, then rows that miss a
value; cp and restecg become one 0/1 feature for each value but the first; the label is whether any
disease was found; 66 % of each centre train, by scikit-learn's split with seed 43.

A table comes in one of two forms. `STANDARD` holds features that were divided by deviations of the
centre's own training rows, as FLamby does: that leaks, so it is for runs without privacy. `PLAIN`
holds what was measured, and its schema scales by ranges that anybody may know.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from accord_common import schema_file
from accord_common.schema import TableSchema
from accord_common.tables import Encoded, encode, validate

CENTRES = ("cleveland", "hungarian", "switzerland", "va")
TARGET = "disease"
_COLUMNS = ["age", "sex", "cp", "trestbps", "chol", "fbs", "restecg", "thalach", "exang", "oldpeak"]
_DROPPED = [10, 11, 12]
_CATEGORIES = {"cp": ["1", "2", "3", "4"], "restecg": ["0", "1", "2"]}
_TRAIN, _SEED = 0.66, 43
_ADDED = 1e-9  # to a deviation, which may be 0
_FEWEST = 16  # test rows of Switzerland
_FAR = 1000  # beyond any standardised value of a training row

# Minimum, maximum, usual value, usual distance from it. These files write 0 for a blood pressure or
# cholesterol that nobody measured.
_RANGES: dict[str, tuple[float, float, float, float]] = {
    "age": (18, 100, 55, 10),
    "sex": (0, 1, 0.5, 0.5),
    "trestbps": (0, 300, 130, 20),
    "chol": (0, 800, 220, 80),
    "fbs": (0, 1, 0.5, 0.5),
    "thalach": (40, 230, 140, 25),
    "exang": (0, 1, 0.5, 0.5),
    "oldpeak": (-5, 10, 1, 1),
}


@dataclass(frozen=True, slots=True)
class Centre:
    """One hospital's rows, one column for each that was measured and the target."""

    name: str
    train: pd.DataFrame
    test: pd.DataFrame


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


def _schema(document: dict[str, Any]) -> TableSchema:
    schema = schema_file.from_document(document)
    assert isinstance(schema, TableSchema)
    return schema


def load(folder: Path) -> list[Centre]:
    """Read and split UCI's four `processed.*.data`."""
    return [_centre(name, folder / f"processed.{name}.data") for name in CENTRES]


def standardised(rows: Sequence[pd.DataFrame], by: Sequence[pd.DataFrame]) -> Encoded:
    """Features of `rows`, by mean and sample deviation of the rows of `by`."""
    table, known = _measured(pd.concat(rows)), _measured(pd.concat(by)).features
    features = (table.features - known.mean(0)) / (known.std(0, ddof=1) + _ADDED)
    return Encoded(features.astype(np.float32), table.labels)


def _centre(name: str, path: Path) -> Centre:
    frame = pd.read_csv(path, header=None, na_values="?").drop(columns=_DROPPED).dropna()
    frame.columns = pd.Index([*_COLUMNS, TARGET])
    frame[TARGET] = (frame[TARGET] != 0).astype(int)
    for column in _CATEGORIES:
        frame[column] = frame[column].astype(int).astype(str)
    train, test = train_test_split(
        np.arange(len(frame)),
        train_size=_TRAIN,
        test_size=1 - _TRAIN,
        random_state=_SEED,
        stratify=_strata(frame[TARGET].to_numpy()),
    )
    return Centre(name, frame.iloc[np.sort(train)], frame.iloc[np.sort(test)])


def _strata(labels: NDArray[np.int64]) -> NDArray[np.int64] | None:
    counts = np.bincount(labels, minlength=2)
    return labels if counts.min() > 2 else None


def _document(name: str, columns: list[dict[str, Any]]) -> dict[str, Any]:
    target = {"column": TARGET, "type": "binary"}
    return {"name": name, "target": target, "columns": columns, "minimum_rows": _FEWEST}


def _number(name: str, low: float, high: float, centre: float, scale: float) -> dict[str, Any]:
    return {
        "name": name, "type": "number",
        "minimum": low, "maximum": high, "centre": centre, "scale": scale,
    }  # fmt: skip


def _plain_columns(*, scaled: bool) -> list[dict[str, Any]]:
    columns = []
    for name in _COLUMNS:
        if name in _CATEGORIES:
            categories = _CATEGORIES[name]
            columns.append({"name": name, "type": "category", "categories": categories})
        else:
            low, high, centre, scale = _RANGES[name]
            place = (centre, scale) if scaled else (0, 1)
            columns.append(_number(name, low, high, *place))
    return columns


_MEASURED = _schema(_document("measured", _plain_columns(scaled=False)))


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
    _document("heart-standard", [_number(x, -_FAR, _FAR, 0, 1) for x in _MEASURED.features]),
    _standard_csv,
    lambda centre: standardised([centre.test], [centre.train]),
)
PLAIN = Form(
    _document("heart", _plain_columns(scaled=True)),
    lambda centre: centre.train.to_csv(index=False),
    _plain_test,
)
