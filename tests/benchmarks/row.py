"""One measured figure, beside the figure it is held against."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Row:
    """A line of `make bench`.

    `against` says what the value is compared with (another program, a bound, an earlier figure) and
    `against_value` that figure in the same unit; both are None where there is nothing to compare.
    `extra` holds further fields, such as peak memory, with the unit in each name.
    """

    name: str
    value: float
    unit: str
    against: str | None = None
    against_value: float | None = None
    extra: Mapping[str, float | int | str | None] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        """value / against_value, or None where that is undefined."""
        return self.value / self.against_value if self.against_value else None

    def to_json(self) -> str:
        """One line of JSON. Raises ValueError for NaN, infinity or an extra that hides a field."""
        fields = {
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "against": self.against,
            "against_value": self.against_value,
            "ratio": self.ratio,
        }
        if hidden := fields.keys() & self.extra.keys():
            raise ValueError(f"row {self.name}: extra may not set {sorted(hidden)}")
        return json.dumps({**fields, **self.extra}, allow_nan=False)
