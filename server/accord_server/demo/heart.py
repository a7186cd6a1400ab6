"""UCI Heart Disease as its four hospitals hold it, prepared as FLamby does (du Terrail, 2022).

Guarantees: rows, features and split are FLamby's, so figures can be held against its published
ones. No header, `?` is missing; slope, ca and thal are dropped, then rows that miss a value; cp and
restecg become one 0/1 feature for each value but the first (13 features); the label is whether any
disease was found; 66 % of each centre train, by scikit-learn's split with seed 43. The schema
scales by ranges that anybody may know: nothing in it was computed from a hospital's rows.

Janosi, Steinbrunn, Pfisterer, Detrano (1989), https://doi.org/10.24432/C52P4X, CC BY 4.0.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accord_server.demo import downloads

if TYPE_CHECKING:
    import pandas as pd

CENTRES = ("cleveland", "hungarian", "switzerland", "va")
TARGET = "disease"
COLUMNS = ("age", "sex", "cp", "trestbps", "chol", "fbs", "restecg", "thalach", "exang", "oldpeak")
CATEGORIES = {"cp": ["1", "2", "3", "4"], "restecg": ["0", "1", "2"]}
FEWEST = 16  # test rows of Switzerland
_DROPPED = [10, 11, 12]
_TRAIN, _SEED = 0.66, 43

# Minimum, maximum, usual value, usual distance from it. These files write 0 for a blood pressure or
# cholesterol that nobody measured.
RANGES: dict[str, tuple[float, float, float, float]] = {
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
    train: "pd.DataFrame"
    test: "pd.DataFrame"


def load(folder: Path) -> list[Centre]:
    """Read and split UCI's four `processed.*.data`.

    Raises:
        UsageError: `no-data-set` where one is absent.
        VerificationError: `data-set-changed` where one is not UCI's, byte for byte.
    """
    return [_centre(name, downloads.read(downloads.HEART, name, folder)) for name in CENTRES]


def document(name: str, columns: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a schema's document over some columns."""
    target = {"column": TARGET, "type": "binary"}
    return {"name": name, "target": target, "columns": columns, "minimum_rows": FEWEST}


def columns(*, scaled: bool) -> list[dict[str, Any]]:
    """Return what was measured: categories, and numbers within their public ranges.

    Args:
        scaled: by a usual value and the usual distance from it; else as they were measured.
    """
    found: list[dict[str, Any]] = []
    for name in COLUMNS:
        if name in CATEGORIES:
            found.append({"name": name, "type": "category", "categories": CATEGORIES[name]})
        else:
            low, high, centre, scale = RANGES[name]
            found.append(number(name, low, high, *((centre, scale) if scaled else (0, 1))))
    return found


def number(name: str, low: float, high: float, centre: float, scale: float) -> dict[str, Any]:
    """Return a schema's column of numbers."""
    return {
        "name": name, "type": "number",
        "minimum": low, "maximum": high, "centre": centre, "scale": scale,
    }  # fmt: skip


def _centre(name: str, text: bytes) -> Centre:
    import io

    import numpy as np
    import pandas as pd
    from sklearn.model_selection import train_test_split

    frame = pd.read_csv(io.BytesIO(text), header=None, na_values="?")
    frame = frame.drop(columns=_DROPPED).dropna()
    frame.columns = pd.Index([*COLUMNS, TARGET])
    frame[TARGET] = (frame[TARGET] != 0).astype(int)
    for column in CATEGORIES:
        frame[column] = frame[column].astype(int).astype(str)
    labels = frame[TARGET].to_numpy()
    train, test = train_test_split(
        np.arange(len(frame)),
        train_size=_TRAIN,
        test_size=1 - _TRAIN,
        random_state=_SEED,
        stratify=labels if np.bincount(labels, minlength=2).min() > 2 else None,
    )
    return Centre(name, frame.iloc[np.sort(train)], frame.iloc[np.sort(test)])
