"""The registry's log names what ends, at its own certificate and at every party."""

import asyncio
from dataclasses import replace
from datetime import timedelta

from accord_common.expiry import Term
from accord_common.fields import format_time, now, parse_time
from accord_server.registry.trust.expiry import terms
from tests.server.registry.stack import Stack
from tests.server.registry.test_keys import revocation


def found(stack: Stack) -> dict[str, Term]:
    """What is told; on a database of its own, since connections belong to one event loop."""

    async def tell() -> list[Term]:
        database = stack.settings.open_database()
        try:
            return await terms(replace(stack.app.state.registry, database=database))
        finally:
            await database.close()

    return {term.what: term for term in asyncio.run(tell())}


def test_certificate_authority_and_delegations_have_a_term(stack: Stack) -> None:
    world = stack.world
    told = found(stack)
    files = (
        f"the certificate {stack.settings.certificate}",
        f"the authority in {stack.settings.ca}",
    )
    daemons = [*world.hospitals, world.aggregator]
    assert told.keys() == {*files, *(f"the delegation of {actor.name}" for actor in daemons)}
    assert told[files[0]].renew == "accord ca renew FILE"
    assert told[files[0]].until - now() < timedelta(days=397)


def test_a_renewed_delegation_has_its_own_and_a_revoked_one_none(stack: Stack) -> None:
    actor, other = stack.world.hospitals[:2]
    until = format_time(now() + timedelta(days=12))
    old = stack.world.delegations[actor.id].hash
    stack.client(actor).post(actor.delegation(old, valid_until=until))
    term = found(stack)[f"the delegation of {actor.name}"]
    assert term.until == parse_time(until) and term.renew == f"accord-node renew, by {actor.name}"
    assert term.trouble(now()) is not None
    stack.client().revoke(revocation(other, stack.world.delegations[other.id].hash))
    assert f"the delegation of {other.name}" not in found(stack)
