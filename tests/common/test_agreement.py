"""Terms that contradict themselves are no agreement; signatures are all or nothing."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from accord_common.agreement import Agreement, verify_agreement
from accord_common.enrolment import verify_delegation, verify_enrolment, verify_offer
from accord_common.errors import FormatError, NotFoundError, PolicyError, VerificationError
from accord_common.fields import format_time, new_id, now
from accord_common.identity import SigningKey
from accord_common.manifest import RunManifest, default_threshold, verify_manifest
from tests.world import World, make_world

WORLD: World = make_world()


def changed(change: Callable[[dict[str, Any]], object]) -> str:
    """Return why the agreement with `change` is refused."""
    body = WORLD.agreement.model_dump(mode="json")
    change(body)
    with pytest.raises(FormatError) as caught:
        Agreement.from_json(body)
    assert caught.value.code == "bad-record"
    return caught.value.message


def test_an_agreement_signed_by_all_verifies() -> None:
    assert verify_agreement(WORLD.agreement_envelope) == WORLD.agreement


def test_one_signature_short_or_one_too_many_is_no_agreement() -> None:
    with pytest.raises(VerificationError) as caught:
        verify_agreement(WORLD.partly_signed(*WORLD.actors[1:]))
    assert caught.value.code == "missing-signature"
    stranger = make_world().hospitals[0]
    with pytest.raises(VerificationError) as caught:
        verify_agreement(WORLD.partly_signed(*WORLD.actors, stranger))
    assert caught.value.code == "unexpected-signature"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda b: b["parties"].reverse(), "sorted"),
        (lambda b: b["parties"].append(b["parties"][-1]), "repeat"),
        (lambda b: b["parties"][0].update(identity_key=b["parties"][1]["identity_key"]), "repeat"),
        (lambda b: b["parties"][0].update(role="auditor"), ""),
        (lambda b: b["datasets"][0].update(owner=new_id()), "no data-holder"),
        (lambda b: b["datasets"][0]["privacy"].update(epsilon_cap="0"), "epsilon_cap"),
        (lambda b: b["datasets"][0]["privacy"].update(epsilon_cap="101"), "epsilon_cap"),
        (lambda b: b["datasets"][0]["privacy"].update(delta="0.02"), "delta"),
        (lambda b: b["datasets"][0]["privacy"].update(delta="0.005"), "below 1/200"),
        (lambda b: b["datasets"][0].update(size=0), "size"),
        (lambda b: b.update(title="at most \u202e100\u202c"), "U+202E"),
        (lambda b: b["parties"][0].update(name="Hospital\u200b"), "U+200B"),
        (lambda b: b.update(legal_basis="one\u2028two"), "U+2028"),
        (lambda b: b.update(responsibilities="\u009b2J"), "U+009B"),
        (lambda b: b["release"].update(recipients=[new_id()]), "no party"),
        (lambda b: b["benefit"].update(shares={new_id(): "1"}), "no party"),
        (lambda b: b.update(version=2), "previous"),
        (lambda b: b.update(previous="ab" * 32), "previous"),
        (lambda b: b.update(valid_until=b["valid_from"]), "before"),
        (lambda b: b.update(valid_from="2026-02-30T12:00:00Z"), "valid_from"),
        (lambda b: b.update(purpose=["research"]), "purpose"),
        (lambda b: b["aggregation"].update(min_cohort=1), "min_cohort"),
        (lambda b: b.update(surprise=1), "surprise"),
    ],
)
def test_contradictory_terms_are_refused_with_the_reason(
    change: Callable[[dict[str, Any]], object], why: str
) -> None:
    assert why in changed(change)


def test_two_coordinators_are_refused() -> None:
    def promote(body: dict[str, Any]) -> None:
        next(p for p in body["parties"] if p["role"] == "aggregator")["role"] = "coordinator"

    assert "exactly one party must be the coordinator" in changed(promote)


def test_dates_hold_with_the_clock_tolerance_of_five_minutes() -> None:
    end = now() + timedelta(days=1)
    terms = WORLD.amended(valid_until=format_time(end)).agreement
    terms.check_valid_at(end + timedelta(seconds=299))
    with pytest.raises(PolicyError) as caught:
        terms.check_valid_at(end + timedelta(seconds=302))
    assert caught.value.code == "agreement-expired"
    with pytest.raises(PolicyError) as caught:
        terms.check_valid_at(now() - timedelta(days=2))
    assert caught.value.code == "agreement-not-yet-valid"


def test_what_the_agreement_does_not_name_is_not_found() -> None:
    for ask, kind in (
        (lambda: WORLD.agreement.party(new_id()), NotFoundError),
        (lambda: WORLD.agreement.dataset(new_id()), NotFoundError),
        (lambda: WORLD.agreement.permitted("chess"), PolicyError),
    ):
        with pytest.raises(kind):
            ask()


def test_a_delegation_is_the_institutions_word_for_its_own_node() -> None:
    actor, other = WORLD.hospitals[:2]
    key = actor.identity.public
    verify_delegation(WORLD.delegations[actor.id], identity_key=key, party=actor.id)
    with pytest.raises(VerificationError) as caught:
        verify_delegation(WORLD.delegations[actor.id], identity_key=key, party=other.id)
    assert caught.value.code == "wrong-party"
    with pytest.raises(VerificationError):
        verify_delegation(
            WORLD.delegations[actor.id], identity_key=other.identity.public, party=actor.id
        )
    with pytest.raises(VerificationError) as caught:
        verify_delegation(actor.enrolment(), identity_key=key, party=actor.id)
    assert caught.value.code == "wrong-kind"


def test_an_enrolment_proves_possession_of_its_key() -> None:
    verify_enrolment(WORLD.hospitals[0].enrolment())
    thief = WORLD.hospitals[0].__class__(
        **{**vars(WORLD.hospitals[0]), "identity": SigningKey.generate()}
    )
    stolen = WORLD.hospitals[0].enrolment()
    forged = type(stolen)(stolen.kind, stolen.payload, thief.enrolment().signatures)
    with pytest.raises(VerificationError):
        verify_enrolment(forged)


def test_an_offer_comes_from_the_delegated_aggregator() -> None:
    envelope = WORLD.delegations[WORLD.aggregator.id]
    delegation = verify_delegation(
        envelope, identity_key=WORLD.aggregator.identity.public, party=WORLD.aggregator.id
    )
    offer = WORLD.run_keys().offer
    verify_offer(offer, delegation, envelope.hash)
    with pytest.raises(VerificationError) as caught:
        verify_offer(offer, delegation, "00" * 32)
    assert caught.value.code == "wrong-party"


@pytest.mark.parametrize(("n", "t"), [(2, 2), (3, 3), (4, 3), (5, 4), (10, 7), (50, 34)])
def test_the_default_threshold_is_the_protocols(n: int, t: int) -> None:
    assert default_threshold(n) == t


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda b: b["roster"].reverse(), "sorted"),
        (lambda b: b["roster"].append(b["roster"][-1]), "sorted"),
        (lambda b: b["roster"][0].update(dataset=b["roster"][1]["dataset"]), "dataset twice"),
        (lambda b: b.update(max_attempts_total=1), "max_attempts_total"),
        (lambda b: b["architecture"].update(args={"rate": 0.5}), "args"),
        (lambda b: b["secagg"].update(ring_bits=24), "ring_bits"),
        (lambda b: b["aggregator"].update(address="https://x"), "address"),
        (lambda b: b["roster"][0].update(weight=0), "weight"),
    ],
)
def test_contradictory_manifests_are_refused(
    change: Callable[[dict[str, Any]], object], why: str
) -> None:
    body = WORLD.manifest_body(WORLD.run_keys()).model_dump(mode="json")
    change(body)
    with pytest.raises(FormatError) as caught:
        RunManifest.from_json(body)
    assert why in caught.value.message or caught.value.code == "not-canonical"


def test_a_manifest_is_signed_by_the_coordinator_alone() -> None:
    manifest = WORLD.manifest(WORLD.run_keys())
    key = WORLD.coordinator.identity.public
    run = verify_manifest(manifest, coordinator_key=key)
    assert [run.index(site.party) for site in run.roster] == [0, 1, 2]
    assert run.smallest_cohort == 3
    with pytest.raises(NotFoundError):
        run.site(WORLD.coordinator.id)
    for envelope, other in (
        (manifest, WORLD.aggregator.identity.public),
        (WORLD.agreement_envelope, key),
    ):
        with pytest.raises(VerificationError):
            verify_manifest(envelope, coordinator_key=other)
