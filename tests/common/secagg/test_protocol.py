"""With an honest server the output is the exact sum of the survivors, or an abort."""

from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accord_client.secagg import NodeSecAgg
from accord_common.errors import AccordError, ProtocolError
from accord_common.secagg.keystream import BLOCK_BYTES
from tests.secagg_driver import Federation, Script, drive, federation, with_code

STAGES = ("advertise", "share", "upload", "confirm", "unmask")


@st.composite
def scripted(draw: st.DrawFn) -> tuple[Federation, Script]:
    """A federation of 2 to 7 nodes, and what happens to each of them."""
    n = draw(st.integers(2, 7))
    fed = federation(
        n,
        min_cohort=draw(st.integers(2, n)),
        bits=draw(st.sampled_from([16, 32, 64])),
        dimension=draw(st.integers(1, 40)),
    )
    lost = draw(st.lists(st.one_of(st.just(9), st.integers(0, 4)), min_size=n, max_size=n))
    spots = [(stage, party) for stage in range(5) for party in fed.parties]
    late = [(stage, party) for stage, party in spots if stage >= 3]
    script = Script(
        lost_at=dict(zip(fed.parties, lost, strict=True)),
        restarts=set(draw(st.lists(st.sampled_from(late), max_size=3))),
        repeats=set(draw(st.lists(st.sampled_from(spots), max_size=5))),
        order=Random(draw(st.integers(0, 1000))),
    )
    return fed, script


@pytest.mark.soak
@given(scripted())
def test_the_sum_is_that_of_the_survivors_or_there_is_none(
    case: tuple[Federation, Script],
) -> None:
    fed, script = case
    answered = [
        [party for party in fed.parties if script.lost_at[party] > stage] for stage in range(5)
    ]
    needed = [fed.manifest.smallest_cohort] * 3 + [fed.manifest.secagg.threshold] * 2
    enough = all(len(who) >= least for who, least in zip(answered, needed, strict=True))
    try:
        total = drive(fed, fed.attempt(), script)
    except ProtocolError as error:
        assert error.code == "small-cohort"
        assert not enough
    else:
        assert enough
        assert np.array_equal(total, fed.expected(answered[2]))


@pytest.mark.parametrize("stage", range(5), ids=STAGES)
def test_one_of_five_may_be_lost_at_any_stage(stage: int) -> None:
    fed = federation(5, min_cohort=4)
    gone = fed.parties[2]
    total = drive(fed, fed.attempt(), Script(lost_at={gone: stage}))
    summed = fed.parties if stage > 2 else [party for party in fed.parties if party != gone]
    assert np.array_equal(total, fed.expected(summed))


@pytest.mark.parametrize("stage", range(5), ids=STAGES)
def test_two_of_five_lost_end_the_attempt(stage: int) -> None:
    fed = federation(5, min_cohort=4)
    first, second = fed.parties[0], fed.parties[3]
    with pytest.raises(ProtocolError, match="small-cohort"):
        drive(fed, fed.attempt(), Script(lost_at={first: stage, second: stage}))


def test_masks_of_the_lost_come_off_over_block_borders() -> None:
    fed = federation(5, min_cohort=4, dimension=BLOCK_BYTES // 4 + 3)
    total = drive(fed, fed.attempt(), Script(lost_at={fed.parties[0]: 2}))
    assert np.array_equal(total, fed.expected(fed.parties[1:]))


def test_rounds_follow_each_other_and_a_lost_node_joins_again() -> None:
    fed = federation(5, min_cohort=4)
    for round_ in range(4):
        gone = fed.parties[round_]
        fed.restart(gone)
        script = Script(lost_at={gone: 2 + round_ % 2})
        total = drive(fed, fed.attempt(round_), script)
        summed = [p for p in fed.parties if p != gone or round_ % 2]
        assert np.array_equal(total, fed.expected(summed, round_))


def test_an_attempt_that_was_given_up_before_r4_is_followed_by_another() -> None:
    fed = federation(5, min_cohort=4)
    lost = dict.fromkeys(fed.parties[:2], 3)
    with pytest.raises(ProtocolError, match="small-cohort"):
        drive(fed, fed.attempt(0, 0), Script(lost_at=lost))
    total = drive(fed, fed.attempt(0, 1))
    assert np.array_equal(total, fed.expected(fed.parties, 0, 1))


def test_the_next_rounds_keys_are_made_while_this_one_is_unmasked() -> None:
    """R0 and R1 of round 1 between R2 and R4 of round 0: three exchanges a round."""
    fed = federation(3)
    this, following = fed.attempt(0), fed.attempt(1)
    for party, node in fed.nodes.items():
        this.advertise(party, node.advertise(0, 0))
    cohort = this.close_cohort()
    for party, node in fed.nodes.items():
        this.share(party, node.share(0, 0, cohort))
    sharers = this.close_sharers()

    def r2(party: str, node: NodeSecAgg) -> None:
        opened = node.open_sharers(
            0, 0, this.cohort_hash, sharers, this.sealed_for(party), this.model
        )
        this.fold(party, *node.mask(opened, fed.vector(party)))
        following.advertise(party, node.advertise(1, 0))

    for party, node in fed.nodes.items():
        r2(party, node)
    uploads, later = this.close_uploads(), following.close_cohort()
    for party, node in fed.nodes.items():
        this.confirm(party, node.confirm(0, 0, uploads))
        following.share(party, node.share(1, 0, later))
    confirmations = this.close_confirmations()
    for party, node in fed.nodes.items():
        this.unmask(party, node.unmask(0, 0, confirmations))
    assert np.array_equal(this.total(), fed.expected(fed.parties))
    second = following.close_sharers()
    for party, node in fed.nodes.items():
        opened = node.open_sharers(
            1, 0, following.cohort_hash, second, following.sealed_for(party), "aa" * 32
        )
        node.mask(opened, fed.vector(party, 1))


def test_a_restart_before_the_vector_is_masked_loses_the_attempt_and_nothing_else() -> None:
    fed = federation(3)
    node = fed.nodes[fed.parties[0]]
    node.advertise(0, 0)
    assert node.dump() is None
    fed.restart(node.party)
    with_code("no-mask-key", lambda: fed.nodes[node.party].share(0, 0, []))
    assert np.array_equal(drive(fed, fed.attempt(0, 1)), fed.expected(fed.parties, 0, 1))


def test_a_dump_holds_no_secret_once_r4_was_answered_or_the_attempt_replaced() -> None:
    fed = federation(3)
    drive(fed, fed.attempt(0), Script(order=Random(1)))
    for node in fed.nodes.values():
        assert b'"shares":null' in (node.dump() or b"")
    with pytest.raises(ProtocolError):
        drive(fed, fed.attempt(1), Script(lost_at={fed.parties[0]: 3}))
    node = fed.nodes[fed.parties[1]]
    assert b'"shares":{' in (node.dump() or b"")
    node.advertise(1, 1)
    assert b'"shares":null' in (node.dump() or b"")
    with_code("attempt-over", lambda: node.confirm(1, 0, {}))


def test_a_dump_belongs_to_one_run_and_one_node_and_is_loaded_first() -> None:
    fed, other = federation(3), federation(3)
    drive(fed, fed.attempt())
    first, second = fed.parties[:2]
    kept = fed.nodes[first].dump()
    assert kept is not None
    for machine in (fed.machine(second), other.machine(other.parties[0])):
        with pytest.raises(ProtocolError, match="wrong-context"):
            machine.load(kept)
    with pytest.raises(ProtocolError, match="already-begun"):
        fed.nodes[first].load(kept)
    with pytest.raises(AccordError):
        fed.machine(first).load(kept[:-1])
