"""What goes on from an ended run is that run's constants, and no more than was left of it."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from accord_common.api.schemas import RunView
from accord_common.chain import VerifiedRun
from accord_common.errors import ConflictError
from accord_common.fields import new_id, now
from accord_common.manifest import Adaptation, Lora, RunManifest
from accord_server.coordinator.manifests import ModelFacts, Roster, make_manifest
from accord_server.coordinator.planning import make_roster
from accord_server.coordinator.resuming import continuation, plan_for, require_resumable
from tests.server.coordinator.test_planning import MODEL, planned
from tests.world import World, make_world

ADAPTATION = Adaptation(
    base="ef" * 32,
    layout="ce" * 32,
    dimension=99,
    frozen=[],
    lora=Lora(rank=2, layers=["0"]),
)
OWN = {"id", "title", "created", "rounds", "max_attempts_total", "initial_model"}


@pytest.fixture(scope="module")
def world() -> World:
    return make_world()


def made(world: World, model: ModelFacts, **changes: Any) -> RunManifest:
    plan = planned(**changes)
    roster = make_roster(plan, world.agreement)
    return manifest_of(world, plan, roster, model)


def manifest_of(world: World, plan: Any, roster: Roster, model: ModelFacts) -> RunManifest:
    facts = (plan, world.agreement, world.agreement_hash, roster, model)
    return make_manifest(*facts, run_id=new_id(), moment=now())


def ended(manifest: RunManifest, outcomes: str) -> tuple[VerifiedRun, Any]:
    """A run whose attempts completed (c) or were aborted (a)."""
    receipts = [
        SimpleNamespace(model_after=f"{place:064x}" if outcome == "c" else None)
        for place, outcome in enumerate(outcomes, start=1)
    ]
    return cast(VerifiedRun, SimpleNamespace(manifest=manifest)), tuple(receipts)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"noise_multiplier": 3, "epsilon": None, "ring_bits": 64, "weights": "size"},
        {"privacy": {"mode": "none"}, "epsilon": None},
        {"clipping": "automatic", "server": {"name": "fedyogi", "beta1": "0.5"}, "seed": 7},
        {"deadlines": {"advertise_s": 5, "update_s": 7, "rejoin_s": 9}, "spare_attempts": 0},
    ],
)
@pytest.mark.parametrize("model", [MODEL, replace(MODEL, adaptation=ADAPTATION)])
def test_a_plan_made_from_a_manifest_means_the_same(
    world: World, model: ModelFacts, changes: dict[str, Any]
) -> None:
    old = made(world, model, **changes)
    told = continuation(*ended(old, "cac"))
    plan = plan_for(old, world.agreement, told)
    datasets = tuple(world.agreement.dataset(site.dataset) for site in old.roster)
    noise = {site.dataset: site.noise_multiplier for site in old.roster}
    new = manifest_of(
        world, plan, Roster(datasets, noise, old.schema_hash), replace(model, initial=told.model)
    )
    for name in set(RunManifest.model_fields) - OWN:
        assert getattr(new, name) == getattr(old, name), name
    assert (new.rounds, new.max_attempts_total) == (told.asked_rounds, told.asked_attempts)
    assert new.initial_model == f"{3:064x}"
    assert new.title == f"{old.title}, from round 3"
    third = plan_for(new, world.agreement, continuation(*ended(new, "c")))
    assert third.title == f"{old.title}, from round 2"  # of the run it goes on from


@pytest.mark.parametrize(
    ("outcomes", "asked"),
    [
        ("", (8, 10)),
        ("c", (7, 9)),
        ("ccaaa", (6, 6)),  # 5 of 10 attempts are left; one for each round
        ("ccccccc", (1, 3)),
        ("aaaaaaaaaa", (8, 8)),
    ],
)
def test_no_more_is_asked_than_was_left(
    world: World, outcomes: str, asked: tuple[int, int]
) -> None:
    manifest = made(world, MODEL)
    told = continuation(*ended(manifest, outcomes))
    assert (told.asked_rounds, told.asked_attempts) == asked
    assert (told.completed, told.attempts) == (outcomes.count("c"), len(outcomes))
    if "c" not in outcomes:
        assert told.model == manifest.initial_model


def test_the_moments_of_an_adaptive_server_are_said_to_be_lost(world: World) -> None:
    adaptive = made(world, MODEL, server={"name": "fedadam"})
    assert continuation(*ended(adaptive, "c")).moments_lost
    assert not continuation(*ended(adaptive, "a")).moments_lost
    assert not continuation(*ended(made(world, MODEL), "c")).moments_lost


def test_nothing_remains_of_a_run_whose_rounds_are_complete(world: World) -> None:
    with pytest.raises(ConflictError, match=r"nothing-remains.*all 8 rounds"):
        continuation(*ended(made(world, MODEL), "c" * 8))


@pytest.mark.parametrize(
    ("code", "hint"),
    [("stalled", "accord aggregator start"), ("waiting-for-nodes", "accord run watch")],
)
def test_who_resumes_a_run_that_is_not_over_is_told_what_it_waits_for(code: str, hint: str) -> None:
    standing = SimpleNamespace(code=code, message="no aggregator")
    view = SimpleNamespace(id="0197", state="running", standing=standing)
    with pytest.raises(ConflictError, match="no aggregator") as refused:
        require_resumable(cast(RunView, view))
    assert refused.value.code == "run-not-over" and hint in refused.value.hint
