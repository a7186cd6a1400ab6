"""Spends for tests: one mechanism, changed where a test says so."""

from typing import Any

from accord_common.fields import new_id
from accord_common.privacy.events import Spend

POPULATION = new_id()
DATASET = new_id()


def spend(**changes: Any) -> Spend:
    """Return a valid spend with `changes`."""
    fields: dict[str, Any] = {
        "population": POPULATION,
        "dataset": DATASET,
        "agreement": "a" * 64,
        "run": "b" * 64,
        "round": 0,
        "attempt": 0,
        "mechanism": "poisson-gaussian",
        "noise_multiplier": "1",
        "clipping_norm": "0.5",
        "sampling_rate": "0.01",
        "size": 1000,
        "steps": 1000,
        "sampler": "poisson",
        "adjacency": "add-remove",
        "code_version": "0.1.0",
    }
    return Spend(**(fields | changes))


def rounds(count: int, **changes: Any) -> list[Spend]:
    """Return one spend for each of `count` rounds."""
    return [spend(round=number, **changes) for number in range(count)]
