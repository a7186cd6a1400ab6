"""Records that are genuine and not the ones that a manifest names, and checks at their edges."""

from dataclasses import replace
from datetime import timedelta

import pytest

from accord_client.consent import Verdict, decide
from accord_common.errors import PolicyError
from accord_common.fields import format_time, now
from accord_common.privacy.events import Spend
from tests.client.test_consent import Case


def test_another_delegation_of_the_same_key_is_not_the_one_that_was_named() -> None:
    """The registry answers with an earlier one, which the site's institution signed as well."""
    case = Case()
    other = case.world.hospitals[1]
    named = case.world.delegations[other.id].hash
    earlier = other.delegation(valid_until=format_time(now() + timedelta(days=30)))
    answered = dict(case.delegations) | {named: earlier}
    assert decide(case.facts(delegations=answered)).code == "delegation-missing"


def test_a_delegation_of_another_site_that_ended_is_refused() -> None:
    case = Case()
    other = case.world.hospitals[1]
    ended = other.delegation(valid_until=format_time(now() - timedelta(minutes=10)))
    case.delegations[ended.hash] = ended
    sites = [site.model_dump() for site in case.world.manifest_body(case.keys).roster]
    for site in sites:
        if site["party"] == other.id:
            site["delegation"] = ended.hash
    assert decide(case.facts(case.manifest(roster=sites))).code == "delegation-expired"


def test_another_offer_of_the_same_aggregator_is_not_the_one_that_was_named() -> None:
    case = Case()
    earlier = case.world.run_keys().offer
    assert decide(case.facts(offer=earlier)).code == "offer-missing"


def test_an_offer_without_its_aggregators_delegation_is_refused() -> None:
    case = Case()
    own = case.world.delegations[case.world.aggregator.id].hash
    rest = {name: envelope for name, envelope in case.delegations.items() if name != own}
    assert decide(case.facts(delegations=rest)).code == "delegation-missing"


def test_a_table_as_large_as_its_public_size_is_accepted() -> None:
    case = Case()
    full = replace(case.local, rows=case.local.size)
    assert decide(case.facts(datasets={full.id: full})) == Verdict("accept", code="", reason="")


def test_what_a_refusal_says_of_the_table_itself_is_for_the_steward_alone() -> None:
    case = Case()
    grown = replace(case.local, rows=case.local.size + 1)
    verdict = decide(case.facts(datasets={grown.id: grown}))
    assert (verdict.code, verdict.reason) == (
        "dataset-outgrew-size",
        "the table has outgrown its public size 200",
    )
    assert verdict.told == (
        "dataset-not-ready",
        "this site's table does not fit; its steward knows why",
    )


def test_a_refusal_on_public_facts_is_told_as_it_is() -> None:
    verdict = decide(Case().facts(installed=None))
    assert verdict.told == (verdict.code, verdict.reason)
    assert verdict.code == "task-not-installed"
    assert "is installed" in verdict.reason


def test_there_are_no_terms_without_an_agreement() -> None:
    facts = replace(Case().facts(), agreement=None)
    with pytest.raises(PolicyError) as caught:
        _ = facts.terms
    assert caught.value.code == "agreement-not-signed"


def test_the_budget_is_asked_for_attempts_of_the_first_round() -> None:
    """Whichever round they will be of: none of it is charged yet, so none is left out as paid."""
    seen: list[Spend] = []
    decide(Case().facts(check_budget=seen.extend))
    assert {spend.round for spend in seen} == {0}


def test_what_a_refusal_says_is_for_all_parties_unless_it_speaks_of_the_table() -> None:
    assert Verdict("refuse", "steward-refused", "not yet").told == ("steward-refused", "not yet")
    code, reason = Verdict("refuse", "dataset-changed", "row 7", private=True).told
    assert "row 7" not in code + reason
