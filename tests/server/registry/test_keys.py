"""Keys that were renewed, exchanged or revoked, and parties that were suspended."""

import asyncio
from typing import Any

import pytest

from accord_common.enrolment import REVOCATION, Revocation
from accord_common.envelope import Envelope, sign
from accord_common.errors import AccordError
from accord_common.fields import format_time, now
from accord_common.identity import SigningKey
from accord_server.registry.setup import rebuild_projections
from tests.server.registry.stack import Stack, run_id
from tests.server.registry.test_records import post, refuse, started
from tests.world import Actor


def revocation(actor: Actor, previous: str, key: SigningKey | None = None) -> Envelope:
    body = Revocation(
        previous=previous, party=actor.id, reason="server stolen", created=format_time(now())
    )
    return sign(REVOCATION, body, key or actor.identity)


def revoke(stack: Stack, envelope: Envelope) -> Any:
    return stack.client().revoke(envelope)


def barred(stack: Stack, manifest: Envelope) -> dict[str, str]:
    view = stack.client(stack.world.coordinator).run(run_id(stack, manifest))
    return {site.party: site.barred for site in view.consents if site.barred is not None}


def lines(stack: Stack, manifest: Envelope) -> list[str]:
    events = stack.client(stack.world.coordinator).events(run_id(stack, manifest))
    return [event.message for event in events]


def test_a_renewed_delegation_of_the_same_key_costs_no_run(stack: Stack) -> None:
    _, manifest, heads = started(stack)
    actor, other = stack.world.hospitals[:2]
    again = stack.world.node_receipt(actor, manifest, heads[actor.id], 0)
    old = stack.world.delegations[actor.id]
    stack.client(actor).post(actor.delegation(old.hash))
    stack.client(actor).post(again)
    assert barred(stack, manifest) == {}
    refuse(
        "forked-chain",
        post(stack, actor, actor.delegation(old.hash, valid_from="2026-01-01T00:00:00Z")),
    )
    assert stack.client(other).partner(actor.id).revoked is None


def test_another_key_ends_the_one_before_it_and_every_other_token(stack: Stack) -> None:
    _, manifest, heads = started(stack)
    actor, world = stack.world.hospitals[0], stack.world
    coordinator = stack.client(world.coordinator)
    stolen = stack.tokens[actor.id]
    code = coordinator.invite(actor.role, actor.name).code
    stack.tokens[actor.id] = stack.client().enrol(code, actor.enrolment(later_s=1)).token
    refuse("bad-token", lambda: _with(stack, stolen).partner(actor.id))
    new = actor.delegation(world.delegations[actor.id].hash, node_key=SigningKey.generate().public)
    stack.client(actor).post(new)
    assert stack.client(actor).partner(actor.id).delegation == new
    assert barred(stack, manifest) == {actor.id: "key-revoked"}
    receipt = world.node_receipt(actor, manifest, heads[actor.id], 0)
    refuse("key-revoked", post(stack, actor, receipt))
    assert lines(stack, manifest)[-1] == f"{actor.name} is left out from now on [key-revoked]"


def test_a_revocation_needs_no_token_and_ends_them(stack: Stack) -> None:
    _, manifest, heads = started(stack)
    world = stack.world
    actor, delegation = world.hospitals[0], world.delegations[world.hospitals[0].id]
    envelope = revocation(actor, delegation.hash)
    refuse("wrong-kind", post(stack, actor, envelope))
    refuse("wrong-kind", lambda: revoke(stack, delegation))
    for wrong in (revocation(actor, delegation.hash, actor.node), revocation(actor, "ab" * 32)):
        with pytest.raises(AccordError):
            revoke(stack, wrong)
    stored = revoke(stack, envelope)
    assert revoke(stack, envelope) == stored
    refuse("bad-token", lambda: stack.client(actor).partner(actor.id))
    seen = stack.client(world.coordinator).partner(actor.id)
    assert (seen.delegation, seen.revoked) == (None, envelope.hash)
    assert barred(stack, manifest) == {actor.id: "key-revoked"}

    code = stack.client(world.coordinator).invite(actor.role, actor.name).code
    stack.tokens[actor.id] = (
        stack.client().enrol(code, actor.enrolment(later_s=1), delegation).token
    )
    revoke(stack, envelope)  # replayed: the new token stays
    receipt = world.node_receipt(actor, manifest, heads[actor.id], 0)
    refuse("key-revoked", post(stack, actor, receipt))
    asyncio.run(rebuild_projections(stack.settings))
    assert barred(stack, manifest) == {actor.id: "key-revoked"}
    refuse("stale-delegation", lambda: stack.start(stack.offer()))
    refuse("forked-chain", post(stack, actor, actor.delegation(delegation.hash)))
    refuse("key-revoked", post(stack, actor, actor.delegation(envelope.hash)))
    new = actor.delegation(envelope.hash, node_key=SigningKey.generate().public)
    stack.client(actor).post(new)
    assert stack.client(actor).partner(actor.id).revoked is None
    refuse("key-revoked", post(stack, actor, actor.delegation(new.hash)))
    refuse("key-revoked", post(stack, actor, receipt))


def test_a_revoked_site_cannot_consent(stack: Stack) -> None:
    manifest = stack.start(stack.offer())
    actor = stack.world.hospitals[0]
    new = actor.delegation(
        stack.world.delegations[actor.id].hash, node_key=SigningKey.generate().public
    )
    stack.client(actor).post(new)
    refuse("key-revoked", post(stack, actor, stack.world.consent(actor, manifest)))


def test_a_revoked_aggregator_makes_no_offer_and_nodes_leave_its_runs(stack: Stack) -> None:
    aggregator = stack.world.aggregator
    _, manifest, _ = started(stack)
    unused = stack.offer()
    node = stack.client(stack.world.hospitals[0])
    cursor = node.inbox().cursor
    assert node.inbox().runs[0].stop_requested is None
    revoke(stack, revocation(aggregator, stack.world.delegations[aggregator.id].hash))
    inbox = node.inbox()  # nodes leave a run whose aggregator may be in wrong hands
    assert inbox.cursor > cursor
    assert inbox.runs[0].stop_requested == f"{aggregator.name} has revoked its aggregator's key"
    assert lines(stack, manifest)[-1] == f"{aggregator.name} is left out from now on [key-revoked]"
    assert stack.client(stack.world.coordinator).offers() == []
    refuse("stale-delegation", lambda: stack.start(unused))
    code = stack.client(stack.world.coordinator).invite(aggregator.role, aggregator.name).code
    stack.tokens[aggregator.id] = stack.client().enrol(code, aggregator.enrolment(later_s=1)).token
    refuse("stale-delegation", post(stack, aggregator, stack.world.run_keys().offer))
    assert stack.client(stack.world.coordinator).offers() == []
    new = aggregator.delegation(
        stack.client(aggregator).partner(aggregator.id).revoked,
        node_key=SigningKey.generate().public,
    )
    stack.client(aggregator).post(new)  # it is back, and what its old keys drove stays over
    assert node.inbox().runs[0].stop_requested is not None


def test_a_suspended_party_is_shut_out_until_it_is_readmitted(stack: Stack) -> None:
    _, manifest, heads = started(stack)
    world = stack.world
    actor, coordinator = world.hospitals[0], stack.client(world.coordinator)
    refuse("wrong-role", lambda: stack.client(actor).suspend(world.hospitals[1].id, "x"))
    refuse("own-party", lambda: coordinator.suspend(world.coordinator.id, "x"))
    cursor = stack.client(world.aggregator).inbox().cursor
    assert coordinator.suspend(actor.id, "server stolen").status == "suspended"
    assert stack.client(world.aggregator).inbox().cursor > cursor  # it is told at once
    receipt = world.node_receipt(actor, manifest, heads[actor.id], 0)
    for call in (post(stack, actor, receipt), stack.client(actor).inbox, stack.client(actor).runs):
        refuse("party-suspended", call)
    assert stack.client(actor).partner(actor.id).status == "suspended"  # it may ask why
    refuse("party-suspended", lambda: stack.client(actor).partner(world.coordinator.id))
    assert barred(stack, manifest) == {actor.id: "party-suspended"}
    refuse("party-suspended", lambda: stack.start(stack.offer()))
    assert coordinator.readmit(actor.id).status == "approved"
    stack.client(actor).post(receipt)
    assert barred(stack, manifest) == {}
    told = [line for line in lines(stack, manifest) if actor.name in line and "[" in line]
    assert told == [
        f"{actor.name} is left out from now on [party-suspended]",
        f"{actor.name} was readmitted, after [party-suspended]",
    ]


def test_a_suspended_party_may_withdraw_all_the_same(stack: Stack) -> None:
    """Else a coordinator could keep an institution in an agreement, and its runs going."""
    _, manifest, _ = started(stack)
    actor = stack.world.hospitals[0]
    stack.client(stack.world.coordinator).suspend(actor.id, "for no reason")
    stack.client(actor).post(stack.world.withdrawal(actor))
    assert lines(stack, manifest)[-1].startswith(f"{actor.name} withdrew from the agreement")


def _with(stack: Stack, token: str) -> Any:
    stack.tokens["stolen"] = token

    class Thief:
        id = "stolen"

    return stack.client(Thief())  # type: ignore[arg-type]  # a token is all it has
