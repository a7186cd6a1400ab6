"""Whoever stores the records, only a chain that holds is acted on."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from accord_common import chain
from accord_common.canonical import sha256_hex
from accord_common.envelope import Envelope, sign
from accord_common.errors import AccordError, PolicyError, VerificationError
from accord_common.fields import now
from accord_common.identity import SigningKey
from accord_common.manifest import MANIFEST
from accord_common.receipts import AGGREGATOR_RECEIPT, RESULT, AggregatorReceipt, RunResult
from tests.world import INITIAL_MODEL, World, make_actor, make_world


class Store:
    """What an honest or dishonest registry holds for one run of two rounds."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.keys = world.run_keys()
        self.manifest = world.manifest(self.keys)
        known = [world.agreement_envelope, self.keys.offer, self.manifest]
        self.records = {item.hash: item for item in [*known, *world.delegations.values()]}

    def add(self, envelope: Envelope) -> str:
        self.records[envelope.hash] = envelope
        return envelope.hash

    def lookup(self, record_hash: str) -> Envelope:
        return self.records[record_hash]

    def run(self) -> chain.VerifiedRun:
        return chain.fetch_run(self.lookup, self.manifest.hash)

    def receipt(self, previous: str, round_: int, before: str, after: str | None) -> str:
        done = after is not None
        body = AggregatorReceipt(
            previous=previous,
            manifest=self.manifest.hash,
            round=round_,
            attempt=0,
            outcome="completed" if done else "aborted",
            cohort=[],
            lost=[],
            refused={},
            uploads=[],
            sum=sha256_hex(b"sum") if done else None,
            model_before=before,
            model_after=after,
            created="2026-01-31T12:00:00Z",
        )
        return self.add(sign(AGGREGATOR_RECEIPT, body, self.keys.receipt))

    def result(self, previous: str, model: str, rounds: int = 2) -> str:
        return self.add(self.world.result(self.keys, self.manifest, previous, model, rounds=rounds))


INITIAL = sha256_hex(INITIAL_MODEL)
FIRST, SECOND = sha256_hex(b"first"), sha256_hex(b"second")


@pytest.fixture(scope="module")
def world() -> World:
    return make_world()


@pytest.fixture
def store(world: World) -> Store:
    return Store(world)


def refused(act: Callable[[], object]) -> AccordError:
    with pytest.raises(AccordError) as caught:
        act()
    return caught.value


def test_a_run_comes_with_everything_it_names(store: Store) -> None:
    run = store.run()
    assert run.agreement == store.world.agreement
    assert run.manifest_hash == store.manifest.hash
    assert set(run.delegations) == {actor.id for actor in store.world.hospitals}
    assert run.aggregator.party == store.world.aggregator.id
    chain.check_dates(run, now())


def test_dates_of_agreement_and_delegations_are_checked(store: Store) -> None:
    with pytest.raises(PolicyError, match="agreement-expired"):
        chain.check_dates(store.run(), now() + timedelta(days=400))


def test_another_record_under_the_hash_is_refused(store: Store) -> None:
    store.records[store.manifest.hash] = store.world.manifest(store.keys, title="Other")
    assert refused(store.run).code == "wrong-record"


def test_a_record_of_another_kind_is_refused(store: Store) -> None:
    offer = store.keys.offer
    assert refused(lambda: chain.fetch(store.lookup, offer.hash, MANIFEST)).code == "wrong-kind"


def test_a_manifest_signed_by_a_hospital_is_refused(store: Store) -> None:
    body = store.world.manifest_body(store.keys)
    forged = sign(MANIFEST, body, store.world.hospitals[0].identity)
    store.add(forged)
    error = refused(lambda: chain.fetch_run(store.lookup, forged.hash))
    assert error.code == "missing-signature"


def test_an_agreement_that_lacks_a_signature_is_refused(store: Store) -> None:
    partly = store.world.partly_signed(*store.world.actors[:-1])
    store.records[partly.hash] = partly
    assert refused(store.run).code == "missing-signature"


def test_a_delegation_of_a_swapped_key_is_refused(store: Store) -> None:
    hospital = store.world.hospitals[0]
    impostor = replace(hospital, identity=SigningKey.generate())
    delegation = impostor.delegation()
    roster = [
        site.model_copy(update={"delegation": store.add(delegation)})
        if site.party == hospital.id
        else site
        for site in store.world.manifest_body(store.keys).roster
    ]
    store.manifest = store.world.manifest(store.keys, roster=[site.model_dump() for site in roster])
    store.add(store.manifest)
    assert refused(store.run).code == "missing-signature"


def test_an_offer_of_another_aggregator_is_refused(store: Store) -> None:
    stranger = make_actor("stranger", "aggregator")
    world = replace(
        store.world,
        aggregator=stranger,
        delegations={**store.world.delegations, stranger.id: stranger.delegation()},
    )
    keys = world.run_keys()
    store.add(keys.offer)
    store.add(world.delegations[stranger.id])
    store.manifest = store.world.manifest(keys)
    store.add(store.manifest)
    assert isinstance(refused(store.run), VerificationError)


@pytest.mark.parametrize("field", ["envelope_key", "receipt_key", "tls_spki"])
def test_keys_other_than_the_offered_are_refused(store: Store, field: str) -> None:
    body = store.world.manifest_body(store.keys)
    exchanged = body.aggregator.model_copy(update={field: "ab" * 32})
    store.manifest = store.world.manifest(store.keys, aggregator=exchanged.model_dump())
    store.add(store.manifest)
    assert refused(store.run).code == "wrong-aggregator-keys"


def test_the_callers_own_agreement_counts(store: Store) -> None:
    world = store.world
    own = chain.fetch_run(
        store.lookup,
        store.manifest.hash,
        agreement=world.agreement,
        agreement_hash=world.agreement_hash,
    )
    assert own.agreement_hash == world.agreement_hash
    error = refused(
        lambda: chain.fetch_run(
            store.lookup, store.manifest.hash, agreement=world.agreement, agreement_hash="0" * 64
        )
    )
    assert error.code == "wrong-agreement"


def test_a_consent_counts_for_its_own_run_and_site(store: Store) -> None:
    run, hospital = store.run(), store.world.hospitals[0]
    consent = chain.verify_consent(store.world.consent(hospital, store.manifest), run)
    assert (consent.party, consent.decision) == (hospital.id, "accept")
    other = store.world.manifest(store.keys)
    stray = store.world.consent(hospital, other)
    assert refused(lambda: chain.verify_consent(stray, run)).code == "wrong-consent"
    forged = replace(hospital, node=store.world.hospitals[1].node)
    wrong = store.world.consent(forged, store.manifest)
    assert refused(lambda: chain.verify_consent(wrong, run)).code == "missing-signature"


def test_a_result_leads_back_to_the_manifest(store: Store) -> None:
    first = store.receipt(store.manifest.hash, 0, INITIAL, FIRST)
    aborted = store.receipt(first, 1, FIRST, None)
    last = store.receipt(aborted, 1, FIRST, SECOND)
    found = chain.fetch_result(store.lookup, store.result(last, SECOND), store.run())
    assert found.result.model == SECOND
    assert [receipt.outcome for receipt in found.receipts] == ["completed", "aborted", "completed"]


def test_a_result_without_rounds_follows_the_manifest(store: Store) -> None:
    result = store.add(
        store.world.result(
            store.keys,
            store.manifest,
            store.manifest.hash,
            None,
            rounds=0,
            status="failed",
            code="node-lost",
            cause="hospital-1",
        )
    )
    assert chain.fetch_result(store.lookup, result, store.run()).receipts == ()


def test_a_broken_chain_of_models_is_refused(store: Store) -> None:
    run = store.run()
    skipped = store.receipt(store.manifest.hash, 0, SECOND, FIRST)
    assert refused(
        lambda: chain.fetch_result(store.lookup, store.result(skipped, FIRST, 1), run)
    ).code == ("broken-model-chain")
    first = store.receipt(store.manifest.hash, 0, INITIAL, FIRST)
    other = store.result(first, SECOND, 1)
    assert refused(lambda: chain.fetch_result(store.lookup, other, run)).code == (
        "broken-model-chain"
    )
    counted = store.result(first, FIRST, 2)
    assert refused(lambda: chain.fetch_result(store.lookup, counted, run)).code == (
        "wrong-round-count"
    )


def test_receipts_of_another_key_or_run_are_refused(store: Store, world: World) -> None:
    run = store.run()
    body = RunResult.from_bytes(
        store.world.result(store.keys, store.manifest, store.manifest.hash, None, rounds=0).payload
    )
    forged = store.add(sign(RESULT, body, SigningKey.generate()))
    assert refused(lambda: chain.fetch_result(store.lookup, forged, run)).code == (
        "missing-signature"
    )
    elsewhere = world.manifest(store.keys)
    stray = store.add(world.result(store.keys, elsewhere, store.manifest.hash, None, rounds=0))
    assert refused(lambda: chain.fetch_result(store.lookup, stray, run)).code == "wrong-manifest"


def test_more_receipts_than_attempts_are_refused(store: Store) -> None:
    run = store.run()
    previous = store.manifest.hash
    for _ in range(run.manifest.max_attempts_total + 1):
        previous = store.receipt(previous, 0, INITIAL, None)
    result = store.result(previous, INITIAL, 0)
    assert refused(lambda: chain.fetch_result(store.lookup, result, run)).code == (
        "too-many-attempts"
    )
