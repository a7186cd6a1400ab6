"""What the registry refuses to store, and that it stores one thing once."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from accord_common.canonical import sha256_hex
from accord_common.enrolment import Delegation, Offer
from accord_common.envelope import Envelope, sign
from accord_common.errors import AccordError
from accord_common.fields import format_time, now
from accord_common.identity import SigningKey
from accord_common.log.merkle import leaf_hash
from accord_common.receipts import NodeReceipt
from tests.server.registry.stack import Stack, run_id
from tests.world import Actor, RunKeys, model_of


def refuse(code: str, call: Callable[[], object]) -> None:
    with pytest.raises(AccordError) as error:
        call()
    assert error.value.code == code, error.value


def started(stack: Stack) -> tuple[RunKeys, Envelope, dict[str, str]]:
    """A run that the aggregator has leased; with the heads of the nodes' chains."""
    keys = stack.offer()
    manifest = stack.start(keys)
    heads = stack.accept(manifest)
    stack.client(stack.world.aggregator).lease(run_id(stack, manifest), "aggregator-1", 60)
    return keys, manifest, heads


def post(stack: Stack, actor: Actor, envelope: Envelope) -> Callable[[], object]:
    return lambda: stack.client(actor).post(envelope)


def test_the_same_record_again_gets_the_same_place(stack: Stack) -> None:
    world = stack.world
    aggregator = stack.client(world.aggregator)
    offer = world.run_keys().offer
    stored = aggregator.post(offer)
    assert aggregator.post(offer) == stored
    view = aggregator.records(after=stored.sequence - 1)[0]
    assert (view.sequence, view.hash, view.envelope) == (stored.sequence, offer.hash, offer)
    assert view.leaf == leaf_hash(offer.to_bytes()).hex()
    assert view.leaf == sha256_hex(b"\0" + offer.to_bytes())
    forged = Envelope(offer.kind, offer.payload, ((offer.signatures[0][0], bytes(64)),))
    refuse("record-exists", post(stack, world.aggregator, forged))


def test_records_are_read_in_order_by_kind_and_run(stack: Stack) -> None:
    client = stack.client(stack.world.coordinator)
    _, manifest, _ = started(stack)
    everything = client.records()
    assert [item.sequence for item in everything] == list(range(1, len(everything) + 1))
    assert client.records(after=3, limit=2) == everything[3:5]
    assert [item.kind for item in client.records(kind="manifest")] == ["manifest"]
    run = run_id(stack, manifest)
    kinds = [item.kind for item in client.records(run=run)]
    assert kinds == ["manifest", "consent", "consent", "consent"]
    refuse("unknown-record", lambda: client.record("ab" * 32))


def test_kinds_that_are_not_posted_here_are_refused(stack: Stack) -> None:
    world = stack.world
    for envelope in (
        world.agreement_envelope,
        sign("upload", Offer.from_bytes(world.run_keys().offer.payload), world.aggregator.node),
        sign("enrolment", Offer.from_bytes(world.run_keys().offer.payload), SigningKey.generate()),
    ):
        refuse("wrong-kind", post(stack, world.aggregator, envelope))


def test_a_delegation_follows_the_newest_and_is_the_partys_own(stack: Stack) -> None:
    world = stack.world
    hospital, other = world.hospitals[:2]
    earlier = format_time(now() - timedelta(hours=2))  # not, by chance, the first one again
    head = world.delegations[hospital.id].hash
    second = hospital.delegation(previous=head)
    refuse("not-the-signer", post(stack, other, second))
    refuse("forked-chain", post(stack, hospital, hospital.delegation(valid_from=earlier)))
    refuse("missing-predecessor", post(stack, hospital, hospital.delegation(previous="ab" * 32)))
    foreign = hospital.delegation(previous=world.agreement_hash)
    refuse("wrong-predecessor", post(stack, hospital, foreign))
    refuse("no-flower-key", post(stack, hospital, hospital.delegation(head, flower_key=None)))
    broken = hospital.delegation(head, flower_key="02" + "ff" * 48)
    refuse("not-p384", post(stack, hospital, broken))
    body = Delegation.from_bytes(second.payload)
    refuse("missing-signature", post(stack, hospital, sign("delegation", body, hospital.node)))
    stack.client(hospital).post(second)
    assert stack.client(other).partner(hospital.id).delegation == second
    refuse("forked-chain", post(stack, hospital, hospital.delegation(head, node_key="ab" * 32)))


def test_an_offer_is_the_aggregators_under_its_newest_delegation(stack: Stack) -> None:
    world = stack.world
    keys = world.run_keys()
    refuse("not-the-signer", post(stack, world.hospitals[0], keys.offer))
    body = Offer.from_bytes(keys.offer.payload)
    refuse(
        "missing-signature",
        post(stack, world.aggregator, sign("aggregator-offer", body, SigningKey.generate())),
    )
    old = stack.offer()
    head = world.delegations[world.aggregator.id].hash
    stack.client(world.aggregator).post(world.aggregator.delegation(previous=head))
    refuse("stale-delegation", post(stack, world.aggregator, world.run_keys().offer))
    offered = stack.client(world.coordinator).offers()
    assert old.offer.hash not in [item.hash for item in offered]


def test_a_manifest_is_the_coordinators_with_a_fresh_offer_and_known_parts(stack: Stack) -> None:
    world = stack.world
    coordinator = stack.client(world.coordinator)
    keys = stack.offer()
    refuse("missing-blob", post(stack, world.coordinator, world.manifest(keys)))
    refuse("wrong-role", post(stack, world.aggregator, world.manifest(keys)))
    body = world.manifest_body(keys)
    by_node = sign("manifest", body, world.coordinator.node)
    refuse("missing-signature", post(stack, world.coordinator, by_node))
    unknown = world.manifest(world.run_keys())
    refuse("missing-predecessor", post(stack, world.coordinator, unknown))
    refuse(
        "missing-predecessor",
        post(stack, world.coordinator, world.manifest(keys, agreement="ab" * 32)),
    )
    refuse("protocol-mismatch", post(stack, world.coordinator, world.manifest(keys, protocol=2)))
    swapped = body.aggregator.model_copy(update={"receipt_key": SigningKey.generate().public})
    changed = world.manifest(keys, aggregator=swapped.model_dump())
    refuse("wrong-aggregator-keys", post(stack, world.coordinator, changed))

    manifest = stack.start(keys)
    refuse("offer-used", lambda: stack.start(keys))
    run = run_id(stack, manifest)
    refuse("run-exists", lambda: stack.start(stack.offer(), id=run))
    hospital = world.hospitals[0]
    head = world.delegations[hospital.id].hash
    stack.client(hospital).post(hospital.delegation(previous=head))
    refuse("stale-delegation", lambda: stack.start(stack.offer()))
    assert [item.id for item in coordinator.runs()] == [run]


def test_a_site_consents_once_and_a_refusal_is_final(stack: Stack) -> None:
    world = stack.world
    manifest = stack.start(stack.offer())
    first, second, third = world.hospitals
    refuse("not-the-signer", post(stack, second, world.consent(first, manifest)))
    stack.client(first).post(world.consent(first, manifest))
    again = world.consent(first, manifest, refusal="second-thoughts")
    refuse("forked-chain", post(stack, first, again))
    stack.client(second).post(world.consent(second, manifest, refusal="budget-exceeded"))
    run = stack.client(first).run(run_id(stack, manifest))
    assert (run.state, run.code, run.cause) == ("refused", "budget-exceeded", "above the cap")
    stack.client(third).post(world.consent(third, manifest))  # its word is kept all the same
    run = stack.client(first).run(run.id)
    assert run.state == "refused"
    assert {site.decision for site in run.consents} == {"accept", "refuse"}
    refuse("run-over", lambda: stack.client(world.aggregator).lease(run.id, "aggregator-1", 60))


def test_node_receipts_form_one_chain_each(stack: Stack) -> None:
    world = stack.world
    hospital, other = world.hospitals[:2]
    waiting = stack.start(stack.offer())
    consent = stack.client(hospital).post(world.consent(hospital, waiting)).hash
    early = world.node_receipt(hospital, waiting, consent, 0)
    refuse("run-not-running", post(stack, hospital, early))

    _, manifest, heads = started(stack)
    head = heads[hospital.id]
    good = world.node_receipt(hospital, manifest, head, 0)
    body = NodeReceipt.from_bytes(good.payload)
    refuse("not-the-signer", post(stack, other, good))
    refuse("missing-signature", post(stack, hospital, sign("node-receipt", body, other.node)))
    refuse(
        "missing-predecessor",
        post(stack, hospital, world.node_receipt(hospital, manifest, "ab" * 32, 0)),
    )
    refuse(
        "wrong-predecessor",
        post(stack, hospital, world.node_receipt(hospital, manifest, manifest.hash, 0)),
    )
    refuse("wrong-round", post(stack, hospital, world.node_receipt(hospital, manifest, head, 2)))
    for change in (
        {"attempt": 1},
        {"mechanism": "none", "noise_multiplier": "0"},
        {"noise_multiplier": "1000"},
        {"sampling_rate": "0.001"},
        {"steps": body.ledger.spend.steps + 1},
    ):
        spend = body.ledger.spend.model_copy(update=change)
        entry = body.ledger.model_copy(update={"spend": spend})
        charged = sign("node-receipt", body.model_copy(update={"ledger": entry}), hospital.node)
        refuse("wrong-spend", post(stack, hospital, charged))
    stack.client(hospital).post(good)
    fork = world.node_receipt(hospital, manifest, head, 0, attempt=1)
    refuse("forked-chain", post(stack, hospital, fork))
    stack.client(hospital).post(world.node_receipt(hospital, manifest, good.hash, 0, attempt=1))


def test_aggregator_receipts_form_one_chain_of_models(stack: Stack) -> None:
    world = stack.world
    keys, manifest, heads = started(stack)
    poster = world.aggregator
    good = world.aggregator_receipt(keys, manifest, manifest.hash, 0)
    by_node = RunKeys(world.aggregator.node, keys.offer)
    wrong = world.aggregator_receipt(by_node, manifest, manifest.hash, 0)
    refuse("missing-signature", post(stack, poster, wrong))
    refuse("not-the-signer", post(stack, world.hospitals[0], good))
    skipped = world.aggregator_receipt(keys, manifest, manifest.hash, 1)
    refuse("broken-model-chain", post(stack, poster, skipped))
    consent = world.aggregator_receipt(keys, manifest, heads[world.hospitals[0].id], 0)
    refuse("wrong-predecessor", post(stack, poster, consent))
    lost = (world.hospitals[0].id,)
    aborted = world.aggregator_receipt(keys, manifest, manifest.hash, 0, 1, lost)
    stack.client(poster).post(aborted)
    refuse("forked-chain", post(stack, poster, good))
    repeated = world.aggregator_receipt(keys, manifest, aborted.hash, 0, 1)
    refuse("repeated-attempt", post(stack, poster, repeated))
    done = world.aggregator_receipt(keys, manifest, aborted.hash, 0, 2)
    stack.client(poster).post(done)
    run = stack.client(poster).run(run_id(stack, manifest))
    assert (run.round, run.model, run.state) == (1, model_of(1), "running")


def test_a_result_ends_the_run_and_only_late_node_receipts_follow(stack: Stack) -> None:
    world = stack.world
    keys, manifest, heads = started(stack)
    poster = world.aggregator
    receipt = world.aggregator_receipt(keys, manifest, manifest.hash, 0)
    stack.client(poster).post(receipt)
    head = receipt.hash
    too_many = world.result(keys, manifest, head, model_of(1), rounds=2)
    refuse("wrong-round-count", post(stack, poster, too_many))
    other = world.result(keys, manifest, head, model_of(2), rounds=1)
    refuse("broken-model-chain", post(stack, poster, other))
    failed = world.result(
        keys,
        manifest,
        head,
        model_of(1),
        rounds=1,
        status="failed",
        cause="lost hospital-2",
        code="lost-nodes",
    )
    stack.client(poster).post(failed)
    run = stack.client(poster).run(run_id(stack, manifest))
    assert (run.state, run.cause, run.code) == ("failed", "lost hospital-2", "lost-nodes")
    refuse(
        "run-over", post(stack, poster, world.aggregator_receipt(keys, manifest, failed.hash, 1))
    )
    refuse("run-over", lambda: stack.client(world.coordinator).stop(run.id, "too late"))
    hospital = world.hospitals[0]
    late = world.node_receipt(hospital, manifest, heads[hospital.id], 0)
    stack.client(hospital).post(late)
    rows = stack.client(world.coordinator).budgets(run=run.id)
    assert [row.attempts for row in rows] == [1, 0, 0]

    measured = world.evaluation(manifest, failed, model_of(1))
    refuse("wrong-role", post(stack, world.aggregator, measured))
    wrong = world.evaluation(manifest, failed, model_of(2))
    refuse("wrong-model", post(stack, world.coordinator, wrong))
    stack.client(world.coordinator).post(measured)
    assert stack.client(hospital).run(run.id).metrics["auc"] == "0.98"


def test_a_run_that_never_started_cannot_be_completed(stack: Stack) -> None:
    world = stack.world
    keys = stack.offer()
    manifest = stack.start(keys)
    done = world.result(keys, manifest, manifest.hash, None, rounds=0)
    refuse("run-not-running", post(stack, world.aggregator, done))
    stopped = world.result(keys, manifest, manifest.hash, None, rounds=0, status="stopped")
    stack.client(world.aggregator).post(stopped)
    assert stack.client(world.aggregator).run(run_id(stack, manifest)).state == "stopped"
