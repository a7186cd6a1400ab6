"""Names become keys, ids and hashes, or the draft is refused with what is wrong."""

from datetime import UTC, datetime
from typing import Any

import pytest

from accord_common.agreement import Agreement
from accord_common.api.dataset_schemas import CatalogueView
from accord_common.api.membership import Partner
from accord_common.api.schemas import AgreementView
from accord_common.errors import AccordError
from accord_common.fields import format_time, new_id
from accord_server.coordinator.drafting import draft
from accord_server.coordinator.terms_file import TermsFile
from tests.world import SCHEMA, Actor, World, make_actor, make_world

MOMENT = datetime(2026, 1, 31, 12, tzinfo=UTC)
TERMS: dict[str, Any] = {
    "title": "Tumour screening",
    "purpose": ["DUO:0000007"],
    "datasets": [{"owner": f"hospital-{i}", "name": "tumours"} for i in (1, 2, 3)],
    "privacy": {
        "epsilon_cap": 3,
        "delta": 1e-5,
        "min_noise_multiplier": 0.5,
        "max_clipping_norm": 1,
        "max_sampling_rate": 0.5,
    },
    "tasks": [
        {
            "task": "tabular-binary",
            "objective": "tell malignant from benign",
            "architectures": ["mlp"],
            "max_rounds": 50,
        }
    ],
}


@pytest.fixture(scope="module")
def world() -> World:
    return make_world()


def partner(actor: Actor, **changes: Any) -> Partner:
    value = {
        "id": actor.id,
        "name": actor.name,
        "role": actor.role,
        "identity_key": actor.identity.public,
        "jurisdiction": "DE",
        "contact": "somebody@example.org",
        "status": "approved",
        "delegation": None,
        "last_seen": None,
        "revoked": None,
    }
    return Partner.model_validate(value | changes)


def dataset(actor: Actor, **changes: Any) -> CatalogueView:
    value = {
        "id": actor.dataset,
        "name": "tumours",
        "owner": actor.id,
        "population": actor.population,
        "schema_hash": SCHEMA.hash,
        "table": SCHEMA,
        "size": 200,
        "unit": "record",
    }
    return CatalogueView.model_validate(value | changes)


def made(world: World, terms: dict[str, Any] | None = None, **changes: Any) -> Agreement:
    facts: dict[str, Any] = {
        "coordinator": world.coordinator.id,
        "partners": [partner(actor) for actor in world.actors],
        "datasets": [dataset(actor) for actor in world.hospitals],
        "log_key": world.log_key.public,
        "moment": MOMENT,
    }
    return draft(TermsFile.model_validate(TERMS | (terms or {})), **facts | changes)


def refused(world: World, terms: dict[str, Any] | None = None, **changes: Any) -> AccordError:
    with pytest.raises(AccordError) as caught:
        made(world, terms, **changes)
    return caught.value


def test_names_become_keys_ids_and_hashes(world: World) -> None:
    agreement = made(world)
    assert {party.identity_key for party in agreement.parties} == {
        actor.identity.public for actor in world.actors
    }
    for hospital in world.hospitals:
        found = agreement.dataset(hospital.dataset)
        assert (found.owner, found.population) == (hospital.id, hospital.population)
        assert (found.schema_hash, found.size) == (SCHEMA.hash, 200)
        assert found.privacy.delta == "0.00001"
    assert agreement.log_key == world.log_key.public
    assert Agreement.from_bytes(agreement.to_bytes()) == agreement


def test_what_is_left_out_follows(world: World) -> None:
    agreement = made(world)
    terms = agreement.aggregation
    assert (terms.threshold, terms.min_cohort, terms.colluders) == (3, 3, 1)
    assert agreement.release.recipients == sorted(actor.id for actor in world.hospitals)
    assert agreement.valid_from == format_time(MOMENT)
    assert agreement.valid_until == "2027-01-31T12:00:00Z"
    assert (agreement.version, agreement.previous) == (1, None)


@pytest.mark.parametrize("n", [2, 4, 5, 10])
def test_the_derived_numbers_bind_any_number_of_sites(n: int) -> None:
    world = make_world(n)
    datasets = [{"owner": actor.name, "name": "tumours"} for actor in world.hospitals]
    terms = made(world, {"datasets": datasets}).aggregation
    assert terms.threshold == 2 * n // 3 + 1
    assert terms.colluders == max(0, min(2 * terms.threshold - n - 1, terms.min_cohort - 2))


def test_a_second_table_makes_no_second_site(world: World) -> None:
    """A run has one dataset of each institution, so cohorts are counted in institutions."""
    second = dataset(world.hospitals[0], id=new_id(), name="scans")
    entries = [*TERMS["datasets"], {"owner": "hospital-1", "name": "scans"}]
    known = [*(dataset(actor) for actor in world.hospitals), second]
    agreement = made(world, {"datasets": entries}, datasets=known)
    assert len(agreement.datasets) == 4
    assert agreement.aggregation == made(world).aggregation


def test_a_dataset_may_be_stricter_than_the_rest(world: World) -> None:
    entries = [dict(entry) for entry in TERMS["datasets"]]
    entries[0]["privacy"] = {"epsilon_cap": "0.5"}
    agreement = made(world, {"datasets": entries})
    caps = {item.owner: item.privacy.epsilon_cap for item in agreement.datasets}
    assert [caps[actor.id] for actor in world.hospitals] == ["0.5", "3", "3"]


def test_auditors_sign_too_and_recipients_are_named(world: World) -> None:
    auditor = make_actor("Watch", "auditor")
    agreement = made(
        world,
        {"auditors": ["Watch"], "recipients": ["hospital-1", "coordinator"]},
        partners=[partner(actor) for actor in [*world.actors, auditor]],
    )
    assert agreement.party(auditor.id).role == "auditor"
    assert set(agreement.release.recipients) == {world.hospitals[0].id, world.coordinator.id}


def test_the_next_version_names_its_predecessor(world: World) -> None:
    old = AgreementView(
        hash=world.agreement_hash,
        agreement=world.agreement,
        envelope=world.agreement_envelope,
        status="active",
        signed=[],
        missing=[],
    )
    later = made(world, {"replaces": old.hash}, replaced=old)
    assert (later.id, later.version, later.previous) == (world.agreement.id, 2, old.hash)
    proposed = old.model_copy(update={"status": "proposed"})
    assert refused(world, {"replaces": old.hash}, replaced=proposed).code == "not-active"


def test_an_unknown_name_is_answered_with_near_ones(world: World) -> None:
    entries = [{"owner": "hospitl-1", "name": "tumours"}, *TERMS["datasets"][1:]]
    error = refused(world, {"datasets": entries})
    assert error.code == "unknown-party" and "hospital-1" in error.hint
    entries = [{"owner": "hospital-1", "name": "tumor"}, *TERMS["datasets"][1:]]
    error = refused(world, {"datasets": entries})
    assert error.code == "unknown-dataset" and "tumours" in error.hint


def test_somebody_not_yet_approved_is_named(world: World) -> None:
    pending = [
        partner(actor, status="pending" if actor is world.hospitals[0] else "approved")
        for actor in world.actors
    ]
    error = refused(world, partners=pending)
    assert error.code == "not-approved" and "accord partner approve 'hospital-1'" in error.hint


def test_two_of_a_name_are_ambiguous(world: World) -> None:
    twin = make_actor("hospital-1", "data-holder")
    everybody = [partner(actor) for actor in [*world.actors, twin]]
    assert refused(world, partners=everybody).code == "ambiguous-party"
    datasets = [dataset(actor) for actor in world.hospitals]
    datasets.append(dataset(world.hospitals[0], id=new_id()))
    assert refused(world, datasets=datasets).code == "ambiguous-dataset"


def test_a_role_must_fit(world: World) -> None:
    entries = [{"owner": "aggregator", "name": "tumours"}, *TERMS["datasets"][1:]]
    assert refused(world, {"datasets": entries}).code == "wrong-role"
    assert refused(world, {"aggregator": "hospital-1"}).code == "wrong-role"


def test_one_aggregator_is_needed(world: World) -> None:
    none = [partner(actor) for actor in world.actors if actor.role != "aggregator"]
    assert refused(world, partners=none).code == "missing-term"
    second = make_actor("other", "aggregator")
    both = [partner(actor) for actor in [*world.actors, second]]
    assert refused(world, partners=both).code == "missing-term"
    assert made(world, {"aggregator": "other"}, partners=both).party(second.id).name == "other"


def test_a_missing_or_wild_term_is_named(world: World) -> None:
    short = {key: value for key, value in TERMS["privacy"].items() if key != "delta"}
    error = refused(world, {"privacy": short})
    assert error.code == "missing-term" and "privacy.delta" in error.message
    large = TERMS["privacy"] | {"delta": 0.005}
    error = refused(world, {"privacy": large, "datasets": TERMS["datasets"][:2]})
    assert error.code == "bad-terms" and error.message.count("[delta-too-large]") == 2
    assert "below 1/200" in error.message


@pytest.mark.parametrize(
    "numbers", [{"threshold": 2}, {"threshold": 4}, {"min_cohort": 4}, {"colluders": 2}]
)
def test_secure_aggregation_numbers_stay_in_bounds(world: World, numbers: dict[str, int]) -> None:
    error = refused(world, {"aggregation": numbers})
    assert error.code == "bad-terms" and f"aggregation.{next(iter(numbers))}" in error.message


def test_a_schema_that_is_not_its_hash_is_refused(world: World) -> None:
    views = [dataset(actor, schema_hash="ab" * 32) for actor in world.hospitals]
    assert refused(world, datasets=views).code == "wrong-schema"
