"""Entries and profiles as records: what decodes, what the log's walk takes, what signing says."""

from typing import Any

import pytest

from accord_common.agreement import Agreement
from accord_common.amendments import changes
from accord_common.canonical import canonical_bytes
from accord_common.catalogue import CatalogueEntry, require_kept
from accord_common.envelope import Envelope, sign
from accord_common.errors import AccordError, FormatError, PolicyError
from accord_common.fields import Record
from accord_common.log.walk import Walk
from accord_common.permissions import what_signing_allows
from accord_common.summaries import agreement_summary
from tests.catalogued import DISEASE, RESEARCH, entry, profile, with_profiles
from tests.world import SCHEMA, World, make_world

MANY = [
    {"name": f"c{n}", "type": "number", "minimum": "0", "maximum": "2", "centre": "1", "scale": "1"}
    for n in range(10_001)
]


def as_json(record: Record) -> dict[str, Any]:
    value: Any = record.to_json()
    return dict(value)


@pytest.fixture(scope="module")
def world() -> World:
    return with_profiles(make_world())


@pytest.mark.parametrize(
    "change",
    [
        {"title": ""},
        {"title": "a" * 101},
        {"title": "two\nlines"},
        {"description": "a" * 4001},
        {"description": "\u202etxet"},
        {"duo": ["DUO:9999999"]},
        {"duo": [DISEASE, "DUO:0000006"]},
        {"duo": [RESEARCH, DISEASE]},
        {"duo": [DISEASE, DISEASE]},
        {"units": {"colour": "nm"}},
        {"units": {"radius": "m" * 101}},
        {"rows": "180"},
        {"rows": 180},
        {"previous": "ab" * 32},
        {"version": 2},
        {"more": "1"},
        {"table": as_json(SCHEMA) | {"columns": MANY}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_is_no_entry_is_refused(world: World, change: dict[str, Any]) -> None:
    value: Any = CatalogueEntry.from_bytes(entry(world, world.hospitals[0]).payload).to_json()
    assert CatalogueEntry.from_json(value).to_json() == value
    with pytest.raises(FormatError, match=r"\[bad-record\]"):
        CatalogueEntry.from_json(value | change)


def test_an_entry_larger_than_a_record_is_no_entry(world: World) -> None:
    value: Any = CatalogueEntry.from_bytes(entry(world, world.hospitals[0]).payload).to_json()
    wide = [item | {"name": f"{item['name']}{'x' * 90}"} for item in MANY[:6000]]
    data = canonical_bytes(value | {"table": as_json(SCHEMA) | {"columns": wide}, "units": {}})
    with pytest.raises(FormatError, match=r"\[too-large\]"):
        CatalogueEntry.from_bytes(data)


def walked(world: World, *records: Envelope) -> str:
    """What the walk says of the last record, with all that came before it; empty where it holds."""
    walk = Walk()
    actors = world.actors
    for record in (
        *(actor.enrolment() for actor in actors),
        *world.delegations.values(),
        world.agreement_envelope,
        *records[:-1],
    ):
        walk.take(record)
    try:
        walk.take(records[-1])
    except AccordError as error:
        return error.code
    return ""


def test_the_walk_takes_chains_that_their_owners_signed(world: World) -> None:
    own, other = world.hospitals[:2]
    first = entry(world, own)
    second = entry(world, own, first, title="More")
    told = profile(world, own, second)
    again = profile(world, own, second, previous=told.hash)
    assert walked(world, first, second, told, again) == ""
    assert walked(world, second) == "wrong-predecessor"
    assert walked(world, first, second, entry(world, own, first, title="Fork")) == (
        "wrong-predecessor"
    )
    body = CatalogueEntry.from_bytes(first.payload)
    assert walked(world, sign(first.kind, body, other.node)) == "missing-signature"
    lent = entry(world, own, delegation=world.delegations[other.id].hash)
    assert walked(world, lent) == "wrong-party"
    assert walked(world, profile(world, own, first)) == "missing-predecessor"
    assert walked(world, first, profile(world, own, first, previous=told.hash)) == (
        "wrong-predecessor"
    )
    assert walked(world, first, profile(world, other, first)) == "wrong-predecessor"
    silent = make_world()
    of = entry(silent, silent.hospitals[0])
    assert walked(silent, of, profile(silent, silent.hospitals[0], of)) == "profile-not-agreed"


def test_an_agreement_keeps_an_entry_by_purpose_and_schema(world: World) -> None:
    agreement = world.agreement
    kept = CatalogueEntry.from_bytes(entry(world, world.hospitals[0]).payload)
    require_kept(kept, agreement)
    require_kept(kept.model_copy(update={"duo": agreement.purpose[:1]}), agreement)
    strict = kept.model_copy(update={"duo": ["DUO:0000025"]})
    another = as_json(SCHEMA) | {"name": "other"}
    other = CatalogueEntry.from_json({**as_json(kept), "table": another})
    for body, word in ((strict, "DUO:0000025"), (other, "another schema")):
        with pytest.raises(PolicyError, match=word) as caught:
            require_kept(body, agreement)
        assert caught.value.code == "catalogue-stricter" and caught.value.hint


def test_signing_says_that_profiles_may_leave(world: World) -> None:
    own, holder = make_world(), world.hospitals[0].id
    told = what_signing_allows(world.agreement, holder)
    assert "may release quality profiles" in told and "but for the profiles above" in told
    assert "steps of at least 10 rows. No epsilon" in told
    assert "profile" not in what_signing_allows(own.agreement, own.hospitals[0].id)
    assert "profile" not in what_signing_allows(world.agreement, world.coordinator.id)
    assert "NO DIFFERENTIAL PRIVACY" in agreement_summary(world.agreement, "ab" * 32)
    assert "no quality profile may be released" in agreement_summary(own.agreement, "ab" * 32)


def test_a_changed_term_of_profiles_is_told() -> None:
    plain = make_world()

    def found(old: World, new: World) -> set[str]:
        return {
            f"{c.before} -> {c.after} {c.direction}" for c in changes(old.agreement, new.agreement)
        }

    ten, fifty = with_profiles(plain), with_profiles(plain, 50)
    assert found(plain, ten) == {"refused -> RELEASED, smallest cell 10 wider"}
    assert found(ten, plain) == {"RELEASED, smallest cell 10 -> refused narrower"}
    assert found(ten, fifty) == {
        "RELEASED, smallest cell 10 -> RELEASED, smallest cell 50 narrower"
    }
    assert found(plain, plain) == set()


def test_an_agreement_without_profiles_has_one_form(world: World) -> None:
    plain = make_world().agreement
    value: Any = plain.to_json()
    assert not any("profile" in item for item in value["datasets"])
    value["datasets"][0]["profile"] = None
    with pytest.raises(FormatError, match=r"\[not-canonical\]"):
        Agreement.from_bytes(canonical_bytes(value))
    value["datasets"][0]["profile"] = {"smallest_cell": 9}
    with pytest.raises(FormatError, match=r"\[bad-record\]"):
        Agreement.from_bytes(canonical_bytes(value))
