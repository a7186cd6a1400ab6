"""A node as a witness of the registry's log: what it keeps, carries, finds, and then refuses."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import pytest

from accord_client.session import Session
from accord_client.stores import Stores
from accord_client.witness import accept, broken, follow
from accord_common.api.client import RegistryClient
from accord_common.errors import PolicyError, TransportError
from accord_common.identity import SigningKey
from accord_common.log.checkpoint import CHECKPOINT, verify_checkpoint
from accord_common.receipts import CONSENT, NODE_RECEIPT, Consent, NodeReceipt
from accord_common.secagg.messages import Advertisement
from tests.client.institutions import Aggregator, Institutions, Refused, make_institutions
from tests.logs import Log
from tests.server.cli.office import accord


@pytest.fixture
def three(tmp_path: Path) -> Institutions:
    return make_institutions(tmp_path)


@pytest.fixture
def stores(three: Institutions) -> Iterator[Stores]:
    with three.open(three.parties[0]) as stores:
        yield stores


@pytest.fixture
def log(three: Institutions) -> Log:
    return Log(three.world.log_key).grow(7)


def see(stores: Stores, log: Log) -> None:
    follow(stores, cast(RegistryClient, log))


def kept(stores: Stores) -> list[int]:
    return [verify_checkpoint(envelope).size for envelope in stores.heads.all()]


def test_the_newest_is_kept_and_each_that_a_record_carries(
    three: Institutions, stores: Stores, log: Log
) -> None:
    see(stores, log)
    see(stores, log.grow(2))
    see(stores, log)
    assert kept(stores) == [9] and log.asked == [(7, 9)]
    manifest = three.manifest()
    run = three.accept(stores, manifest)
    queued = stores.state.next_queued()
    assert queued is not None and queued.envelope.kind == CONSENT
    consent = Consent.from_bytes(queued.envelope.payload)
    assert consent.log is not None and consent.log.size == 9
    consent.log.verify(three.world.agreement.log_key)
    see(stores, log.grow(1))
    see(stores, log.grow(1))
    assert kept(stores) == [9, 11]
    session = Session(stores, run)
    aggregator = Aggregator.of(three, manifest)
    advertised = Advertisement.from_bytes(aggregator.advertise(session, 0, 0).payload)
    assert advertised.log is not None and advertised.log.size == 11


@pytest.mark.parametrize(
    ("history", "code"),
    [
        (lambda log: log.forked(7, 0), "log-rolled-back"),
        (lambda log: log.forked(3, 9), "log-forked"),
        (lambda log: log.forked(3, 6), "log-forked"),
        (lambda log: Log(SigningKey.generate()).grow(12), "wrong-log-key"),
    ],
    ids=["rolled back", "forked and longer", "forked at this size", "another key"],
)
def test_another_history_stops_the_node_until_its_steward_accepts_it(
    three: Institutions, log: Log, history: Any, code: str, tmp_path: Path
) -> None:
    party = three.parties[0]
    with three.open(party) as stores:
        manifest = three.manifest()
        run = three.accept(stores, manifest)
        see(stores, log.grow(2))
        other = history(log)
        see(stores, other)
        found = broken(stores)
        assert found is not None and found["code"] == code
    with three.open(party) as stores:  # over a restart
        with pytest.raises(PolicyError, match=rf"\[{code}\]"):
            three.accept(stores, three.manifest())
        session, aggregator = Session(stores, run), Aggregator.of(three, manifest)
        if code == "log-rolled-back":  # as after a restored backup: the run is not the registry's
            aggregator.advertise(session, 0, 0)
        else:
            with pytest.raises(Refused) as refused:
                aggregator.advertise(session, 0, 0)
            assert refused.value.code == code
        evidence = Path(found["evidence"])
        assert evidence.parent.name == "evidence"
        lines = evidence.read_bytes().splitlines()
        assert len(lines) == 2 and all(CHECKPOINT.encode() in line for line in lines)
        see(stores, log)  # the old one again, as though nothing had been
        assert broken(stores) is not None
        if code != "wrong-log-key":
            accept(stores, cast(RegistryClient, other))
            see(stores, other.grow(1))
            assert broken(stores) is None and evidence.exists()
            three.accept(stores, three.manifest())


def test_a_registry_that_is_away_proves_nothing(stores: Stores, log: Log) -> None:
    see(stores, log)
    log.silent = TransportError("registry-unreachable", "no route")
    with pytest.raises(TransportError):
        see(stores, log.grow(1))
    assert broken(stores) is None and kept(stores) == [7]


def test_peers_that_saw_another_log_end_the_run_before_anything_is_masked(
    three: Institutions, log: Log
) -> None:
    """The registry shows one of three nodes another history of the same length."""
    manifest = three.manifest()
    aggregator = Aggregator.of(three, manifest)
    with ExitStack() as stack:
        opened = {party: stack.enter_context(three.open(party)) for party in three.parties}
        for index, stores in enumerate(opened.values()):
            see(stores, log if index else log.forked(2, 5))
        sessions = {
            party: Session(stores, three.accept(stores, manifest))
            for party, stores in opened.items()
        }
        attempt = aggregator.attempt(0, 0)
        for party, session in sessions.items():
            attempt.advertise(party, aggregator.advertise(session, 0, 0))
        cohort = attempt.close_cohort()
        for party, session in sessions.items():
            attempt.share(party, aggregator.share(session, 0, 0, cohort))
        attempt.close_sharers()
        for party, session in sessions.items():
            with pytest.raises(Refused) as refused:
                aggregator.train(session, attempt, party)
            assert refused.value.code == "log-forked"
            assert opened[party].ledger.length == 0, "nothing was charged"
        found = broken(opened[three.parties[0]])
    assert found is not None
    answer = accord("audit", "verify", found["evidence"], "--format", "json")
    assert answer.code == 5 and answer.error["code"] == "log-forked"
    assert answer.json["log_keys"] == [three.world.log_key.public]


def test_heads_of_one_log_are_joined_and_the_round_goes_on(three: Institutions, log: Log) -> None:
    manifest = three.manifest()
    aggregator = Aggregator.of(three, manifest)
    with ExitStack() as stack:
        opened = {party: stack.enter_context(three.open(party)) for party in three.parties}
        for stores in opened.values():
            see(stores, log.grow(1))
        sessions = {
            party: Session(stores, three.accept(stores, manifest))
            for party, stores in opened.items()
        }
        aggregator.round(sessions, 0)
        for session in sessions.values():
            session.witness.peers.settle(cast(Any, log))
            assert session.witness.peers.waiting_s() == 0
        aggregator.round(sessions, 1)
        stores = opened[three.parties[-1]]
        after, receipts = 0, []
        while (item := stores.state.next_queued(after)) is not None:
            after = item.position
            if item.envelope.kind == NODE_RECEIPT:
                receipts.append(NodeReceipt.from_bytes(item.envelope.payload).log)
    assert [head and head.size for head in receipts] == [10, 10]
    assert set(log.asked) >= {(8, 10), (9, 10)}
