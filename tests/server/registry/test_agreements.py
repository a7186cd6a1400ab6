"""Agreements: signed one by one, replaced, withdrawn; only terms that the registry knows."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest

from accord_common.errors import AccordError, ConflictError, NotFoundError, PolicyError
from accord_common.fields import format_time, now
from accord_common.identity import SigningKey
from accord_common.joining import parse_invitation
from accord_server.registry.db import Database
from accord_server.registry.projected import PROJECTIONS
from accord_server.registry.records.verify_log import verify_log
from accord_server.registry.setup import rebuild_projections
from tests.server.registry.stack import Stack, draft, run_id
from tests.server.registry.tables import execute, on, rows
from tests.world import World, make_actor, make_world


def refuse(stack: Stack, world: World, code: str) -> None:
    """Propose `world`'s agreement and see it refused."""
    envelope = world.partly_signed(world.coordinator)
    with pytest.raises(AccordError) as error:
        stack.client(stack.world.coordinator).propose(envelope)
    assert error.value.code == code


def refused(call: Callable[[], object], code: str) -> None:
    with pytest.raises(AccordError) as error:
        call()
    assert error.value.code == code


def verified(url: str) -> int:
    """How many records the log holds, each verified."""

    async def walk(database: Database) -> int:
        async with database.read() as session:
            return (await verify_log(session)).records

    return on(url, walk)


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
    poison = world.amended(title="Another first version")  # a log with it would not verify
    refuse(stack, poison, "forked-chain")
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
    # Those who remain begin anew: no chain leads over a party's last word, with it or without.
    terms = world.agreement
    without = {
        "parties": [party for party in terms.parties if party.id != leaver.id],
        "datasets": [dataset for dataset in terms.datasets if dataset.owner != leaver.id],
        "release": terms.release.model_copy(update={"recipients": []}),
    }
    for next_ in (world.next_version(), world.next_version(**without)):
        refuse(stack, next_, "agreement-withdrawn")

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
    # A neighbour's balance would show what is spent on a population of the same name.
    neighbour = world.hospitals[1]
    empty.join(neighbour, coordinator.invite("data-holder", neighbour.name).code)
    taken = draft(neighbour).model_copy(update={"population": hospital.population})
    refused(lambda: empty.client(neighbour).register_dataset(taken), "population-of-another")
    second = wanted.model_copy(update={"id": neighbour.dataset})  # of the own people, though
    assert client.register_dataset(second).population == view.population
    listed = next(found for found in coordinator.datasets() if found.id == view.id)
    assert (listed.model_dump(exclude={"entry"}), listed.entry) == (view.model_dump(), None)


def test_a_suspension_stops_runs_in_flight_until_its_own_party_resumes(stack: Stack) -> None:
    world = stack.world
    manifest = stack.start(stack.offer())
    stack.accept(manifest)
    run = run_id(stack, manifest)
    aggregator, leaver = stack.client(world.aggregator), world.hospitals[1]
    hospital, other = stack.client(leaver), stack.client(world.hospitals[0])
    suspension = world.suspension(leaver, "an audit")
    hospital.post(suspension)

    view = aggregator.agreement(world.agreement_hash)
    assert view.status == "suspended"
    assert [(halt.kind, halt.party, halt.reason) for halt in view.halts] == [
        ("suspension", leaver.id, "an audit")
    ]
    reason = "hospital-2 suspended the agreement: an audit"
    assert aggregator.run(run).stop_requested == reason
    assert aggregator.events(run)[-1].message == reason
    refused(lambda: stack.start(stack.offer()), "agreement-not-active")
    refused(lambda: hospital.post(world.suspension(leaver, "again")), "already-suspended")
    foreign = world.resumption(world.hospitals[0], suspension.hash)
    refused(lambda: other.post(foreign), "not-suspended")
    refused(lambda: hospital.post(foreign), "not-the-signer")

    resumption = world.resumption(leaver, suspension.hash)
    hospital.post(resumption)
    assert aggregator.agreement(world.agreement_hash).status == "active"
    assert aggregator.run(run).stop_requested == reason  # what it stopped stays stopped
    stack.start(stack.offer())
    refused(lambda: hospital.post(world.suspension(leaver, "unchained")), "forked-chain")
    second = world.suspension(leaver, "another audit", resumption.hash)
    hospital.post(second)
    for undone in (suspension, resumption):  # records of the past change nothing
        hospital.post(undone)
    assert [halt.record for halt in aggregator.agreement(world.agreement_hash).halts] == [
        second.hash
    ]
    before = rows(stack.settings.database, PROJECTIONS)
    asyncio.run(rebuild_projections(stack.settings))
    assert rows(stack.settings.database, PROJECTIONS) == before
    assert verified(stack.settings.database)


def test_a_replaced_agreement_stops_its_runs(stack: Stack) -> None:
    world = stack.world
    manifest = stack.start(stack.offer())
    stack.accept(manifest)
    coordinator = stack.client(world.coordinator)
    later = world.next_version(
        valid_from=format_time(now() + timedelta(days=1)), title="From tomorrow"
    )
    coordinator.propose(later.agreement_envelope)
    run = run_id(stack, manifest)
    assert coordinator.agreement(world.agreement_hash).status == "active"
    assert coordinator.run(run).stop_requested is None
    execute(
        stack.settings.database,
        "UPDATE agreements SET superseded_from = 0 WHERE superseded_by IS NOT NULL",
    )
    view = coordinator.run(run)
    assert view.stop_requested == "version 2 of the agreement has replaced this one"
    assert view.standing is not None and view.standing.code == "stopping"


def test_an_agreement_that_ends_stops_its_runs(stack: Stack) -> None:
    world = stack.world
    manifest = stack.start(stack.offer())
    stack.accept(manifest)
    coordinator, run = stack.client(world.coordinator), run_id(stack, manifest)
    assert coordinator.run(run).stop_requested is None
    execute(stack.settings.database, "UPDATE agreements SET valid_until = 0")
    assert coordinator.run(run).stop_requested == "the agreement ended at 1970-01-01T00:00:00Z"
    assert coordinator.agreement(world.agreement_hash).status == "expired"
