"""Each term at its edge: the last value that it lets pass, and the first that it does not."""

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from accord_common import terms
from accord_common.errors import PolicyError
from accord_common.terms import required_bound, site_noise, violations
from accord_common.vectors import plain_bound, update_bound, update_noise
from tests.world import World, make_world


def codes(world: World, **changes: Any) -> list[str]:
    """What a run of this world's agreement breaks."""
    body = world.manifest_body(world.run_keys(), **changes)
    return [error.code for error in violations(world.agreement, body)]


def secagg(world: World, **changes: Any) -> dict[str, Any]:
    return world.manifest_body(world.run_keys()).secagg.model_dump() | changes


def test_the_agreed_threshold_holds_where_it_is_above_the_least() -> None:
    world = make_world(5)
    asked = world.agreement.aggregation.model_dump() | {"threshold": 5}
    strict = world.amended(aggregation=asked)
    assert codes(world, secagg=secagg(world, threshold=4)) == []
    assert codes(strict, secagg=secagg(world, threshold=4)) == ["threshold-too-low"]
    assert codes(strict, secagg=secagg(world, threshold=5)) == []


@pytest.mark.parametrize(
    ("threshold", "min_cohort", "most"),
    [(4, 5, 2), (5, 5, 3), (5, 3, 1)],  # 2t - n - 1, and n_min - 2
)
def test_colluders_stay_below_both_bounds(threshold: int, min_cohort: int, most: int) -> None:
    world = make_world(5)
    numbers = secagg(world, threshold=threshold, min_cohort=min_cohort)
    assert codes(world, secagg=numbers | {"colluders": most}) == []
    assert codes(world, secagg=numbers | {"colluders": most + 1}) == ["colluders-out-of-bounds"]


def test_what_was_agreed_may_be_used_to_the_full() -> None:
    world = make_world()
    body = world.manifest_body(world.run_keys())
    roster = [site.model_dump() | {"sampling_rate": "0.5"} for site in body.roster]
    local = body.local.model_dump() | {"clipping_norm": "10"}
    assert codes(world, roster=roster, local=local, rounds=100, max_attempts_total=100) == []


def test_a_sampling_rate_of_nothing_is_refused() -> None:
    world = make_world()
    body = world.manifest_body(world.run_keys())
    idle = [site.model_copy(update={"sampling_rate": "0"}) for site in body.roster]
    with pytest.raises(PolicyError) as caught:
        terms.sampling_is_within_terms(world.agreement, body.model_copy(update={"roster": idle}))
    assert caught.value.code == "sampling-rate-too-large"


def sized() -> World:
    """Three sites with the public sizes 200, 400 and 800, in some order."""
    world = make_world()
    datasets = world.agreement.model_dump()["datasets"]
    for dataset, size in zip(datasets, (200, 400, 800), strict=True):
        dataset["size"] = size
    return world.amended(datasets=datasets)


def test_the_bound_is_the_largest_of_the_sites() -> None:
    world = sized()
    body = world.manifest_body(world.run_keys())
    bounds = [
        update_bound(
            steps=5,
            learning_rate="0.5",
            clip="1",
            noise_multiplier="2",
            sampling_rate="0.1",
            population=size,
            dimension=3,
        )
        for size in (200, 400, 800)
    ]
    assert len(set(bounds)) == 3
    assert Fraction(required_bound(world.agreement, body)) == max(map(Fraction, bounds))


def test_without_privacy_the_bound_is_that_of_steps_and_clip_alone() -> None:
    """No noise, and no sampled rows to divide by: sizes and sampling rates do not count."""
    world = sized()
    body = world.manifest_body(world.run_keys())
    roster = [site.model_dump() | {"noise_multiplier": "0"} for site in body.roster]
    body = world.manifest_body(world.run_keys(), privacy="none", roster=roster)
    bound = plain_bound(steps=5, learning_rate="0.5", clip="1")
    assert required_bound(world.agreement, body) == bound == "2.5"


def test_noise_is_weighed_against_the_heaviest_site_and_rounded_down() -> None:
    world = sized()
    sizes = {dataset.id: dataset.size for dataset in world.agreement.datasets}
    body = world.manifest_body(world.run_keys())
    roster = [site.model_dump() | {"weight": sizes[site.dataset] - 1} for site in body.roster]
    body = world.manifest_body(world.run_keys(), roster=roster)
    for site in body.roster:
        noise = update_noise(
            steps=5,
            learning_rate="0.5",
            clip="1",
            noise_multiplier="2",
            sampling_rate="0.1",
            population=sizes[site.dataset],
        )
        exact = Fraction(noise) * site.weight / 799
        found = site_noise(world.agreement, body, site)
        assert len(Decimal(found).normalize().as_tuple().digits) <= 6
        assert 0 <= exact - Fraction(found) < exact * Fraction(1, 10**5)
