"""The words that a person signs by say every term, and say it for this record only."""

import pytest

from accord_common.summaries import agreement_summary
from tests.world import World, make_world


@pytest.fixture(scope="module")
def world() -> World:
    return make_world()


def leaves(value: object, path: str = "") -> dict[str, str]:
    """Every leaf of a record with its path."""
    if isinstance(value, dict):
        return {k: v for key in value for k, v in leaves(value[key], f"{path}.{key}").items()}
    if isinstance(value, list):
        parts = (leaves(item, f"{path}[{i}]") for i, item in enumerate(value))
        return {k: v for part in parts for k, v in part.items()}
    return {path: str(value)}


def test_every_value_of_the_record_appears(world: World) -> None:
    text = agreement_summary(world.agreement, world.agreement_hash)
    assert world.agreement_hash in text
    names = {actor.id: actor.name for actor in world.actors}
    # An agreement's own id, and those of parties and datasets, are said by names and the hash.
    # No colluders, and whether runs may be without privacy, are said in words.
    silent = (".id", ".previous", ".metrics", ".rule", ".adjacency", ".colluders", ".non_private")
    for path, value in leaves(world.agreement.to_json()).items():
        if path.endswith(silent) or "shares" in path:
            continue
        assert names.get(value, value) in text, path


def test_a_changed_term_changes_the_words(world: World) -> None:
    before = agreement_summary(world.agreement, "0" * 64)
    datasets = [item.model_dump() for item in world.agreement.datasets]
    datasets[0]["privacy"]["epsilon_cap"] = "9"
    for changes in (
        {"datasets": datasets},
        {"aggregation": world.agreement.aggregation.model_copy(update={"colluders": 1})},
        {"retention_days": 1},
        {"release": {"recipients": [], "metrics": "public-holdout"}},
    ):
        assert agreement_summary(world.amended(**changes).agreement, "0" * 64) != before


def test_two_data_holders_are_warned() -> None:
    pair = make_world(2)
    assert "each learns the other's" in agreement_summary(pair.agreement, pair.agreement_hash)


def test_the_next_version_names_the_one_it_replaces(world: World) -> None:
    later = world.next_version()
    text = agreement_summary(later.agreement, later.agreement_hash)
    assert "version 2" in text and f"replaces {world.agreement_hash}" in text


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ("St. Mary", "St. M\u0430ry", "U+0430 CYRILLIC SMALL LETTER A"),
        ("\u041c\u0410\u0423\u041e", "mayo", "look alike"),  # all of it Cyrillic
        ("Caf\u00e9", "Cafe\u0301", "look alike"),  # composed, and not
        ("Ward 10", "Ward lO", "look alike"),
        ("\uff21lpha", "alpha", "look alike"),  # full width
    ],
)
def test_names_that_may_be_taken_for_others_are_told(
    world: World, first: str, second: str, said: str
) -> None:
    parties = [party.model_dump() for party in world.agreement.parties]
    parties[0]["name"], parties[1]["name"] = first, second
    text = agreement_summary(world.amended(parties=parties).agreement, "0" * 64)
    assert "LOOK TWICE" in text and said in text


def test_names_in_any_language_are_no_suspects(world: World) -> None:
    russian, greek = "\u0413\u043e\u0440\u043e\u0434 1", "\u0391\u03b8\u03ae\u03bd\u03b1 B2"
    names = [russian, greek, "\u5317\u4eacA\u533b\u9662"]
    parties = [party.model_dump() for party in world.agreement.parties]
    for party, name in zip(parties, names, strict=False):
        party["name"] = name
    assert "LOOK" not in agreement_summary(world.amended(parties=parties).agreement, "0" * 64)
