"""Who may call what: nobody without a token, nothing but one's own role's calls."""

from dataclasses import replace
from datetime import timedelta
from importlib.metadata import version

import pytest

from accord_common.errors import AuthError, ConflictError, PolicyError
from accord_common.fields import now
from accord_common.joining import parse_invitation
from accord_server.ca import fingerprint
from accord_server.registry import auth
from accord_server.registry.partners import endpoints
from tests.server.registry.stack import Stack
from tests.server.registry.tables import everything
from tests.world import make_actor


def test_a_pending_party_sees_only_its_own_status(empty: Stack) -> None:
    world = empty.world
    empty.join(world.coordinator, parse_invitation(empty.first_invitation).code)
    coordinator = empty.client(world.coordinator)
    hospital = world.hospitals[0]
    code = coordinator.invite("data-holder", hospital.name).code
    empty.join(hospital, code, approve=False)
    client = empty.client(hospital)

    assert client.partner(hospital.id).status == "pending"
    for refused in (
        lambda: client.partner(world.coordinator.id),
        client.partners,
        client.inbox,
        lambda: client.post(hospital.delegation()),
    ):
        with pytest.raises(PolicyError) as error:
            refused()
        assert error.value.code == "pending-approval"

    assert coordinator.approve(hospital.id).status == "approved"
    assert coordinator.approve(hospital.id).status == "approved"
    assert client.partner(world.coordinator.id).status == "approved"
    assert client.inbox().runs == []


def test_an_invitation_admits_whom_it_names_once(empty: Stack) -> None:
    world = empty.world
    first = parse_invitation(empty.first_invitation)
    assert first.ca == fingerprint(empty.settings.ca.read_bytes())
    assert (first.role, first.url) == ("coordinator", empty.settings.url)
    empty.join(world.coordinator, first.code)
    assert empty.client(world.coordinator).partner(world.coordinator.id).status == "approved"
    with pytest.raises(AuthError) as used:
        empty.join(make_actor("usurper", "coordinator"), first.code)
    assert used.value.code == "bad-invitation"

    code = empty.client(world.coordinator).invite("data-holder", "hospital-1").code
    with pytest.raises(PolicyError) as role:
        empty.join(make_actor("hospital-1", "aggregator"), code)
    assert role.value.code == "wrong-role"
    with pytest.raises(PolicyError) as name:
        empty.join(make_actor("hospital-2", "data-holder"), code)
    assert name.value.code == "wrong-name"
    again = empty.client(world.coordinator).invite("coordinator", "coordinator").code
    with pytest.raises(ConflictError) as twice:
        empty.join(make_actor("coordinator", "coordinator"), again)
    assert twice.value.code == "already-enrolled"
    with pytest.raises(AuthError):
        empty.client().enrol("not-an-invitation-code", world.coordinator.enrolment())


def test_who_lost_the_token_joins_again_with_the_same_key(stack: Stack) -> None:
    hospital = stack.world.hospitals[0]
    coordinator = stack.client(stack.world.coordinator)
    lost = stack.client(hospital)
    before = coordinator.partner(hospital.id)
    used = next(
        item.envelope
        for item in coordinator.records(kind="enrolment")
        if item.envelope.signers == {hospital.identity.public}
    )
    code = coordinator.invite("data-holder", hospital.name).code
    with pytest.raises(ConflictError) as replayed:
        stack.client().enrol(code, used)
    assert replayed.value.code == "record-exists"
    thief = replace(make_actor(hospital.name, "data-holder"), id=hospital.id)
    with pytest.raises(ConflictError) as other_key:
        stack.client().enrol(code, thief.enrolment())
    assert other_key.value.code == "already-enrolled"

    fresh = replace(hospital, contact="new@example.org")
    token = stack.client().enrol(code, fresh.enrolment(), stack.world.delegations[hospital.id])
    assert token.status == "approved"
    with pytest.raises(AuthError):
        lost.inbox()
    stack.tokens[hospital.id] = token.token
    after = stack.client(hospital).partner(hospital.id)
    assert (after.contact, after.delegation) == ("new@example.org", before.delegation)


def test_a_partys_release_is_what_its_machine_says_and_nothing_else_is_kept(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "SEEN_EVERY", timedelta(0))
    actor = stack.world.hospitals[0]
    assert stack.client(actor).partner(actor.id).software == version("accord")
    bearer = {"Authorization": f"Bearer {stack.tokens[actor.id]}"}
    for agent in ("", "curl/8.5", "accord/<b>1</b>", "accord/" + "1" * 41, "accord/2 other"):
        assert stack.http.get("/v1/me", headers=bearer | {"User-Agent": agent}).is_success
    told = stack.client(stack.world.coordinator).partner(actor.id)
    assert told.software == version("accord")


def test_an_invitation_expires(empty: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    code = parse_invitation(empty.first_invitation).code
    with monkeypatch.context() as late:
        late.setattr(endpoints, "now", lambda: now() + timedelta(days=7, seconds=1))
        with pytest.raises(AuthError) as error:
            empty.join(empty.world.coordinator, code)
        assert error.value.code == "bad-invitation"
    empty.join(empty.world.coordinator, code)


def test_no_secret_is_stored_or_logged(empty: Stack, capfd: pytest.CaptureFixture[str]) -> None:
    code = parse_invitation(empty.first_invitation).code
    empty.join(empty.world.coordinator, code)
    token = empty.tokens[empty.world.coordinator.id]
    invited = empty.client(empty.world.coordinator).invite("auditor", "auditor")
    stored = everything(empty.settings.database)
    seen = capfd.readouterr()
    for secret in (code, token, invited.code):
        assert secret not in stored
        assert secret not in seen.out + seen.err
