"""With a drawn graph and an honest server the output is the survivors' exact sum, or an abort."""

from random import Random

import numpy as np
import pytest

from accord_common.errors import ProtocolError
from accord_common.secagg import graph
from accord_common.secagg.draw import parameters_of
from accord_common.secagg.messages import Shares, Unmasking
from accord_common.secagg.shamir import SHARE_BYTES
from tests.graph_driver import DRAW, Drawn, drawn_federation, drive_drawn, verified_once
from tests.secagg_driver import Federation, Script

SIZES = [(9, 1, 0), (11, 1, 1), (12, 2, 1), (14, 2, 2)]  # n, losses, colluders


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw a graph for small rosters too: what is asked here does not depend on their size."""
    monkeypatch.setattr(graph, "COMPLETE_UP_TO", 7)


@pytest.mark.soak(sample=100, full=200)
def test_a_hundred_nodes_lose_some_at_every_stage(size: int, seed: int) -> None:
    random, lost = Random(seed), size // 10
    fed = drawn_federation(size, lost=lost, colluders=size // 10)
    gone = random.sample(fed.parties, lost)
    stages = {party: at % 5 for at, party in enumerate(gone)}
    kept = fed.parties[0] if fed.parties[0] not in gone else gone[-1]
    script = Script(lost_at=stages, restarts={(3, kept), (4, kept)}, order=random)
    total = drive_drawn(fed, fed.attempt(), script)
    summed = [party for party in fed.parties if stages.get(party, 9) > 2]
    assert len(summed) == size - 3 * lost // 5
    assert np.array_equal(total, fed.expected(summed))


@pytest.mark.usefixtures("small")
@pytest.mark.soak(sample=12, full=4000)
def test_the_sum_is_that_of_the_survivors_or_there_is_none(size: int, seed: int) -> None:
    random, ended = Random(seed), {True: 0, False: 0}
    for _ in range(size):
        n, lost, colluders = random.choice(SIZES)
        fed = drawn_federation(n, lost=lost, colluders=colluders)
        gone = random.sample(fed.parties, random.randint(0, lost + 2))
        stages: dict[str, float] = {party: random.choice([0, 1, 2, 3, 4, 4, 4]) for party in gone}
        if random.random() < 0.1:
            stages[gone[0] if gone else fed.parties[0]] = DRAW
        spots = [(stage, party) for stage in (3, 4) for party in fed.parties]
        script = Script(lost_at=stages, restarts=set(random.sample(spots, 2)), order=random)
        try:
            total = drive_drawn(fed, fed.attempt(), script)
        except ProtocolError as error:
            assert error.code in {"small-cohort", "missing-reveal"}
            assert len(gone) > lost or DRAW in stages.values()
            ended[False] += 1
        else:
            summed = [party for party in fed.parties if stages.get(party, 9) > 2]
            assert np.array_equal(total, fed.expected(summed))
            ended[True] += 1
    assert min(ended.values()) > size // 10


@pytest.mark.usefixtures("small")
def test_what_a_node_masks_and_sends_is_in_proportion_to_its_neighbours() -> None:
    work = []
    for n in (12, 24):
        fed = drawn_federation(n, lost=2, colluders=1)
        attempt = Drawn(fed, fed.attempt())
        for stage in (attempt.commit, attempt.draw, attempt.share):
            stage()
        party = fed.parties[0]
        prepared = fed.nodes[party]._prepared
        assert prepared is not None and prepared.dealt is not None
        sealed = Shares.from_bytes(prepared.dealt.envelope.payload).sealed
        server = attempt.server
        told = server.cohort_hash, server.sharers, server.sealed_for(party), server.model
        pairs = fed.nodes[party].open_sharers(0, 0, *told).pairs
        attempt.upload()
        attempt.confirm()
        said = fed.nodes[party].unmask(0, 0, attempt.confirmations, attempt.told(party))
        answer = len(Unmasking.from_bytes(said.payload).sealed)
        work.append((len(sealed), len(pairs), answer))
        k = parameters_of(fed.manifest).degree
        assert work[-1] == (k, k + 1, 2 * ((k + 1) * SHARE_BYTES + 16))
    assert work[0] == work[1]  # though twice as many take part


@pytest.mark.usefixtures("small")
def test_losing_too_many_of_one_circle_ends_the_attempt() -> None:
    """t of the roster still answer R4, and one node's secrets are out of reach."""
    fed = drawn_federation(14, lost=2, colluders=1)
    attempt = Drawn(fed, fed.attempt())
    for stage in (attempt.commit, attempt.draw, attempt.share, attempt.upload, attempt.confirm):
        stage()
    found = attempt.server.graph
    circle = found.circles[fed.parties[0]]
    gone = circle[: len(circle) - found.threshold + 1]
    assert len(fed.parties) - len(gone) >= fed.manifest.secagg.threshold
    for party in gone[:-1]:
        attempt.server.lose(party)
    with pytest.raises(ProtocolError, match="small-cohort"):
        attempt.server.lose(gone[-1])
    for party in set(fed.parties) - set(gone):
        told = attempt.confirmations, attempt.told(party)
        attempt.server.unmask(party, fed.nodes[party].unmask(0, 0, *told))
    assert not attempt.server.unmaskable
    with pytest.raises(ProtocolError, match="too-few-shares"):
        attempt.server.total()


@pytest.mark.usefixtures("small")
def test_every_attempt_draws_another_graph() -> None:
    fed: Federation = drawn_federation(12, lost=2)
    circles = []
    with verified_once():
        for number in range(2):
            attempt = Drawn(fed, fed.attempt(0, number))
            attempt.commit()
            attempt.draw()
            circles.append(attempt.server.graph.circles)
    assert circles[0] != circles[1]


@pytest.mark.usefixtures("small")
def test_nothing_is_summed_before_the_last_stage() -> None:
    fed = drawn_federation(12, lost=2)
    attempt = Drawn(fed, fed.attempt())
    for stage in (attempt.commit, attempt.draw, attempt.share, attempt.upload):
        assert not attempt.server.unmaskable
        with pytest.raises(ProtocolError, match="too-few-shares"):
            attempt.server.total()
        stage()
