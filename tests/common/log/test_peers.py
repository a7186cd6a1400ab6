"""Heads that others show: joined once, by a proof, or found to be of another history."""

import pytest

from accord_common.envelope import Envelope, sign
from accord_common.errors import TransportError, VerificationError
from accord_common.fields import new_id
from accord_common.identity import SigningKey
from accord_common.log.checkpoint import Head, verify_checkpoint
from accord_common.log.peers import Fork, Peers
from accord_common.secagg.messages import Advertisement
from tests.logs import Log

KEY = SigningKey.generate()
AWAY = TransportError("registry-unreachable", "no route")


class Bench:
    """One witness, who has seen `own`, and what it was told of forks."""

    def __init__(self, own: Head | None) -> None:
        self.own, self.now = own, 0.0
        self.forks: list[Fork] = []
        self.peers = Peers(KEY.public, lambda: self.own, self.forks.append, lambda: self.now)


def shown(head: Head | None) -> Envelope:
    """A peer's R0."""
    node = SigningKey.generate()
    keys = {"mask_key": node.public, "channel_key": node.public}
    place = {"manifest": "ab" * 32, "round": 0, "attempt": 0, "party": new_id()}
    body = Advertisement.model_validate(place | keys | {"log": head})
    return sign(body.KIND, body, node)


def test_a_head_is_joined_once_whichever_is_the_larger() -> None:
    log = Log(KEY).grow(5)
    older = log.head
    bench = Bench(log.grow(4).head)
    newer = log.grow(3).head
    assert not bench.peers.show(shown(None)) and not bench.peers.show(shown(bench.own))
    for head in (older, newer):
        assert bench.peers.show(shown(head)), "it waits for a proof"
    bench.peers.settle(log)  # type: ignore[arg-type] # the calls of a registry's tree
    assert sorted(log.asked) == [(5, 9), (9, 12)]
    for head in (older, newer):
        assert not bench.peers.show(shown(head)), "it is known"
    assert bench.forks == [] and bench.peers.waiting_s() == 0


def test_another_tree_of_one_size_is_a_fork_without_asking_anybody() -> None:
    log = Log(KEY).grow(6)
    bench, other = Bench(log.head), log.forked(2, 4)
    message = shown(other.head)
    assert not bench.peers.show(message)
    (fork,) = bench.forks
    ours, theirs, carried = fork.evidence
    sizes = [verify_checkpoint(each, KEY.public) for each in (ours, theirs)]
    assert sizes[0].size == sizes[1].size == 6 and sizes[0].root != sizes[1].root
    assert carried == message


@pytest.mark.parametrize("shown_by", ["larger", "smaller"])
def test_what_the_registry_cannot_join_is_a_fork(shown_by: str) -> None:
    log = Log(KEY).grow(6)
    count = 6 if shown_by == "larger" else 2
    bench, other = Bench(log.head), log.forked(2, count)
    assert bench.peers.show(shown(other.head))
    for registry in (log, other):  # neither history can prove that it is both
        bench.peers.settle(registry)  # type: ignore[arg-type] # as above
    assert len(bench.forks) == 1 and bench.peers.waiting_s() == 0


def test_a_silent_registry_makes_a_head_wait_and_nothing_else() -> None:
    log = Log(KEY).grow(6)
    bench = Bench(log.head)
    assert bench.peers.show(shown(log.grow(1).head))
    log.silent, bench.now = AWAY, 70.0
    with pytest.raises(TransportError):
        bench.peers.settle(log)  # type: ignore[arg-type] # as above
    assert (bench.peers.waiting_s(), bench.forks) == (70.0, [])
    log.silent = None
    bench.peers.settle(log)  # type: ignore[arg-type] # as above
    assert bench.peers.waiting_s() == 0


def test_a_head_that_the_log_key_did_not_sign_is_none() -> None:
    log = Log(KEY).grow(6)
    bench = Bench(log.head)
    for head in (
        Log(SigningKey.generate()).grow(6).head,
        log.head.model_copy(update={"size": 7}),
        log.head.model_copy(update={"root": "ab" * 32}),
    ):
        with pytest.raises(VerificationError, match=r"\[wrong-head\]"):
            bench.peers.show(shown(head))
    assert bench.forks == []


def test_who_has_seen_nothing_yet_compares_later() -> None:
    log = Log(KEY).grow(6)
    bench = Bench(None)
    for head in (log.head, log.forked(2, 4).head):
        assert bench.peers.show(shown(head))
    bench.peers.settle(log)  # type: ignore[arg-type] # as above
    assert bench.forks == [] and log.asked == []
    bench.own = log.grow(1).head
    bench.peers.settle(log)  # type: ignore[arg-type] # as above
    assert len(bench.forks) == 1
