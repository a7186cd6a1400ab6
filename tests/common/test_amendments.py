"""Each changed term is told once, and which way it goes."""

from typing import Any

import pytest

from accord_common.amendments import changes, diff_text
from accord_common.permissions import meaning, what_signing_allows
from accord_common.summaries import statement
from tests.world import World, make_world


@pytest.fixture(scope="module")
def world() -> World:
    return make_world()


def told(world: World, **terms: Any) -> list[str]:
    """What is said of the next version with these terms."""
    return [
        str(change) for change in changes(world.agreement, world.next_version(**terms).agreement)
    ]


def datasets(world: World, **privacy: Any) -> list[dict[str, Any]]:
    found = [item.model_dump() for item in world.agreement.datasets]
    found[0]["privacy"] |= privacy
    return found


@pytest.mark.parametrize(
    ("term", "value", "words"),
    [
        ("epsilon_cap", "8", "epsilon cap of {}: 3 -> 8 (wider)"),
        ("epsilon_cap", "1", "epsilon cap of {}: 3 -> 1 (narrower)"),
        ("delta", "0.0001", "delta of {}: 0.00001 -> 0.0001 (wider)"),
        ("min_noise_multiplier", "2", "least noise multiplier of {}: 0.5 -> 2 (narrower)"),
        ("max_clipping_norm", "20", "largest clipping norm of {}: 10 -> 20 (wider)"),
        ("max_sampling_rate", "0.1", "largest sampling rate of {}: 0.5 -> 0.1 (narrower)"),
        ("non_private", True, "runs without privacy on {}: refused -> PERMITTED (wider)"),
        ("adjacency", "replace-one", "adjacency of {}: add-remove -> replace-one (narrower)"),
    ],
)
def test_terms_of_privacy(world: World, term: str, value: object, words: str) -> None:
    first = world.agreement.datasets[0]
    name = f"{first.name} ({world.agreement.party(first.owner).name})"
    assert told(world, datasets=datasets(world, **{term: value})) == [words.format(name)]


def test_other_terms(world: World) -> None:
    tasks = [task.model_dump() for task in world.agreement.tasks]
    tasks[0] |= {"max_rounds": 200, "architectures": ["logistic", "cnn"]}
    recipients = world.agreement.release.recipients[1:]
    found = told(
        world,
        title="Wider screening",
        purpose=["DUO:0000006", "DUO:0000046"],
        tasks=[*tasks, tasks[0] | {"task": "text-classification"}],
        aggregation={"min_cohort": 2, "threshold": 3, "colluders": 0},
        release={"recipients": recipients, "metrics": "public-holdout"},
        retention_days=30,
        valid_until="2099-01-01T00:00:00Z",
    )
    gone = world.agreement.party(world.agreement.release.recipients[0]).name
    for words in (
        "title: Tumour screening -> Wider screening (changed)",
        "purpose: new: DUO:0000006 (HMB, health or medical or biomedical research) (wider)",
        "purpose: no longer: DUO:0000007 (DS, disease specific research) (narrower)",
        "purpose: new: DUO:0000046 (NCU, non-commercial use only) (narrower)",
        "task: new: text-classification (logistic, cnn; 200 rounds) (wider)",
        "architecture of tabular-binary: new: cnn (wider)",
        "architecture of tabular-binary: no longer: mlp (narrower)",
        "most rounds of tabular-binary: 100 -> 200 (wider)",
        "smallest cohort: 3 -> 2 (wider)",
        f"model goes to: no longer: {gone} (narrower)",
        "days that records are kept: 365 -> 30 (narrower)",
    ):
        assert words in found
    assert len(found) == 12 and found[-1].startswith("valid until: ") and "(wider)" in found[-1]


def test_an_exchanged_key_and_a_new_party_are_seen(world: World) -> None:
    parties = [party.model_dump() for party in world.agreement.parties]
    parties[0]["identity_key"] = "ab" * 32
    auditor = parties[1] | {"id": parties[-1]["id"][:-1] + "f", "name": "Watch", "role": "auditor"}
    auditor["identity_key"] = "cd" * 32
    found = told(world, parties=sorted([*parties, auditor], key=lambda party: party["id"]))
    assert any(line.startswith(f"identity key of {parties[0]['name']}: ") for line in found)
    assert "party: new: Watch, auditor (changed)" in found


def test_the_same_terms_say_so(world: World) -> None:
    later = world.next_version().agreement
    assert diff_text(world.agreement, later) == "Version 2 has the terms of version 1."
    widened = world.next_version(retention_days=400).agreement
    text = diff_text(world.agreement, widened)
    assert text.splitlines() == [
        "Version 1 -> 2: 1 change, 1 of them wider",
        "  ! days that records are kept: 365 -> 400 (wider)",
    ]


def test_an_epsilon_is_said_in_words() -> None:
    assert "at most 95.3 times in 100" in meaning("3", "0.00001")
    assert "a chance of 1 in 100,000" in meaning("3", "0.00001")
    assert "at most 52.5 times in 100" in meaning("0.1", "0.00001")
    assert "almost for sure" in meaning("8", "0.00001")


def test_what_is_signed_is_read_in_full_and_ends_with_the_hash(world: World) -> None:
    party = world.hospitals[0]
    text = statement(world.agreement, world.agreement_hash, party.id, None)
    own = world.agreement.dataset(party.dataset)
    for words in (
        f"What a signature of {party.name} allows",
        "coordinator may start training",
        f"epsilon {own.privacy.epsilon_cap} at delta {own.privacy.delta}",
        "at most 95.3 times in 100",
        "sum of at least 3 institutions",
        world.agreement.valid_until,
        "accord-node agreement withdraw",
        "DUO:0000007 (DS, disease specific research)",
    ):
        assert words in text
    assert text.splitlines()[-1].endswith(world.agreement_hash)
    later = world.next_version(retention_days=400)
    told = statement(later.agreement, later.agreement_hash, party.id, world.agreement)
    assert "days that records are kept: 365 -> 400 (wider)" in told
    assert "cannot be said" in statement(later.agreement, later.agreement_hash, party.id, None)


def test_who_brings_no_data_reads_that(world: World) -> None:
    text = what_signing_allows(world.agreement, world.aggregator.id)
    assert "none: this institution puts no dataset in" in text
    assert "accord agreement withdraw" in text
