"""Withdrawals and suspensions hold at once, and reach the registry some day."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from accord_client import halts, outbox
from accord_client.agreements import Agreements
from accord_client.delivery import deliver, waits
from accord_common.agreement import Resumption, Suspension, Withdrawal
from accord_common.api.client import RegistryClient
from accord_common.envelope import Envelope
from accord_common.errors import (
    AccordError,
    ConflictError,
    TransportError,
    VerificationError,
)
from accord_common.fields import format_time, now
from tests.client.institutions import make_institutions
from tests.client.test_node_session import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    three = make_institutions(tmp_path)
    with three.open(three.parties[2]) as stores:
        yield Bench(three, stores, three.manifest())


class Registry:
    """Takes what is posted, or fails as it is told."""

    def __init__(self, *failures: AccordError | None) -> None:
        self.failures = list(failures)
        self.took: list[Envelope] = []

    def post(self, envelope: Envelope) -> None:
        if self.failures and (error := self.failures.pop(0)) is not None:
            raise error
        self.took.append(envelope)


def client(registry: Registry) -> RegistryClient:
    return cast(RegistryClient, registry)


def told(bench: Bench) -> list[str]:
    return [line.kind for line in outbox.lines(bench.stores.outbox.path)]


def body(bench: Bench, kind: type[Any], **more: Any) -> Any:
    value = {"agreement": bench.three.world.agreement_hash, "party": bench.stores.party}
    return kind(**value, created=format_time(now()), **more)


def test_ones_own_withdrawal_holds_before_anybody_is_told(bench: Bench) -> None:
    bench.serve(0, 0)
    key = bench.three.actor(bench.stores.party).identity
    own = bench.stores.agreements
    said = halts.say(own, body(bench, Withdrawal, reason="a new law"), key)
    assert bench.refusal(0, 1).code == "agreement-withdrawn"
    assert bench.charged() == [(0, 0)]

    down = Registry(TransportError("unreachable", "no route"))
    with pytest.raises(TransportError):
        deliver(bench.stores, client(down))
    assert waits(bench.stores) and told(bench)[-1] == "withdrawal"
    up = Registry()
    deliver(bench.stores, client(up))
    assert said in [envelope.hash for envelope in up.took]
    assert halts.waiting(own) == [] and halts.withdrawn(
        own, body(bench, Withdrawal, reason="").agreement
    )


def test_a_withdrawal_from_what_not_all_have_signed_waits_for_them(bench: Bench) -> None:
    key = bench.three.actor(bench.stores.party).identity
    halts.say(bench.stores.agreements, body(bench, Withdrawal, reason="no"), key)
    for _ in range(3):  # as the daemon does, for as long as it takes
        early = Registry(VerificationError("missing-predecessor", "not fully signed here"))
        assert halts.post_waiting(bench.stores.agreements, bench.stores.outbox, client(early)) == 0
    assert told(bench) == ["withdrawal"]
    assert len(halts.waiting(bench.stores.agreements)) == 1
    twice = Registry(ConflictError("already-withdrawn", "before"))
    assert halts.post_waiting(bench.stores.agreements, bench.stores.outbox, client(twice)) == 0
    assert told(bench) == ["withdrawal"] and halts.waiting(bench.stores.agreements) == []
    left = [path.suffix for path in (bench.stores.home.path / "leaving").iterdir()]
    assert left == [".refused"]  # for good: it is not said again
    assert halts.say_again(bench.stores.agreements, ()) == 0


def test_a_suspension_halts_until_who_said_it_resumes(bench: Bench) -> None:
    bench.serve(0, 0)
    world, own = bench.three.world, bench.stores.agreements
    other, third = (bench.three.actor(party) for party in bench.three.parties[:2])
    suspension = world.suspension(other)
    assert halts.keep(own, suspension) == world.agreement_hash
    assert halts.keep(own, suspension) is None
    assert bench.refusal(0, 1).code == "agreement-suspended"
    halts.keep(own, world.resumption(third, suspension.hash))  # not theirs to undo
    assert bench.refusal(0, 1).code == "agreement-suspended"
    resumption = world.resumption(other, suspension.hash)
    halts.keep(own, resumption)
    bench.serve(0, 1)
    halts.keep(own, suspension)  # shown again
    assert halts.suspensions(own, world.agreement_hash) == {}
    halts.keep(own, world.suspension(other, "once more", resumption.hash))
    assert bench.refusal(1, 0).code == "agreement-suspended"


def test_what_undoes_a_suspension_may_be_seen_first(bench: Bench) -> None:
    world, own = bench.three.world, bench.stores.agreements
    other = bench.three.actor(bench.three.parties[0])
    suspension = world.suspension(other)
    halts.keep(own, world.resumption(other, suspension.hash))
    halts.keep(own, suspension)
    assert halts.suspensions(own, world.agreement_hash) == {}


def test_ones_own_suspensions_are_a_chain(bench: Bench, tmp_path: Path) -> None:
    own, hash_ = bench.stores.agreements, bench.three.world.agreement_hash
    key = bench.three.actor(bench.stores.party).identity
    with pytest.raises(ConflictError, match=r"\[not-suspended\]"):
        halts.own_suspension(own, hash_)
    previous = None
    for round_ in range(2):
        assert halts.newest_resumption(own, hash_) == previous
        reason = {"previous": previous, "reason": f"audit {round_}"}
        said = halts.say(own, body(bench, Suspension, **reason), key)
        assert halts.own_suspension(own, hash_) == said
        with pytest.raises(ConflictError, match=r"\[already-suspended\]"):
            halts.newest_resumption(own, hash_)
        previous = halts.say(own, body(bench, Resumption, suspension=said), key)
    registry = Registry()
    deliver(bench.stores, client(registry))
    chain = ["suspension", "resumption", "suspension", "resumption"]
    assert [envelope.kind for envelope in registry.took][:4] == chain
    # A registry that was restored shows the first two alone; a record of another's is not ours.
    halts.keep(own, bench.three.world.suspension(bench.three.actor(bench.three.parties[0])))
    assert halts.say_again(own, {envelope.hash for envelope in registry.took[:2]}) == 2
    again = Registry()
    deliver(bench.stores, client(again))
    assert again.took == registry.took[2:4]
    assert halts.say_again(own, {envelope.hash for envelope in registry.took}) == 0


def test_strangers_and_other_agreements_halt_nothing(bench: Bench) -> None:
    world = bench.three.world
    elsewhere = world.amended(title="Another study")
    other = bench.three.actor(bench.three.parties[0])
    own = Agreements.of(bench.stores.home)
    assert halts.keep(own, elsewhere.suspension(other)) is None
    assert halts.keep(own, elsewhere.withdrawal(other)) is None
    assert halts.keep(own, world.delegations[other.id]) is None
    bench.serve(0, 0)


def test_a_later_version_counts_from_its_first_day(bench: Bench) -> None:
    """Until then runs go on under the one that they stand on, and not a round longer."""
    world, own = bench.three.world, bench.stores.agreements
    tomorrow = now() + timedelta(days=1)
    later = world.next_version(valid_from=format_time(tomorrow), title="From tomorrow")
    own.sign(later.agreement, bench.three.actor(bench.stores.party).identity)
    bench.serve(0, 0)
    assert own.complete(later.agreement_envelope)
    bench.serve(0, 1)
    bench.now = tomorrow
    assert bench.refusal(1, 0).code == "agreement-superseded"
    assert bench.charged() == [(0, 0), (0, 1)]
