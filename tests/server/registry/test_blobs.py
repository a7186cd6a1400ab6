"""Models in and out: by their hash, whole or not at all, to those who may have them."""

import errno
import os

import pytest

from accord_common.agreement import AGREEMENT, Party
from accord_common.api.tracing import trace
from accord_common.canonical import sha256_hex
from accord_common.chain import fetch_run
from accord_common.envelope import sign
from accord_common.errors import NotFoundError, PolicyError, VerificationError
from accord_server.coordinator.releasing import require_recipient
from accord_server.registry import limits
from accord_server.registry.blobs import repository
from tests.server.registry.stack import Stack, complete
from tests.world import INITIAL_MODEL, Actor, World, make_actor, model_of


def put(stack: Stack, name: str, data: bytes) -> tuple[int, str]:
    token = stack.tokens[stack.world.coordinator.id]
    headers = {"Authorization": f"Bearer {token}"}
    answer = stack.http.put(f"/v1/blobs/{name}", content=data, headers=headers)
    return answer.status_code, answer.json()["code"] if answer.content else ""


def test_the_bytes_must_have_the_hash_that_names_them(stack: Stack) -> None:
    data = b"x" * 100_000
    assert put(stack, sha256_hex(b"y"), data) == (422, "wrong-hash")
    assert list(stack.settings.blobs.glob("*")) == []
    assert put(stack, sha256_hex(data), data) == (204, "")
    assert put(stack, sha256_hex(data), data) == (204, "")
    (stored,) = stack.settings.blobs.iterdir()
    assert (stored.name, stored.read_bytes()) == (sha256_hex(data), data)


def test_a_body_over_the_limit_is_refused_whatever_it_claims(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_BLOB_BYTES", 1000)
    data = b"x" * 1001
    assert put(stack, sha256_hex(data), data) == (413, "too-large")
    token = stack.tokens[stack.world.coordinator.id]
    answer = stack.http.put(
        f"/v1/blobs/{sha256_hex(data)}",
        content=iter([data[:600], data[600:]]),  # chunked: no length is claimed
        headers={"Authorization": f"Bearer {token}"},
    )
    assert (answer.status_code, answer.json()["code"]) == (413, "too-large")
    assert list(stack.settings.blobs.glob("*")) == []
    monkeypatch.setattr(limits, "MAX_JSON_BYTES", 1000)
    answer = stack.http.post("/v1/enrolments", content=b" " * 1001)
    assert (answer.status_code, answer.json()["code"]) == (413, "too-large")


def test_a_disk_that_is_full_takes_no_blob_and_keeps_room_for_records(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = b"x" * 1000

    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(repository, "SPARE_BYTES", 1 << 60)
        assert put(stack, sha256_hex(data), data) == (507, "registry-disk-full")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)  # it filled up meanwhile
        assert put(stack, sha256_hex(data), data) == (507, "registry-disk-full")
    assert list(stack.settings.blobs.glob("*")) == []
    assert put(stack, sha256_hex(data), data) == (204, "")


def test_models_go_to_those_whom_the_agreement_names(stack: Stack) -> None:
    world = stack.world
    keys = stack.offer()
    manifest = stack.start(keys)
    complete(stack, keys, manifest)
    final = b"model 2"
    assert sha256_hex(final) == model_of(2)
    stack.client(world.aggregator).put_blob(final)
    stack.client(world.aggregator).put_blob(b"named by no run")
    hospital = stack.client(world.hospitals[0])
    assert hospital.get_blob(sha256_hex(INITIAL_MODEL)) == INITIAL_MODEL
    assert hospital.get_blob(model_of(2)) == final
    for name in (sha256_hex(b"named by no run"), model_of(1), "ab" * 32):
        with pytest.raises(NotFoundError):
            hospital.get_blob(name)
    stranger = make_actor("stranger", "auditor")
    code = stack.client(world.coordinator).invite("auditor", "stranger").code
    stack.join(stranger, code)
    with pytest.raises(NotFoundError):
        stack.client(stranger).get_blob(sha256_hex(INITIAL_MODEL))


def test_who_is_no_recipient_gets_the_initial_model_only(stack: Stack) -> None:
    world = stack.world
    excluded = world.hospitals[0].id
    recipients = [party for party in world.agreement.release.recipients if party != excluded]
    release = world.agreement.release.model_copy(update={"recipients": recipients})
    stack.world = world.next_version(release=release.model_dump())
    stack.sign_agreement()
    keys = stack.offer()
    complete(stack, keys, stack.start(keys))
    stack.client(world.aggregator).put_blob(b"model 2")
    assert stack.client(world.hospitals[0]).get_blob(sha256_hex(INITIAL_MODEL)) == INITIAL_MODEL
    assert stack.client(world.hospitals[1]).get_blob(model_of(2)) == b"model 2"
    with pytest.raises(NotFoundError):
        stack.client(world.hospitals[0]).get_blob(model_of(2))
    stack.start(stack.offer(), initial_model=model_of(2))  # another run goes on from it
    with pytest.raises(NotFoundError):
        stack.client(world.hospitals[0]).get_blob(model_of(2))


def test_each_role_gets_models_by_the_agreement_alone(stack: Stack) -> None:
    named, left_out = stack.world.hospitals[:2]
    auditor = make_actor("auditor", "auditor")
    stack.join(auditor, stack.client(stack.world.coordinator).invite("auditor", "auditor").code)
    stack.world = world = with_auditor(stack.world, auditor, recipients=[named.id])
    identities = [actor.identity for actor in [*world.actors, auditor]]
    coordinator = stack.client(world.coordinator)
    coordinator.propose(sign(AGREEMENT, world.agreement, *identities))
    keys = stack.offer()
    manifest = stack.start(keys)
    complete(stack, keys, manifest)
    stack.client(world.aggregator).put_blob(b"model 2")
    run = fetch_run(coordinator.record, manifest.hash)
    for actor in (named, world.coordinator, world.aggregator):
        assert stack.client(actor).get_blob(model_of(2)) == b"model 2"
        require_recipient(run, actor.id)
    for actor in (left_out, auditor):
        assert stack.client(actor).get_blob(sha256_hex(INITIAL_MODEL)) == INITIAL_MODEL
        with pytest.raises(NotFoundError, match=r"\[unknown-blob\]"):
            stack.client(actor).get_blob(model_of(2))
        told = rf"\[not-a-recipient\].* goes to {named.name}; {actor.name}, its {actor.role},"
        with pytest.raises(PolicyError, match=told):
            require_recipient(run, actor.id)
        assert trace(stack.client(actor), model_of(2)).lineage.agreement.recipients == [named.name]
    with pytest.raises(PolicyError, match=r"\[not-a-recipient\].*this party"):
        require_recipient(run, make_actor("stranger", "auditor").id)


def with_auditor(world: World, auditor: Actor, recipients: list[str]) -> World:
    """The next version, with an auditor and other recipients."""
    party = Party(
        id=auditor.id,
        name=auditor.name,
        role="auditor",
        identity_key=auditor.identity.public,
        jurisdiction="DE",
        contact="auditor@example.org",
    )
    return world.next_version(
        parties=sorted([*world.agreement.parties, party], key=lambda item: item.id),
        release={"recipients": recipients, "metrics": "public-holdout"},
    )


def test_a_runs_base_goes_to_its_parties_and_must_be_there_first(stack: Stack) -> None:
    base = b"public weights"
    adaptation = {
        "base": sha256_hex(base),
        "layout": "ce" * 32,
        "dimension": 9,
        "frozen": ["0"],
        "lora": None,
    }
    keys = stack.offer()
    with pytest.raises(VerificationError, match=r"missing-blob.*the base"):
        stack.start(keys, adaptation=adaptation)
    stack.client(stack.world.coordinator).put_blob(base)
    hospital = stack.client(stack.world.hospitals[0])
    with pytest.raises(NotFoundError):
        hospital.get_blob(sha256_hex(base))
    stack.start(keys, adaptation=adaptation)
    assert hospital.get_blob(sha256_hex(base)) == base  # before any node has consented
