"""The demonstration's tables: scikit-learn's breast-cancer set, split into unlike shares.

A fixed quarter of the rows is public: it is the coordinator's hold-out, belongs to no site, and
gives the schema its ranges, centres and scales. The rest goes to three sites that differ in size
and in how many of their cases are malignant, as hospitals do.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    import pandas as pd

TARGET = "malignant"
SITES = {"Northgate": (200, 50), "Riverside": (140, 70)}  # rows, of them malignant
LAST_SITE = "Saint Luke"  # gets what is left
RANGE_MARGIN = 4  # a public range reaches to this many times the hold-out's largest value


@dataclass(frozen=True, slots=True)
class Tables:
    """CSV texts and rows by site, the public hold-out, and the schema a person would write."""

    sites: dict[str, str]
    rows: dict[str, int]
    holdout: str
    schema: str


def make_tables() -> Tables:
    """Split the set the same way every time: what varies between demonstrations is the noise."""
    import pandas as pd
    from sklearn.datasets import load_breast_cancer

    frame = load_breast_cancer(as_frame=True).frame
    frame = frame.rename(columns=lambda name: name.replace(" ", "_"))
    frame[TARGET] = 1 - frame.pop("target")  # scikit-learn writes malignant as 0
    holdout = frame.iloc[::4]
    rest = frame.drop(holdout.index)
    sites = {}
    for name, (rows, malignant) in SITES.items():
        sick = rest[rest[TARGET] == 1].head(malignant)
        well = rest[rest[TARGET] == 0].head(rows - malignant)
        sites[name] = pd.concat([sick, well]).sort_index()
        rest = rest.drop(sites[name].index)
    sites[LAST_SITE] = rest
    return Tables(
        sites={name: table.to_csv(index=False) for name, table in sites.items()},
        rows={name: len(table) for name, table in sites.items()},
        holdout=holdout.to_csv(index=False),
        schema=_schema(holdout),
    )


def _schema(holdout: "pd.DataFrame") -> str:
    """Write the schema from public rows alone."""
    columns = [
        {
            "name": name,
            "type": "number",
            "minimum": 0,
            "maximum": float(f"{RANGE_MARGIN * values.max():.3g}"),
            "centre": float(f"{values.mean():.4g}"),
            "scale": float(f"{values.std():.4g}"),
        }
        for name, values in holdout.drop(columns=TARGET).items()
    ]
    document = {
        "name": "breast-cancer",
        "target": {"column": TARGET, "type": "binary"},
        "columns": columns,
    }
    text: str = yaml.safe_dump(document, sort_keys=False)
    return text
