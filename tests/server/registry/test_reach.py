"""What each sees of the others: agreements, runs, records, budgets, by party and by person."""

import pytest

from accord_common.errors import NotFoundError
from tests.server.registry.persons import join, on_sqlite, token
from tests.server.registry.stack import Stack, complete, run_id
from tests.world import make_actor


def read(stack: Stack, secret: str, path: str) -> list[dict[str, object]]:
    answer = stack.http.get(path, headers={"Authorization": f"Bearer {secret}"})
    assert answer.status_code == 200, answer.text
    found: list[dict[str, object]] = answer.json()
    return found


@pytest.mark.usefixtures("quick_passwords")
def test_who_is_no_party_sees_nothing_of_an_agreement_and_auditors_all(stack: Stack) -> None:
    """Its runs, records and budgets; what every member needs to check keys is for every member."""
    world = stack.world
    coordinator = stack.client(world.coordinator)
    keys = stack.offer()
    manifest = stack.start(keys)
    result = complete(stack, keys, manifest)
    run = run_id(stack, manifest)
    outsider, inspectors = make_actor("outsider", "data-holder"), make_actor("watch", "auditor")
    for actor in (outsider, inspectors):
        stack.join(actor, coordinator.invite(actor.role, actor.name).code)

    nothing = stack.client(outsider)
    assert not nothing.runs() and not nothing.agreements() and not nothing.budgets()
    assert not nothing.balances() and not nothing.spends() and not nothing.exceptions()
    assert not nothing.combined("agreement") and not nothing.combined("run")
    members = {"enrolment", "delegation", "aggregator-offer"}
    assert {record.kind for record in nothing.records()} == members
    for ask in (
        lambda: nothing.run(run),
        lambda: nothing.rounds(run),
        lambda: nothing.events(run),
        lambda: nothing.record(result.hash),
        lambda: nothing.record(world.agreement_hash),
        lambda: nothing.agreement(world.agreement_hash),
    ):
        with pytest.raises(NotFoundError):
            ask()

    everything = coordinator.records()
    reader = stack.client(inspectors)
    assert [record.hash for record in reader.records()] == [record.hash for record in everything]
    assert [one.id for one in reader.runs()] == [run] == [one.id for one in coordinator.runs()]
    assert [one.hash for one in reader.agreements()] == [world.agreement_hash]
    assert reader.rounds(run) and reader.budgets() == coordinator.budgets()
    assert {row.party for row in reader.budgets()} == {actor.id for actor in world.hospitals}

    hospital = world.hospitals[0]
    own = stack.client(hospital)
    assert {row.party for row in own.budgets()} == {hospital.id}
    other = world.hospitals[1]
    assert own.budgets(dataset=other.dataset) == own.budgets(party=other.id) == []
    assert {row.dataset for row in own.balances()} == {hospital.dataset}
    assert {row.dataset for row in own.spends()} == {hospital.dataset}
    assert [row.id for row in own.combined("institution")] == [hospital.id]
    assert [row.id for row in own.combined("agreement")] == [world.agreement_hash]
    assert [row.id for row in own.combined("run")] == [run]
    assert {row.party for row in own.exceptions()} == {hospital.id}
    assert len(reader.balances()) == len(reader.combined("institution")) - 1 == 3
    terms = world.manifest_body(stack.offer())
    known = own.check_run(world.agreement_hash, terms).datasets
    assert [row.dataset for row in known] == [hospital.dataset]
    assert len(reader.check_run(world.agreement_hash, terms).datasets) == 3
    assert [one.id for one in own.runs()] == [run] and own.record(result.hash) == result

    # How long a run's chain is, whether a hash is one of the log's, and why somebody suspends.
    size = len(everything)
    stack.client(other).post(world.suspension(other, "a complaint by a patient's family"))
    for client, may in ((own, True), (reader, True), (nothing, False)):
        assert bool(list(client.tree.proofs(size, run))) == may
        assert len(client.records(kind="suspension")) == may
        for record in (result.hash, world.agreement_hash):
            if may:
                assert client.tree.inclusion(record, size).sequence
            else:
                with pytest.raises(NotFoundError, match=r"\[unknown-record\]"):
                    client.tree.inclusion(record, size)
    assert len(list(nothing.tree.proofs(size))) == size  # all leaves, as for any witness

    steward = token(join(stack, hospital, "steward", "stella"), "read")
    auditor = token(join(stack, inspectors, "auditor", "anna"), "read")
    for path in ("/v1/budgets", "/v1/runs", "/v1/agreements", "/v1/records?limit=500"):
        as_machine = read(stack, stack.tokens[hospital.id], path)
        assert read(stack, steward, path) == as_machine, path
        assert len(read(stack, auditor, path)) >= len(as_machine), path
    assert len(read(stack, auditor, "/v1/budgets")) == 3
    blob = stack.http.get(
        f"/v1/blobs/{result.hash}", headers={"Authorization": f"Bearer {auditor}"}
    )
    assert blob.json()["code"] == "unknown-blob"


@on_sqlite
@pytest.mark.usefixtures("quick_passwords")
def test_a_coordinators_person_runs_and_signs_nothing(stack: Stack) -> None:
    manifest = stack.start(stack.offer())
    run = run_id(stack, manifest)
    person = join(stack, stack.world.coordinator, "coordinator", "carl")
    told = person.call("POST", f"/v1/runs/{run}/stop", {"reason": "enough"})
    assert told.json()["stop_requested"] == "enough"
    (line,) = [
        event.message
        for event in stack.client(stack.world.coordinator).events(run)
        if "enough" in event.message
    ]
    assert line == f"Carl ({stack.world.coordinator.name}) asks to stop: enough"
    body = {"envelope": manifest.to_bytes().decode()}
    assert person.call("POST", "/v1/records", body).json()["code"] == "wrong-role"
    invited = person.call("POST", "/v1/invitations", {"role": "auditor", "name": "Watch"})
    assert invited.status_code == 201
