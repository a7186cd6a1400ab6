"""The catalogue: who may declare what, who finds it, and who reads a released profile."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from accord_common.api.agreement_schemas import Reason
from accord_common.catalogue import CatalogueEntry
from accord_common.envelope import Envelope, sign
from accord_common.errors import AccordError, NotFoundError
from accord_common.fields import new_id
from accord_common.log.collect import collect_agreement, collect_run
from accord_common.log.proof import RecordProof, prove
from accord_common.manifest import RunManifest
from accord_server.cli.dataset import describe
from accord_server.registry.setup import initialise
from tests.catalogued import DISEASE, RESEARCH, entry, profile, shares, with_profiles
from tests.server.registry.audited import finish, verdict_of
from tests.server.registry.persons import join
from tests.server.registry.stack import Stack, opened, settings_in
from tests.world import Actor, make_actor, make_world


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, certificates: Path) -> Iterator[Stack]:
    """A registry whose agreement lets profiles out."""
    settings = settings_in(tmp_path_factory.mktemp("datasets") / "registry", certificates)
    invitation = asyncio.run(initialise(settings)).text
    world = with_profiles(make_world(log_key=settings.read_log_key()))
    with opened(settings, invitation, world) as stack:
        stack.join_all()
        stack.register_datasets()
        stack.sign_agreement()
        yield stack


def refused(stack: Stack, actor: Actor, envelope: Envelope) -> str:
    with pytest.raises(AccordError) as caught:
        stack.client(actor).post(envelope)
    return caught.value.code


def test_an_entry_is_its_owners_and_follows_the_newest(stack: Stack) -> None:
    world = stack.world
    own, other = world.hospitals[:2]
    first = entry(world, own, duo=[RESEARCH])
    strange = entry(world, own, name="lungs")
    assert refused(stack, own, strange) == "dataset-differs"
    assert refused(stack, other, first) == "not-the-signer"
    forged = sign(first.kind, CatalogueEntry.from_bytes(first.payload), other.node)
    assert refused(stack, own, forged) == "missing-signature"
    taken = entry(world, other, dataset=own.dataset, population=own.population)
    assert refused(stack, other, taken) == "dataset-differs"
    assert refused(stack, own, entry(world, own, delegation="ab" * 32)) == "stale-delegation"
    assert refused(stack, world.coordinator, first) == "not-the-signer"
    stored = stack.client(own).post(first)
    assert stack.client(own).post(first) == stored  # the same record again
    assert refused(stack, own, entry(world, own)) == "forked-chain"
    third = entry(world, own, first, version=3)
    assert refused(stack, own, third) == "wrong-predecessor"
    second = entry(world, own, first, title="More of them", duo=[DISEASE])
    stack.client(own).post(second)
    shown = stack.client(other).dataset(own.dataset)
    assert [(view.version, view.title) for view in shown.versions] == [
        (2, "More of them"),
        (1, "Breast tumours"),
    ]
    assert shown.dataset.entry == shown.versions[0]
    assert shown.versions[0].units == {"radius": "mm"}


@pytest.mark.usefixtures("quick_passwords")
def test_a_profile_is_for_parties_and_auditors(stack: Stack, tmp_path: Path) -> None:
    """In the catalogue and among the records; its agreement's bundle carries it, no run's does."""
    world = stack.world
    own = world.hospitals[1]
    newest = entry(world, own)
    stack.client(own).post(newest)
    released = profile(world, own, newest)
    stack.client(own).post(released)
    outsider = outsider_of(stack)
    nothing = stack.client(outsider).dataset(own.dataset)
    assert nothing.profiles == [] == nothing.agreements and nothing.versions
    kinds = {record.kind for record in stack.client(outsider).records()}
    assert "dataset-entry" in kinds and "dataset-profile" not in kinds
    with pytest.raises(NotFoundError):
        stack.client(outsider).record(released.hash)
    for actor in (*world.hospitals, world.coordinator, world.aggregator):
        shown = stack.client(actor).dataset(own.dataset)
        assert [found.hash for found in shown.profiles] == [released.hash]
        assert shown.profiles[0].profile == shares()
        assert [found.smallest_cell for found in shown.agreements] == [10]
        assert stack.client(actor).record(released.hash) == released
    text = describe(stack.client(own).dataset(own.dataset), "own/tumours")
    assert "0 70 %, 1 30 %" in text and "smallest cell 10" in text and "in steps of 10 %" in text
    inspectors = make_actor("inspectors", "auditor")
    coordinator = stack.client(world.coordinator)
    stack.join(inspectors, coordinator.invite("auditor", inspectors.name).code)
    person = join(stack, inspectors, "auditor", "inspector")
    read: list[dict[str, Any]] = [
        stack.client(inspectors).dataset(own.dataset).model_dump(),
        person.call("GET", f"/v1/datasets/{own.dataset}").json(),
    ]
    for answer in read:
        assert [found["hash"] for found in answer["profiles"]] == [released.hash]
    again = profile(world, own, newest, previous=released.hash)
    stack.client(own).post(again)
    assert [p.hash for p in coordinator.dataset(own.dataset).profiles] == [again.hash]

    manifest = finish(stack)
    run = RunManifest.from_bytes(manifest.payload).id
    collect_agreement(coordinator, world.agreement_hash, tmp_path / "agreement.tar")
    collect_run(coordinator, run, tmp_path / "run.tar")
    for name, carried in (("agreement", ["entry", "profile"]), ("run", ["entry"])):
        path = tmp_path / f"{name}.tar"
        verdict = verdict_of(path, world.agreement_hash)
        assert verdict.failures == [] and verdict.authenticated
        data = path.read_bytes()
        both = ("entry", "profile")
        told = [kind for kind in both if f"vnd.accord.dataset-{kind}+json".encode() in data]
        assert told == carried


def test_a_profile_that_is_not_agreed_or_not_coarse_is_refused(stack: Stack) -> None:
    world = stack.world
    holder = world.hospitals[0]
    newest = stack.client(holder).dataset(holder.dataset).versions[0].hash
    of = stack.client(holder).record(newest)
    fine: Any = shares().to_json()
    assert refused(stack, holder, profile(world, holder, of, previous="ab" * 32)) == (
        "missing-predecessor"
    )
    assert refused(stack, holder, profile(world, holder, of, agreement="ab" * 32)) == (
        "missing-predecessor"
    )
    exact = fine | {"columns": [fine["columns"][0] | {"missing": 13}, *fine["columns"][1:]]}
    assert refused(stack, holder, profile(world, holder, of, profile=exact)) == (
        "profile-not-coarse"
    )
    fewer = fine | {"columns": fine["columns"][:2]}
    assert refused(stack, holder, profile(world, holder, of, profile=fewer)) == "profile-differs"
    datasets = [item.model_dump() | {"profile": None} for item in world.agreement.datasets]
    silent = world.amended(id=new_id(), title="Silent", datasets=datasets)
    assert refused(stack, holder, profile(silent, holder, of)) == "missing-predecessor"
    stack.client(world.coordinator).propose(silent.agreement_envelope)
    assert refused(stack, holder, profile(silent, holder, of)) == "profile-not-agreed"
    stack.client(holder).post(silent.withdrawal(holder))
    assert refused(stack, holder, profile(silent, holder, of)) == "agreement-not-active"
    shown = stack.client(holder).dataset(holder.dataset).agreements
    assert {(view.title, view.smallest_cell) for view in shown} == {
        (world.agreement.title, 10),
        ("Silent", None),
    }


def test_a_withdrawal_is_proved_to_the_agreements_parties_alone(stack: Stack) -> None:
    world = stack.world
    holder = world.hospitals[0]
    secret = world.amended(id=new_id(), title="Of three parties")
    stack.client(world.coordinator).propose(secret.agreement_envelope)
    withdrawal = secret.withdrawal(holder)
    stack.client(holder).post(withdrawal)
    path = f"/v1/records/{withdrawal.hash}/proof"
    for actor in (holder, world.hospitals[1], world.coordinator):
        client = stack.client(actor)
        answer = client._http.request("GET", path)
        for found in (RecordProof.from_bytes(answer.content), prove(client, withdrawal.hash)):
            assert found.agreement is not None and found.agreement.hash == secret.agreement_hash
            found.check()
    nobody = stack.client(outsider_of(stack))
    for ask in (
        lambda: nobody._http.request("GET", path),
        lambda: prove(nobody, withdrawal.hash),
        lambda: nobody.record(withdrawal.hash),
    ):
        with pytest.raises(NotFoundError, match=r"\[unknown-record\]"):
            ask()


def test_a_check_names_what_the_catalogue_asks_beyond_an_agreement(stack: Stack) -> None:
    world = stack.world
    own = world.hospitals[0]
    client = stack.client(own)
    body = world.manifest_body(stack.offer())
    assert "catalogue-stricter" not in {r.code for r in _reasons(stack, body)}
    before = client.record(client.dataset(own.dataset).versions[0].hash)
    client.post(entry(world, own, before, duo=["DUO:0000025"]))
    (found,) = [r for r in _reasons(stack, body) if r.code == "catalogue-stricter"]
    assert own.name in found.message and "DUO:0000025" in found.message and found.hint


def _reasons(stack: Stack, body: RunManifest) -> list[Reason]:
    client = stack.client(stack.world.coordinator)
    return client.check_run(stack.world.agreement_hash, body).reasons


def outsider_of(stack: Stack) -> Actor:
    """A member that is no party of the agreement."""
    actor = make_actor(f"outsider {new_id()}", "data-holder")
    coordinator = stack.client(stack.world.coordinator)
    stack.join(actor, coordinator.invite(actor.role, actor.name).code)
    return actor
