"""Where public data sets for tests and benchmarks lie; nothing downloads them."""

import os
from pathlib import Path

PLACES = "$ACCORD_DATA_DIR, then ../shared/data"


class Absent(Exception):
    """A data set is in neither place; the message says which and where."""


def folder(name: str) -> Path:
    """Return the data set's folder; `Absent` where there is none."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    places = [Path(given)] if (given := os.environ.get("ACCORD_DATA_DIR")) else []
    for place in [*places, beside]:
        if (found := place / name).is_dir():
            return found
    raise Absent(f"no data set {name}: looked in {PLACES}")
