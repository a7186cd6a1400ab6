"""The dry run says what the agreement says, and prices every attempt that may happen."""

import io
import json
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.accountants import PRVAccountant
from rich.console import Console

from accord_common.agreement import Agreement, Dataset
from accord_common.errors import AccordError, VerificationError
from accord_common.fields import new_id, now
from accord_common.manifest import Adaptation, RunManifest, TaskRef
from accord_common.privacy.accounting import Tally
from accord_common.privacy.filter import Cap, RdpFilter
from accord_common.receipts import NodeReceipt
from accord_common.rings import ring_of, scale_for
from accord_common.terms import violations
from accord_server.cli import run_text
from accord_server.coordinator.manifests import ModelFacts, choose_datasets, make_manifest
from accord_server.coordinator.plan_file import PlanFile
from accord_server.coordinator.planning import (
    PlanView,
    appraise,
    choose_noise,
    make_roster,
    spent_before,
)
from accord_server.coordinator.starting import refuse_if_forbidden
from tests.world import World, make_world

MODEL = ModelFacts(
    TaskRef(name="tabular-binary", distribution="accord", version="0.1.0", code_hash="ab" * 32),
    layout="cd" * 32,
    dimension=31,
)
PLAN: dict[str, Any] = {
    "agreement": "Tumour screening",
    "task": "tabular-binary",
    "architecture": {"name": "mlp", "hidden": [4]},
    "rounds": 8,
    "epsilon": 2.4,
    "sampling_rate": 0.25,
    "steps": 4,
    "learning_rate": 0.5,
    "clipping_norm": 1,
    "spare_attempts": 2,
}


@pytest.fixture(scope="module")
def world() -> World:
    return make_world()


def planned(**changes: Any) -> PlanFile:
    value = {key: item for key, item in (PLAN | changes).items() if item is not None}
    return PlanFile.model_validate(value)


def seen(
    world: World,
    spent: dict[str, Tally] | None = None,
    model: ModelFacts = MODEL,
    **changes: Any,
) -> PlanView:
    plan = planned(**changes)
    model = replace(model, task=MODEL.task.model_copy(update={"name": plan.task}))
    return appraise(
        plan,
        world.agreement,
        world.agreement_hash,
        make_roster(plan, world.agreement),
        model,
        spent=spent or {},
        prv=PRVAccountant(),
        moment=now(),
    )


def codes(view: PlanView) -> list[str]:
    return [reason.code for reason in view.reasons]


def dataset(world: World, **terms: str) -> Dataset:
    found = world.agreement.datasets[0]
    return found.model_copy(update={"privacy": found.privacy.model_copy(update=terms)})


def noise(plan: PlanFile, only: Dataset) -> str:
    """What is chosen for a run of one dataset."""
    return choose_noise(plan, [only])[only.id]


def test_a_fitting_plan_is_allowed_and_priced(world: World) -> None:
    view = seen(world)
    assert view.allowed and view.reasons == []
    assert (view.rounds, view.max_attempts_total, view.smallest_cohort) == (8, 10, 3)
    assert len(view.sites) == 3
    for site in view.sites:
        rounds, pld, prv, counted = (
            float(figure or "nan")
            for figure in (site.epsilon_rounds, site.epsilon_pld, site.epsilon_prv, site.epsilon)
        )
        assert rounds < pld < counted <= 2.4
        assert abs(prv - pld) <= 0.02 * 2.4
        assert (site.spent, site.after) == ("0", site.epsilon)
        assert site.label.startswith("hospital-") and site.label.endswith("/tumours")


def test_every_attempt_is_paid_by_the_filter(world: World) -> None:
    """The promise to nodes: their own arithmetic, on all attempts, gives the figure shown."""
    (site, *_) = seen(world).sites
    rule = RdpFilter(Cap(epsilon=site.cap, delta=site.delta))
    tally = Tally("add-remove", ((site.noise_multiplier, "0.25", 10 * 4),))
    assert float(site.epsilon or "nan") == pytest.approx(rule.epsilon(tally), abs=1e-4)


def test_a_given_noise_multiplier_is_taken_as_it_is(world: World) -> None:
    view = seen(world, epsilon=None, noise_multiplier=5)
    assert {site.noise_multiplier for site in view.sites} == {"5"}
    assert view.allowed


def test_noise_sought_is_never_below_the_agreed(world: World) -> None:
    loose = planned(epsilon=90, rounds=1, spare_attempts=0, steps=1, sampling_rate=0.01)
    assert noise(loose, dataset(world, min_noise_multiplier="1.5")) == "1.5"


def test_one_noise_serves_all_but_who_agreed_on_more(world: World) -> None:
    strict, plain, late = (
        dataset(world, **changes).model_copy(update={"id": f"{number}"})
        for number, changes in enumerate(
            ({"min_noise_multiplier": "50"}, {"min_noise_multiplier": "0.5"}, {"delta": "0.000001"})
        )
    )
    chosen = choose_noise(planned(), [strict, plain, late])
    alone = noise(planned(), late)
    assert chosen == {"0": "50", "1": alone, "2": alone}
    assert float(alone) > float(noise(planned(), plain))


def test_more_spare_attempts_need_more_noise(world: World) -> None:
    few, many = (noise(planned(spare_attempts=n), dataset(world)) for n in (0, 12))
    assert float(few) < float(many)


@settings(max_examples=15)
@given(
    rate=st.sampled_from(["0.01", "0.1", "0.5"]),
    steps=st.integers(1, 20),
    rounds=st.integers(1, 30),
    spare=st.integers(0, 10),
    epsilon=st.sampled_from(["0.5", "1", "2.4", "8"]),
)
def test_calibrated_noise_keeps_the_whole_plan_within_its_epsilon(
    world: World, rate: str, steps: int, rounds: int, spare: int, epsilon: str
) -> None:
    plan = planned(
        sampling_rate=rate, steps=steps, rounds=rounds, spare_attempts=spare, epsilon=epsilon
    )
    terms = world.agreement.datasets[0]
    tally = Tally("add-remove", ((noise(plan, terms), rate, steps * plan.max_attempts),))
    assert RdpFilter(Cap(epsilon=epsilon, delta=terms.privacy.delta)).fits(tally)


def test_every_reason_is_given_at_once(world: World) -> None:
    view = seen(
        world,
        task="tabular-multiclass",
        epsilon=None,
        noise_multiplier="0.1",
        clipping_norm=11,
        sampling_rate=0.6,
    )
    assert not view.allowed
    wanted = {
        "task-not-permitted",
        "noise-too-small",
        "clipping-norm-too-large",
        "sampling-rate-too-large",
        "budget-exceeded",
    }
    assert wanted <= set(codes(view))
    with pytest.raises(AccordError, match="task-not-permitted"):
        refuse_if_forbidden(view)


def test_a_plan_beyond_any_cap_is_not_priced_to_the_last_digit(world: World) -> None:
    (site, *_) = seen(world, epsilon=None, noise_multiplier="0.2").sites
    assert site.epsilon_prv is None and site.epsilon_pld == site.epsilon


def test_whole_populations_are_priced_too(world: World) -> None:
    view = seen(world, sampling_rate=1, epsilon=None, noise_multiplier=20)
    assert set(codes(view)) == {"sampling-rate-too-large"}
    assert view.sites[0].epsilon_prv is not None


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"architecture": "transformer"}, "architecture-not-permitted"),
        ({"rounds": 101, "epsilon": None, "noise_multiplier": 30}, "too-many-rounds"),
        ({"epsilon": 4}, "budget-exceeded"),
    ],
)
def test_one_broken_term_is_one_reason(world: World, changes: dict[str, Any], code: str) -> None:
    assert set(codes(seen(world, **changes))) == {code}


def test_an_expired_agreement_is_a_reason(world: World) -> None:
    old = world.amended(valid_from="2020-01-01T00:00:00Z", valid_until="2021-01-01T00:00:00Z")
    assert codes(seen(old)) == ["agreement-expired"]


def receipt(world: World, round_: int) -> NodeReceipt:
    manifest = world.manifest(world.run_keys())
    envelope = world.node_receipt(world.hospitals[0], manifest, manifest.hash, round_)
    return NodeReceipt.from_bytes(envelope.payload)


def test_what_earlier_runs_spent_counts(world: World) -> None:
    first = receipt(world, 0)
    population = first.ledger.spend.population
    once, twice = spent_before([first]), spent_before([first, first])
    assert once == twice == {population: Tally("add-remove", (("2", "0.1", 5),))}
    both = spent_before([first, receipt(world, 0)])  # another run: other manifest hash
    assert both == {population: Tally("add-remove", (("2", "0.1", 10),))}

    heavy = {population: Tally("add-remove", (("1", "0.25", 40),))}
    view = seen(world, heavy)
    assert set(codes(view)) == {"budget-exceeded"}
    (over,) = [site for site in view.sites if float(site.after) > float(site.cap)]
    assert over.party == world.hospitals[0].id
    assert float(over.spent) > 0 and float(over.after) < float(over.spent) + float(
        over.epsilon or "nan"
    )


class Flattering:
    """An accountant that says half."""

    def __init__(self) -> None:
        self.history: list[tuple[float, float, int]] = []

    def get_epsilon(self, delta: float, *, eps_error: float) -> float:
        real = PRVAccountant()
        real.history = self.history
        return float(real.get_epsilon(delta, eps_error=eps_error)) / 2


@pytest.mark.filterwarnings("ignore:Optimal order is the:UserWarning")
def test_a_plan_on_which_accountants_disagree_is_refused(world: World) -> None:
    plan = planned()
    with pytest.raises(VerificationError, match="accountants-disagree"):
        appraise(
            plan,
            world.agreement,
            world.agreement_hash,
            make_roster(plan, world.agreement),
            MODEL,
            spent={},
            prv=Flattering(),
            moment=now(),
        )


def non_private(world: World, **owners: bool) -> World:
    """The same world where the datasets may be used without privacy, but for those named."""
    datasets = world.agreement.model_dump()["datasets"]
    for dataset in datasets:
        name = world.agreement.party(dataset["owner"]).name
        dataset["privacy"]["non_private"] = owners.get(name.replace("-", "_"), True)
    return world.amended(datasets=datasets)


NO_PRIVACY: dict[str, Any] = {"privacy": {"mode": "none"}, "epsilon": None}


def shown(view: PlanView) -> str:
    out = io.StringIO()
    Console(file=out, width=200).print(run_text.plan(view))
    return out.getvalue()


def test_a_run_without_privacy_is_allowed_where_every_dataset_permits_it(world: World) -> None:
    view = seen(non_private(world), **NO_PRIVACY)
    assert view.allowed and view.privacy == "none"
    assert view.bound == "2"  # 4 steps of 0.5 times a gradient of norm 1
    for site in view.sites:
        assert (site.noise_multiplier, site.epsilon, site.epsilon_pld) == ("0", None, None)
        assert (site.epsilon_rounds, site.spent, site.after) == (None, "0", "0")
    text = shown(view)
    assert "WITHOUT PRIVACY: this run protects nobody's record" in text and "infinity" in text
    assert "WITHOUT PRIVACY" not in shown(seen(world))
    assert codes(seen(world, **NO_PRIVACY)) == ["non-private-not-agreed"]
    partly = non_private(world, hospital_2=False)
    (reason,) = seen(partly, **NO_PRIVACY).reasons
    assert reason.code == "non-private-not-agreed" and "tumours" in reason.message


def test_nothing_private_fits_beside_a_release_without_privacy_unless_that_was_agreed(
    world: World,
) -> None:
    population = world.hospitals[0].population
    spent = {population: Tally("add-remove", (("4", "0.1", 5),), 3)}
    view = seen(world, spent)
    (reason,) = view.reasons
    assert reason.code == "budget-exceeded"
    assert "hospital-1/tumours: 3 non-private releases" in reason.message
    text = shown(view)
    assert " + 3 non-private releases" in text and "No guarantee holds against" in text
    permitted = seen(non_private(world), spent)
    assert permitted.allowed
    (site,) = [site for site in permitted.sites if site.non_private]
    assert 0 < float(site.spent) < float(site.after) < 3


def test_weights_are_equal_or_the_public_sizes(world: World) -> None:
    datasets = world.agreement.model_dump()["datasets"]
    for number, item in enumerate(datasets):
        item["size"] = 2_000_000 + number  # a national register
        item["privacy"]["delta"] = "0.0000001"
    large = world.amended(datasets=datasets).agreement
    sizes = [item.size for item in sorted(large.datasets, key=lambda item: item.owner)]
    assert [site.weight for site in manifest(large, planned()).roster] == [1, 1, 1]
    made = manifest(large, planned(weights="size"))
    assert [site.weight for site in made.roster] == sizes
    assert violations(large, made) == []


@pytest.mark.parametrize(("bits", "words"), [(16, 2), (32, 4), (64, 8)])
def test_the_load_follows_from_dimension_and_ring(world: World, bits: int, words: int) -> None:
    view = seen(world, ring_bits=bits)
    assert (view.allowed, view.ring_bits) == (True, bits)
    assert view.bytes.round_per_site == 31 * (4 + words) + 16
    assert view.bytes.round_total == 3 * view.bytes.round_per_site
    made = manifest(world.agreement, planned(ring_bits=bits))
    assert made.secagg.scale == scale_for(made.secagg.bound, 3, ring_of(bits))
    assert violations(world.agreement, made) == []


def test_the_load_of_an_adapted_run_is_that_of_its_part(world: World) -> None:
    adaptation = Adaptation(
        base="ab" * 32, layout="cd" * 32, dimension=5000, frozen=["0"], lora=None
    )
    view = seen(world, model=replace(MODEL, adaptation=adaptation))
    whole = seen(world)
    assert (view.allowed, view.dimension, view.base_dimension) == (True, 31, 5000)
    assert (whole.base_dimension, view.bytes.round_total) == (None, whole.bytes.round_total)
    assert view.bytes.node_memory > 4 * 5000 > whole.bytes.node_memory
    out = io.StringIO()
    Console(file=out, width=200).print(run_text.plan(view))
    assert "31 parameters trained beside a public base of 5,000" in out.getvalue()


def test_noise_too_small_for_16_bits_is_a_reason_with_its_steps_and_a_way_out(
    world: World,
) -> None:
    little: dict[str, Any] = {
        "epsilon": None,
        "noise_multiplier": "0.5",
        "steps": 1000,
        "rounds": 1,
    }
    (reason,) = (r for r in seen(world, ring_bits=16, **little).reasons if r.code == "coarse-ring")
    steps = re.search(r"noise of [0-9.]+ is ([0-9.]+) steps", reason.message)
    assert steps is not None and 0 < float(steps[1]) < 4
    assert "ring_bits: 32" in reason.hint
    assert "coarse-ring" not in codes(seen(world, ring_bits=32, **little))


def test_the_answer_is_one_json_object(world: World) -> None:
    value = json.loads(seen(world).model_dump_json())
    assert value["allowed"] is True and value["sites"][0]["cap"] == "3"


def manifest(agreement: Agreement, plan: PlanFile) -> RunManifest:
    roster = make_roster(plan, agreement)
    return make_manifest(plan, agreement, "ab" * 32, roster, MODEL, run_id=new_id(), moment=now())


def test_the_manifest_breaks_no_term_and_survives_its_own_bytes(world: World) -> None:
    made = manifest(world.agreement, planned())
    assert violations(world.agreement, made) == []
    assert RunManifest.from_bytes(made.to_bytes()) == made
    assert [site.weight for site in made.roster] == [1, 1, 1]
    assert made.title == "tabular-binary, mlp"


def test_fewer_sites_than_the_cohort_are_a_reason(world: World) -> None:
    view = seen(world, datasets=("hospital-1/tumours", "hospital-2/tumours"))
    assert "cohort-too-small" in codes(view)


def test_a_dataset_is_named_by_owner_and_name(world: World) -> None:
    with pytest.raises(AccordError, match="unknown-dataset") as caught:
        choose_datasets(planned(datasets=("hospital-1/x", "hospital-2/tumours")), world.agreement)
    assert "hospital-3/tumours" in caught.value.hint


def test_two_datasets_of_one_owner_or_two_schemas_are_refused(world: World) -> None:
    first, second, third = (item.model_dump() for item in world.agreement.datasets)
    twice = first | {"id": new_id(), "name": "more"}
    datasets = sorted([first, second, third, twice], key=lambda item: str(item["id"]))
    with pytest.raises(AccordError, match="two-datasets"):
        choose_datasets(planned(), world.amended(datasets=datasets).agreement)
    other = world.amended(datasets=[first, second, third | {"schema_hash": "ab" * 32}])
    with pytest.raises(AccordError, match="different-schemas"):
        choose_datasets(planned(), other.agreement)


@pytest.mark.parametrize("arguments", [{"rate": 0.5}, {"Bad Name": 1}])
def test_arguments_that_no_manifest_can_hold_are_named(
    world: World, arguments: dict[str, Any]
) -> None:
    with pytest.raises(AccordError):
        manifest(world.agreement, planned(architecture={"name": "mlp", **arguments}))
