"""Catalogue entries and profiles of a world's hospitals, really signed."""

import secrets
from typing import Any

from accord_common.catalogue import (
    DATASET_ENTRY,
    DATASET_PROFILE,
    CatalogueEntry,
    ReleasedProfile,
)
from accord_common.envelope import Envelope, sign
from accord_common.fields import format_time, now
from accord_common.profiles import Counts, Measured, Profile, summarise
from tests.world import SCHEMA, Actor, World

RESEARCH, DISEASE = "DUO:0000042", "DUO:0000007"


def with_profiles(world: World, smallest_cell: int = 10) -> World:
    """The same world under an agreement by which every profile may be released."""
    terms = {"smallest_cell": smallest_cell}
    datasets = [item.model_dump() | {"profile": terms} for item in world.agreement.datasets]
    return world.amended(datasets=datasets)


def entry(world: World, actor: Actor, previous: Envelope | None = None, **changes: Any) -> Envelope:
    before = None if previous is None else CatalogueEntry.from_bytes(previous.payload)
    value = {
        "dataset": actor.dataset,
        "party": actor.id,
        "delegation": world.delegations[actor.id].hash,
        "version": 1 if before is None else before.version + 1,
        "previous": None if previous is None else previous.hash,
        "name": "tumours",
        "title": "Breast tumours",
        "description": "From pathology.",
        "population": actor.population,
        "unit": "record",
        "size": 200,
        "table": SCHEMA.to_json(),
        "units": {"radius": "mm"},
        "rows": "100-999",
        "duo": [],
        "created": format_time(now()),
    }
    return sign(DATASET_ENTRY, CatalogueEntry.from_json(value | changes), actor.node)


def shares(malignant: int = 60, rows: int = 180) -> Profile:
    """A table's whose only column of categories is its target."""
    columns = {name: Counts() for name in ("radius", "texture")}
    columns["malignant"] = Counts(levels={"0": rows - malignant, "1": malignant})
    return summarise(Measured(rows, columns, 0, 0), SCHEMA, 10)


def profile(world: World, actor: Actor, of: Envelope, **changes: Any) -> Envelope:
    value = {
        "dataset": actor.dataset,
        "party": actor.id,
        "delegation": world.delegations[actor.id].hash,
        "previous": None,
        "entry": of.hash,
        "agreement": world.agreement_hash,
        "profile": shares().to_json(),
        "nonce": secrets.token_hex(32),
        "created": format_time(now()),
    }
    return sign(DATASET_PROFILE, ReleasedProfile.from_json(value | changes), actor.node)
