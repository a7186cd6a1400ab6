"""Each check of consent.py refuses one attack, and no other check would: see `SCENARIOS`.

`test_a_check_that_is_deleted_is_missed` removes every check in turn and shows that the attack which
it alone refuses would then get through. The attacker holds the coordinator's, aggregator's and
registry's keys and signs anew whatever it alters.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest

from accord_client import consent
from accord_client.consent import CHECKS, DatasetFacts, Facts, decide, objections
from accord_common.catalogue import CatalogueEntry
from accord_common.enrolment import DELEGATION, OFFER, Offer
from accord_common.envelope import Envelope, sign
from accord_common.errors import PolicyError
from accord_common.fields import format_time, new_id, now
from accord_common.identity import SigningKey
from accord_common.manifest import MANIFEST, RunManifest
from accord_common.privacy.events import Spend
from accord_common.rings import Z16, Z32, Z64, Ring, scale_for
from accord_common.terms import required_bound
from tests.catalogued import entry
from tests.world import Actor, RunKeys, World, make_world


@dataclass(frozen=True)
class Code:
    distribution: str = "accord"
    version: str = "0.1.0"
    code_hash: str = "ab" * 32


class Case:
    """One world seen from its first hospital; scenarios alter it and sign again."""

    def __init__(self, hospitals: int = 3) -> None:
        self.world: World = make_world(hospitals)
        self.me: Actor = self.world.hospitals[0]
        self.keys: RunKeys = self.world.run_keys()
        self.delegations = {e.hash: e for e in self.world.delegations.values()}
        self.agreement: Envelope = self.world.agreement_envelope
        self.budget: Callable[[Sequence[Spend]], None] = lambda spends: None
        self.local = DatasetFacts(
            self.me.dataset,
            self.me.population,
            self.world.agreement.dataset(self.me.dataset).schema_hash,
            200,
            180,
        )

    def facts(self, manifest: Envelope | None = None, **changes: Any) -> Facts:
        manifest = manifest or self.manifest()
        facts = Facts(
            party=self.me.id,
            identity_key=self.me.identity.public,
            node_key=self.me.node.public,
            agreement=self.agreement,
            in_force=None,
            manifest=manifest,
            known_manifest=None,
            delegations=self.delegations,
            offer=self.keys.offer,
            datasets={self.local.id: self.local},
            installed=Code(),
            layout=("cd" * 32, 3),
            base=("ce" * 32, 9),
            check_budget=self.budget,
            now=now(),
        )
        return replace(facts, **changes)

    def manifest(self, **changes: Any) -> Envelope:
        return self.world.manifest(self.keys, **changes)

    def roster(self, **changes: Any) -> list[dict[str, Any]]:
        """The roster with `changes` applied to the second site."""
        sites = [site.model_dump() for site in self.world.manifest_body(self.keys).roster]
        other = next(site for site in sites if site["party"] != self.me.id)
        other.update(changes)
        return sites

    def everybody(self, **changes: Any) -> list[dict[str, Any]]:
        """The roster with `changes` applied to every site."""
        return [site.model_dump() | changes for site in self.world.manifest_body(self.keys).roster]

    def secagg(self, **changes: Any) -> dict[str, Any]:
        return self.world.manifest_body(self.keys).secagg.model_dump() | changes

    def under(self, world: World) -> None:
        """Let the steward have signed other terms: they, not the manifest, are what changed."""
        self.world, self.agreement = world, world.agreement_envelope

    def aggregator_keys(self, **changes: Any) -> dict[str, Any]:
        return self.world.manifest_body(self.keys).aggregator.model_dump() | changes


Scenario = Callable[[Case], Facts]
SCENARIOS: dict[str, tuple[str, Scenario]] = {}


def attack(check: str, code: str) -> Callable[[Scenario], Scenario]:
    """Register the attack that `check` alone refuses, with `code`."""

    def register(scenario: Scenario) -> Scenario:
        SCENARIOS[check] = (code, scenario)
        return scenario

    return register


@attack("agreement_is_the_one_signed_here", "agreement-not-signed")
def a_manifest_stands_on_an_agreement_with_a_raised_budget(case: Case) -> Facts:
    raised = case.world.agreement.model_dump()["datasets"]
    for dataset in raised:
        dataset["privacy"]["epsilon_cap"] = "50"
    other = case.world.amended(datasets=raised)
    return case.facts(other.manifest(case.keys))


@attack("agreement_has_every_signature", "missing-signature")
def the_stored_agreement_lacks_a_partys_signature(case: Case) -> Facts:
    case.agreement = case.world.partly_signed(*case.world.actors[1:], case.me)
    case.agreement = Envelope(
        case.agreement.kind, case.agreement.payload, case.agreement.signatures[:-1]
    )
    return case.facts()


@attack("agreement_names_this_institution", "identity-exchanged")
def the_agreement_names_another_key_for_this_institution(case: Case) -> Facts:
    return case.facts(identity_key=SigningKey.generate().public)


@attack("agreement_is_in_force", "agreement-superseded")
def an_old_agreement_is_used_after_a_newer_one_was_signed(case: Case) -> Facts:
    return case.facts(in_force=PolicyError("agreement-superseded", "version 2 is signed"))


@attack("agreement_is_within_its_dates", "agreement-expired")
def an_agreement_is_used_after_its_end(case: Case) -> Facts:
    end = now() + timedelta(days=300)
    case.under(case.world.amended(valid_until=format_time(end)))
    delegations = {
        actor.id: actor.delegation(valid_until=format_time(end + timedelta(days=99)))
        for actor in case.world.actors
        if actor.role != "coordinator"
    }
    case.world = replace(case.world, delegations=delegations)
    case.keys = case.world.run_keys()
    case.delegations = {e.hash: e for e in delegations.values()}
    return case.facts(now=end + timedelta(days=1))


@attack("manifest_is_signed_by_the_coordinator", "missing-signature")
def somebody_else_signs_the_manifest(case: Case) -> Facts:
    body = case.world.manifest_body(case.keys)
    return case.facts(sign(MANIFEST, body, case.world.aggregator.identity))


@attack("manifest_did_not_change", "manifest-changed")
def a_run_that_was_consented_to_gets_more_rounds(case: Case) -> Facts:
    first = case.world.manifest_body(case.keys)
    more = case.manifest(id=first.id, rounds=3)
    return case.facts(more, known_manifest=sign(MANIFEST, first, case.me.identity).hash)


@attack("protocol_is_known", "protocol-mismatch")
def the_run_speaks_another_protocol(case: Case) -> Facts:
    return case.facts(case.manifest(protocol=2))


@attack("roster_is_agreed", "roster-not-agreed")
def a_site_brings_a_dataset_of_another_site(case: Case) -> Facts:
    _, other, third = case.world.hospitals
    swapped = {other.id: third.dataset, third.id: other.dataset}
    sites = [site.model_dump() for site in case.world.manifest_body(case.keys).roster]
    for site in sites:
        site["dataset"] = swapped.get(site["party"], site["dataset"])
    return case.facts(case.manifest(roster=sites))


@attack("aggregator_is_agreed", "aggregator-not-agreed")
def the_coordinator_makes_itself_the_aggregator(case: Case) -> Facts:
    coordinator = case.world.coordinator
    own = coordinator.delegation()
    case.delegations[own.hash] = own
    offer = Offer.from_bytes(case.keys.offer.payload)
    forged = sign(
        OFFER,
        offer.model_copy(update={"party": coordinator.id, "delegation": own.hash}),
        coordinator.node,
    )
    keys = case.aggregator_keys(party=coordinator.id, offer=forged.hash)
    return case.facts(case.manifest(aggregator=keys), offer=forged)


@attack("cohort_is_large_enough", "cohort-too-small")
def the_smallest_cohort_is_lowered(case: Case) -> Facts:
    return case.facts(case.manifest(secagg=case.secagg(min_cohort=2)))


@attack("threshold_is_high_enough", "threshold-too-low")
def the_threshold_is_lowered(case: Case) -> Facts:
    return case.facts(case.manifest(secagg=case.secagg(threshold=2)))


@attack("colluders_are_bounded", "colluders-out-of-bounds")
def the_run_claims_more_colluders_than_its_numbers_bear(case: Case) -> Facts:
    return case.facts(case.manifest(secagg=case.secagg(colluders=2)))


@attack("task_is_permitted", "task-not-permitted")
def a_task_runs_that_nobody_agreed_to(case: Case) -> Facts:
    task = case.world.manifest_body(case.keys).task.model_dump() | {"name": "tabular-multiclass"}
    return case.facts(case.manifest(task=task))


@attack("architecture_is_permitted", "architecture-not-permitted")
def the_architecture_is_exchanged(case: Case) -> Facts:
    return case.facts(case.manifest(architecture={"name": "memoriser", "args": {}}))


@attack("rounds_are_within_terms", "too-many-rounds")
def there_are_more_rounds_than_agreed(case: Case) -> Facts:
    return case.facts(case.manifest(rounds=101, max_attempts_total=101))


@attack("roster_is_small_enough", "roster-too-large")
def more_institutions_take_part_than_a_complete_graph_is_for(case: Case) -> Facts:
    case = Case(51)
    scale = scale_for(case.secagg()["bound"], 51, Z32)
    return case.facts(case.manifest(secagg=case.secagg(scale=scale)))


@attack("schema_is_agreed", "schema-not-agreed")
def the_manifest_names_another_schema(case: Case) -> Facts:
    return case.facts(case.manifest(schema_hash="ee" * 32))


@attack("privacy_is_as_agreed", "non-private-not-agreed")
def a_run_protects_nobody_where_one_site_agreed_on_private_runs_only(case: Case) -> Facts:
    datasets = case.world.agreement.model_dump()["datasets"]
    for dataset in datasets:
        dataset["privacy"]["non_private"] = dataset["owner"] != case.world.hospitals[1].id
    case.under(case.world.amended(datasets=datasets))
    roster = case.everybody(noise_multiplier="0")
    return case.facts(case.manifest(privacy="none", roster=roster))


@attack("noise_is_enough", "noise-too-small")
def a_site_adds_less_noise_than_agreed(case: Case) -> Facts:
    return case.facts(case.manifest(roster=case.everybody(noise_multiplier="0.4")))


@attack("clipping_is_within_terms", "clipping-norm-too-large")
def the_clipping_norm_is_raised(case: Case) -> Facts:
    local = case.world.manifest_body(case.keys).local.model_dump() | {"clipping_norm": "11"}
    return case.facts(case.manifest(local=local))


@attack("sampling_is_within_terms", "sampling-rate-too-large")
def the_sampling_rate_is_raised(case: Case) -> Facts:
    return case.facts(case.manifest(roster=case.everybody(sampling_rate="0.6")))


@attack("weights_are_public", "weights-not-agreed")
def weights_let_one_site_drown_out_the_others(case: Case) -> Facts:
    sites = [site.model_dump() for site in case.world.manifest_body(case.keys).roster]
    for site in sites:
        site["weight"] = 1_000_000 if site["party"] == case.me.id else 1
    return case.facts(case.manifest(roster=sites))


@attack("sampling_is_alike", "sampling-rates-differ")
def a_tiny_sampling_rate_makes_one_update_drown_out_the_others(case: Case) -> Facts:
    return case.facts(case.manifest(roster=case.roster(sampling_rate="0.000005")))


@attack("noise_is_alike", "noise-not-alike")
def much_noise_makes_one_update_drown_out_the_others(case: Case) -> Facts:
    return case.facts(case.manifest(roster=case.roster(noise_multiplier="900")))


@attack("scale_follows", "scale-does-not-follow")
def the_scale_is_coarsened_so_that_small_noise_is_rounded_away(case: Case) -> Facts:
    return case.facts(case.manifest(secagg=case.secagg(scale=1)))


@attack("ring_is_wide_enough", "coarse-ring")
def half_the_words_would_show_an_update_through_coarse_rounding(case: Case) -> Facts:
    local = case.world.manifest_body(case.keys).local.model_dump()
    many = local | {"steps": 20_000}  # B outgrows the noise
    changes = {"local": many, "roster": case.everybody(noise_multiplier="0.5")}
    secagg = case.world.manifest_body(case.keys, **changes).secagg.model_dump()
    narrow = secagg | {"ring_bits": 16, "scale": scale_for(secagg["bound"], 3, Z16)}
    return case.facts(case.manifest(secagg=narrow, **changes))


@attack("delegations_hold", "bad-signature")
def a_node_key_of_another_site_is_exchanged(case: Case) -> Facts:
    other = case.world.hospitals[1]
    thief = replace(other, identity=case.world.coordinator.identity)
    forged = thief.delegation()
    named = Envelope(
        DELEGATION, forged.payload, ((other.identity.public, forged.signatures[0][1]),)
    )
    case.delegations[named.hash] = named
    return case.facts(case.manifest(roster=case.roster(party=other.id, delegation=named.hash)))


@attack("own_node_key_is_in_the_roster", "node-key-exchanged")
def the_roster_names_an_old_node_key_for_us(case: Case) -> Facts:
    return case.facts(node_key=SigningKey.generate().public)


@attack("aggregator_made_the_offer", "offer-exchanged")
def the_coordinator_puts_in_its_own_envelope_key(case: Case) -> Facts:
    keys = case.aggregator_keys(envelope_key=SigningKey.generate().public)
    return case.facts(case.manifest(aggregator=keys))


@attack("dataset_is_registered_here", "dataset-changed")
def the_dataset_was_registered_for_another_population(case: Case) -> Facts:
    return case.facts(datasets={case.local.id: replace(case.local, population=new_id())})


@attack("catalogue_entry_is_kept", "catalogue-stricter")
def the_catalogue_entry_asks_for_ethics_approval(case: Case) -> Facts:
    declared = CatalogueEntry.from_bytes(entry(case.world, case.me, duo=["DUO:0000021"]).payload)
    return case.facts(datasets={case.local.id: replace(case.local, declared=declared)})


@attack("rows_are_within_the_public_size", "dataset-outgrew-size")
def the_table_has_more_rows_than_its_public_size(case: Case) -> Facts:
    return case.facts(datasets={case.local.id: replace(case.local, rows=201)})


@attack("task_is_installed", "task-code-differs")
def the_task_is_other_code_than_installed(case: Case) -> Facts:
    return case.facts(installed=Code(code_hash="00" * 32))


@attack("layout_follows_from_the_architecture", "layout-does-not-follow")
def the_vector_is_longer_than_the_architecture(case: Case) -> Facts:
    return case.facts(case.manifest(dimension=4))


@attack("base_follows_from_the_architecture", "base-does-not-follow")
def the_base_is_larger_than_the_architecture(case: Case) -> Facts:
    base = {"base": "ab" * 32, "layout": "ce" * 32, "dimension": 9, "frozen": ["0"], "lora": None}
    assert decide(case.facts(case.manifest(adaptation=base))).decision == "accept"
    return case.facts(case.manifest(adaptation=base | {"dimension": 1 << 27}))


@attack("budget_covers_every_attempt", "budget-exceeded")
def the_budget_cannot_pay_every_attempt(case: Case) -> Facts:
    def check(spends: Sequence[Spend]) -> None:
        if len(spends) > 3:  # the manifest allows 4 attempts
            raise PolicyError("budget-exceeded", "spent 2.9 of 3")

    return case.facts(check_budget=check)


def test_an_honest_run_is_accepted() -> None:
    verdict = decide(Case().facts())
    assert (verdict.decision, verdict.code) == ("accept", "")


@pytest.mark.parametrize("ring", [Z16, Z64])
def test_other_rings_are_accepted_with_the_scale_that_follows(ring: Ring[Any]) -> None:
    case = Case()
    scale = scale_for(case.secagg()["bound"], 3, ring)
    verdict = decide(
        case.facts(case.manifest(secagg=case.secagg(ring_bits=ring.bits, scale=scale)))
    )
    assert (verdict.decision, verdict.code) == ("accept", "")


def test_every_check_has_its_attack_and_no_attack_is_left_over() -> None:
    names = [check.__name__ for check in CHECKS]
    assert sorted(names) == sorted(SCENARIOS)


@pytest.mark.parametrize("check", SCENARIOS)
def test_the_attack_is_refused(check: str) -> None:
    code, scenario = SCENARIOS[check]
    verdict = decide(scenario(Case()))
    assert (verdict.decision, verdict.code) == ("refuse", code), verdict.reason


@pytest.mark.parametrize("check", SCENARIOS)
def test_a_check_that_is_deleted_is_missed(check: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, scenario = SCENARIOS[check]
    facts = scenario(Case())
    rest = tuple(item for item in CHECKS if item.__name__ != check)
    monkeypatch.setattr(consent, "CHECKS", rest)
    assert decide(facts).decision == "accept", decide(facts)


def test_the_attempts_that_are_budgeted_are_all_that_the_manifest_allows() -> None:
    seen: list[Spend] = []
    case = Case()
    decide(case.facts(case.manifest(max_attempts_total=9), check_budget=seen.extend))
    assert [spend.attempt for spend in seen] == list(range(9))
    assert {spend.population for spend in seen} == {case.me.population}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"agreement": None}, "agreement-not-signed"),
        ({"offer": None}, "offer-missing"),
        ({"delegations": {}}, "delegation-missing"),
        ({"datasets": {}}, "dataset-not-here"),
        ({"installed": None}, "task-not-installed"),
        ({"layout": None}, "layout-does-not-follow"),
    ],
)
def test_what_is_absent_is_refused(change: dict[str, Any], code: str) -> None:
    verdict = decide(Case().facts(**change))
    assert (verdict.decision, verdict.code) == ("refuse", code)


def test_an_offer_of_an_aggregator_whose_delegation_ended_is_refused() -> None:
    case = Case()
    case.world = replace(
        case.world,
        delegations=case.world.delegations
        | {
            case.world.aggregator.id: case.world.aggregator.delegation(
                valid_until=format_time(now() - timedelta(minutes=10))
            )
        },
    )
    case.keys = case.world.run_keys()
    case.delegations = {e.hash: e for e in case.world.delegations.values()}
    assert decide(case.facts()).code == "delegation-expired"


def test_two_sites_with_one_node_key_are_refused() -> None:
    case = Case()
    other = case.world.hospitals[1]
    shared = replace(other, node=case.world.hospitals[2].node).delegation()
    case.delegations[shared.hash] = shared
    sites = [site.model_dump() for site in case.world.manifest_body(case.keys).roster]
    for site in sites:
        if site["party"] == other.id:
            site["delegation"] = shared.hash
    assert decide(case.facts(case.manifest(roster=sites))).code == "node-key-shared"


def test_a_clipping_norm_that_float32_cannot_hold_rows_to_is_refused() -> None:
    case = Case()
    local = case.world.manifest_body(case.keys).local.model_dump()
    for clip, code in (("0.000001", ""), ("0.0000009", "clipping-norm-too-small")):
        manifest = case.manifest(local=local | {"clipping_norm": clip})
        assert decide(case.facts(manifest)).code == code
    for clip in ("0", "-1"):  # the bound that would follow does not exist
        manifest = case.manifest(local=local | {"clipping_norm": clip}, secagg=case.secagg())
        assert decide(case.facts(manifest)).code == "clipping-norm-too-small"


def test_weights_may_be_equal_or_the_public_sizes() -> None:
    case = Case()
    datasets = case.world.agreement.model_dump()["datasets"]
    for number, dataset in enumerate(datasets):
        dataset["size"] = 200 + number
    case.under(case.world.amended(datasets=datasets))
    case.local = replace(case.local, size=case.world.agreement.dataset(case.me.dataset).size)
    sites = [site.model_dump() for site in case.world.manifest_body(case.keys).roster]
    sizes = [case.world.agreement.dataset(site["dataset"]).size for site in sites]
    for weights, code in (
        ([7] * len(sites), ""),
        (sizes, ""),
        ([*sizes[1:], sizes[0]], "weights-not-agreed"),
    ):
        roster = [site | {"weight": w} for site, w in zip(sites, weights, strict=True)]
        assert decide(case.facts(case.manifest(roster=roster))).code == code


def test_a_run_without_privacy_is_accepted_where_every_site_permits_it() -> None:
    case = Case()
    datasets = case.world.agreement.model_dump()["datasets"]
    for dataset in datasets:
        dataset["privacy"]["non_private"] = True
    case.under(case.world.amended(datasets=datasets))
    asked: list[Spend] = []
    roster = case.everybody(noise_multiplier="0")
    run = case.manifest(privacy="none", roster=roster)
    assert decide(case.facts(run, check_budget=asked.extend)).code == ""
    assert {(spend.mechanism, spend.noise_multiplier) for spend in asked} == {("none", "0")}
    assert decide(case.facts()).code == ""  # private runs as ever
    narrow = case.secagg(ring_bits=16)  # coarse words would be all that a comparison shows
    run = case.manifest(privacy="none", roster=roster, secagg=narrow)
    bound = required_bound(case.world.agreement, RunManifest.from_bytes(run.payload))
    narrow |= {"bound": bound, "scale": scale_for(bound, 3, Z16)}
    run = case.manifest(privacy="none", roster=roster, secagg=narrow)
    assert decide(case.facts(run)).code == "coarse-ring"


@pytest.mark.parametrize(("privacy", "noise"), [("dp", "0"), ("dp", "-2"), ("none", "2")])
def test_a_manifest_has_noise_exactly_where_it_says_so(privacy: str, noise: str) -> None:
    case = Case()
    body = case.world.manifest_body(case.keys).model_dump()
    roster = case.everybody(noise_multiplier=noise)
    with pytest.raises(ValueError, match="in a run with privacy"):
        RunManifest.model_validate(body | {"privacy": privacy, "roster": roster})


def test_garbage_in_place_of_a_manifest_is_refused() -> None:
    case = Case()
    garbage = sign(DELEGATION, case.world.agreement, case.world.coordinator.identity)
    assert decide(case.facts(garbage)).decision == "refuse"


def test_a_steward_is_told_everything_that_speaks_against_a_run() -> None:
    case = Case()
    manifest = case.manifest(
        rounds=500, max_attempts_total=500, architecture={"name": "cnn", "args": {}}
    )
    facts = case.facts(manifest, installed=None, datasets={})
    codes = [error.code for error in objections(facts)]
    assert codes == [
        "architecture-not-permitted",
        "too-many-rounds",
        "dataset-not-here",
        "task-not-installed",
    ]
    assert decide(facts).code == codes[0]
    assert list(objections(case.facts())) == []
