"""Agreements: signed one by one, replaced, withdrawn; only terms that the registry knows."""

import pytest

from accord_common.errors import AccordError, ConflictError, NotFoundError, PolicyError
from accord_common.identity import SigningKey
from accord_common.joining import parse_invitation
from tests.server.registry.stack import Stack, draft, run_id
from tests.world import World, make_actor, make_world


def refuse(stack: Stack, world: World, code: str) -> None:
    """Propose `world`'s agreement and see it refused."""
    envelope = world.partly_signed(world.coordinator)
    with pytest.raises(AccordError) as error:
        stack.client(stack.world.coordinator).propose(envelope)
    assert error.value.code == code


def test_it_becomes_active_with_the_last_signature(empty: Stack) -> None:
    world = empty.world
    empty.join_all()
    empty.register_datasets()
    coordinator = empty.client(world.coordinator)
    view = coordinator.propose(world.partly_signed(world.coordinator))
    assert (view.status, view.signed) == ("proposed", [world.coordinator.id])
    assert [item.hash for item in coordinator.agreements()] == [world.agreement_hash]
    for actor in [*world.hospitals, world.aggregator]:
        client = empty.client(actor)
        assert client.inbox().agreements == [world.agreement_hash]
        view = client.sign_agreement(world.partly_signed(actor))
        assert actor.id in view.signed and actor.id not in view.missing
        assert client.inbox().agreements == []
    assert (view.status, view.missing) == ("active", [])
    stored = coordinator.agreement(world.agreement_hash)
    assert stored.envelope == world.agreement_envelope
    assert coordinator.record(world.agreement_hash) == world.agreement_envelope
    again = coordinator.sign_agreement(world.partly_signed(world.coordinator))
    assert again.status == "active"


def test_terms_must_be_those_that_the_registry_knows(stack: Stack) -> None:
    world = stack.world
    terms = world.agreement.model_dump()
    refuse(stack, world.amended(log_key=SigningKey.generate().public), "wrong-log-key")
    smaller = [dataset | {"size": 100} for dataset in terms["datasets"]]
    refuse(stack, world.amended(datasets=smaller), "unknown-dataset")
    renamed = [
        party | ({"name": "other"} if party["role"] == "aggregator" else {})
        for party in terms["parties"]
    ]
    refuse(stack, world.amended(parties=renamed), "unknown-party")


def test_strangers_neither_sign_nor_see(stack: Stack) -> None:
    coordinator = stack.client(stack.world.coordinator)
    stranger = make_actor("stranger", "data-holder")
    stack.join(stranger, coordinator.invite("data-holder", "stranger").code)
    client = stack.client(stranger)
    assert client.agreements() == []
    with pytest.raises(NotFoundError):
        client.agreement(stack.world.agreement_hash)
    with pytest.raises(PolicyError) as error:
        client.sign_agreement(stack.world.agreement_envelope)
    assert error.value.code == "not-a-party"
    other = make_world(log_key=stack.world.log_key)
    with pytest.raises(PolicyError):
        coordinator.propose(other.agreement_envelope)


def test_a_new_version_replaces_the_old_one_only_when_all_have_signed(stack: Stack) -> None:
    world = stack.world
    second = world.next_version(title="Second version")
    coordinator = stack.client(world.coordinator)
    view = coordinator.propose(second.partly_signed(world.coordinator, world.hospitals[0]))
    assert view.status == "proposed"
    assert coordinator.agreement(world.agreement_hash).status == "active"
    rival = world.next_version(title="Rival second version")
    coordinator.propose(rival.partly_signed(world.coordinator))
    assert coordinator.sign_agreement(second.agreement_envelope).status == "active"
    assert coordinator.agreement(world.agreement_hash).status == "superseded"
    with pytest.raises(ConflictError) as error:
        coordinator.sign_agreement(rival.agreement_envelope)
    assert error.value.code == "forked-chain"
    keys = stack.offer()
    with pytest.raises(PolicyError) as old:
        stack.start(keys)
    assert old.value.code == "agreement-not-active"


def test_a_withdrawal_stops_runs_in_flight_and_lets_none_start(stack: Stack) -> None:
    world = stack.world
    keys = stack.offer()
    manifest = stack.start(keys)
    stack.accept(manifest)
    aggregator = stack.client(world.aggregator)
    run = run_id(stack, manifest)
    aggregator.lease(run, "aggregator-1", 60)
    cursor = aggregator.inbox().cursor
    leaver = world.hospitals[2]
    withdrawal = world.withdrawal(leaver, "a new law")
    stack.client(leaver).post(withdrawal)

    inbox = aggregator.inbox(cursor, 5)
    assert inbox.cursor > cursor
    reason = "hospital-3 withdrew from the agreement: a new law"
    assert [item.stop_requested for item in inbox.runs] == [reason]
    assert aggregator.events(run)[-1].message == reason
    assert aggregator.agreements()[0].status == "withdrawn"
    with pytest.raises(PolicyError) as error:
        stack.start(stack.offer())
    assert error.value.code == "agreement-not-active"
    with pytest.raises(ConflictError) as again:
        stack.client(leaver).post(world.withdrawal(leaver, "again"))
    assert again.value.code == "already-withdrawn"

    stopped = world.result(
        keys, manifest, manifest.hash, None, status="stopped", code="withdrawn", rounds=0
    )
    aggregator.post(stopped)
    assert aggregator.run(run).state == "stopped"


def test_datasets_are_registered_once_with_one_meaning(empty: Stack) -> None:
    world = empty.world
    empty.join(world.coordinator, parse_invitation(empty.first_invitation).code)
    hospital = world.hospitals[0]
    coordinator = empty.client(world.coordinator)
    empty.join(hospital, coordinator.invite("data-holder", hospital.name).code)
    client = empty.client(hospital)
    wanted = draft(hospital)
    view = client.register_dataset(wanted)
    assert client.register_dataset(wanted) == view
    assert (view.owner, view.schema_hash) == (hospital.id, wanted.table.hash)
    with pytest.raises(ConflictError) as error:
        client.register_dataset(wanted.model_copy(update={"size": 201}))
    assert error.value.code == "dataset-exists"
    assert coordinator.datasets() == [view]
