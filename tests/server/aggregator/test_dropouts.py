"""Nodes and the aggregator itself lost at every stage: exact sums of the survivors, or a reason."""

import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from accord_common import wire
from accord_common.errors import FormatError, ProtocolError
from accord_common.manifest import Deadlines, SecAgg
from accord_common.rings import Words, ring_of, scale_for
from accord_common.secagg import sealing
from accord_server.aggregator.checkpoints import Checkpoints
from accord_server.aggregator.control import Interrupted
from accord_server.aggregator.folding import SpoiledSum, add_whole
from accord_server.aggregator.journal import Opened, Unmasking
from accord_server.aggregator.secagg import Attempt
from accord_server.aggregator.spool import Spool
from tests.server.aggregator.test_engine import check_chain, outcomes, result_of
from tests.simulator import (
    BOUND,
    Answer,
    Fault,
    SimNode,
    Simulation,
    dies,
    dies_and_returns,
    late,
    leaves,
    once,
    refuses,
    silent,
    simulate,
)

STAGES = ["share", "train", "confirm", "unmask"]
FIRST = {"share": 0, "train": 1, "confirm": 1, "unmask": 1}
"""The round in which each kind of message is lost; R1 has a message of its own in round 0."""


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("how", [dies, silent, refuses("node-error")])
def test_one_of_five_may_be_lost_at_any_stage(tmp_path: Path, stage: str, how: Fault) -> None:
    simulation = simulate(tmp_path, n=5)
    node, round_ = simulation.order[2], FIRST[stage]
    node.faults[stage, round_, 0] = how
    result = simulation.drive()
    body = result_of(result)
    assert (body.status, body.rounds) == ("completed", 3)
    assert all(receipt.outcome == "completed" for receipt in simulation.receipts())
    here = 5 if stage in ("confirm", "unmask") else 4  # U3 is fixed before R3
    receipt = simulation.receipts()[round_]
    assert len(receipt.cohort) == len(receipt.uploads) == here
    assert receipt.lost == ([node.party] if here == 4 else [])
    check_chain(simulation, result)
    if stage != "share":
        name = simulation.run.agreement.party(node.party).name
        assert any(f"went on without {name}" in note for note in simulation.notes())


@pytest.mark.parametrize("how", [leaves, refuses])
def test_the_rest_goes_on_without_a_node_that_refuses_and_receipts_say_so(
    tmp_path: Path, how: Callable[[str], Fault]
) -> None:
    simulation = simulate(tmp_path, n=5)
    node, code = simulation.order[2], "budget-exceeded"
    node.faults["train", 0, 0] = how(code)
    result = simulation.drive()
    body, receipts = result_of(result), simulation.receipts()
    assert (body.status, body.refused) == ("completed", {node.party: code})
    first = how is refuses  # in mid-round: it is missing in the sum of this very round
    assert [len(receipt.cohort) for receipt in receipts] == [4 if first else 5, 4, 4]
    told = {node.party: code}
    assert [receipt.refused for receipt in receipts] == [told if first else {}, told, told]
    assert [receipt.lost for receipt in receipts] == [[node.party] if first else [], [], []]
    assert max(request.round for request in node.seen if isinstance(request, wire.Train)) == 0
    check_chain(simulation, result)


@pytest.mark.parametrize("stage", ["train", "confirm"])
def test_two_of_five_are_too_many_and_the_reason_is_told(tmp_path: Path, stage: str) -> None:
    simulation = simulate(tmp_path, n=5)
    for node in simulation.order[1:3]:
        node.faults[stage, 1, 0] = dies
    body = result_of(simulation.drive())
    assert (body.status, body.code, body.rounds) == ("failed", "too-few-nodes", 1)
    aborted = simulation.receipts()[1]
    assert aborted.outcome == "aborted"
    assert set(aborted.lost) == {node.party for node in simulation.order[1:3]}
    for node in simulation.order[1:3]:
        assert simulation.run.agreement.party(node.party).name in body.cause


def test_two_lost_of_five_while_unmasking_fail_the_run_for_good(tmp_path: Path) -> None:
    simulation = simulate(tmp_path, n=5)
    for node in simulation.order[1:3]:
        node.faults["unmask", 1, 0] = dies
    body = result_of(simulation.drive())
    assert (body.status, body.code, body.rounds) == ("failed", "too-few-shares", 1)
    for node in simulation.order[1:3]:
        assert simulation.run.agreement.party(node.party).name in body.cause
    assert simulation.receipts()[1].outcome == "aborted"
    assert simulation.receipts()[1].sum is None
    other = simulation.order[0].secagg
    with pytest.raises(ProtocolError) as caught:
        other.advertise(1, 1)
    assert caught.value.code == "round-closed"


@pytest.mark.parametrize("stage", ["confirm", "unmask"])
def test_restarted_nodes_answer_for_what_they_uploaded(tmp_path: Path, stage: str) -> None:
    """Of three nodes none may be missing: those that died are waited for, and nothing is redone."""
    simulation = simulate(tmp_path)
    for node in simulation.order[:2]:
        node.faults[stage, 1, 0] = once(dies_and_returns(lambda: simulation.transport, 30))
    began = simulation.transport.now
    result = simulation.drive()
    assert outcomes(simulation) == [(round_, 0, "completed", 3) for round_ in range(3)]
    assert 30 <= simulation.transport.now - began < 60
    assert [row.attempts for row in result_of(result).epsilon] == [3, 3, 3]
    check_chain(simulation, result)


@pytest.mark.parametrize("stage", ["confirm", "unmask"])
def test_a_late_node_that_is_needed_is_waited_for_like_a_lost_one(
    tmp_path: Path, stage: str
) -> None:
    deadlines = Deadlines(advertise_s=10, update_s=60, rejoin_s=30)
    simulation = simulate(tmp_path, deadlines=deadlines)
    simulation.order[0].faults[stage, 1, 0] = late(lambda: simulation.transport, 20)
    result = simulation.drive()
    assert outcomes(simulation) == [(round_, 0, "completed", 3) for round_ in range(3)]
    check_chain(simulation, result)


def test_a_node_that_is_back_takes_part_in_the_next_round(tmp_path: Path) -> None:
    simulation = simulate(tmp_path, n=5, rounds=5)
    node, other = simulation.order[4], simulation.order[0]
    node.faults["train", 1, 0] = dies

    def brings_it_back(_: SimNode, request: wire.Request, answer: Answer) -> Answer:
        simulation.transport.connect(node.party)
        return answer

    other.faults["train", 2, 0] = brings_it_back
    began = simulation.transport.now
    result = simulation.drive()
    assert [len(receipt.cohort) for receipt in simulation.receipts()] == [5, 4, 4, 5, 5]
    assert simulation.transport.now == began  # nobody was waited for
    asked = [request.type for request in node.seen if not isinstance(request, wire.Finish)]
    after = len(asked) - asked[::-1].index("advertise")
    assert asked[after:] == ["share", *["train", "confirm", "unmask"] * 2]
    check_chain(simulation, result)


def test_a_line_that_breaks_between_stages_costs_one_round_at_most(tmp_path: Path) -> None:
    simulation = simulate(tmp_path, n=5, rounds=4)
    node = simulation.order[3]

    def blinks(_: SimNode, request: wire.Request, answer: Answer) -> Answer:
        simulation.transport.disconnect(node.party)
        simulation.transport.connect(node.party)
        return answer

    for stage, round_ in [("train", 0), ("confirm", 1), ("unmask", 2)]:
        simulation.order[4].faults[stage, round_, 0] = blinks
    result = simulation.drive()
    assert result_of(result).status == "completed"
    assert all(len(receipt.cohort) >= 4 for receipt in simulation.receipts())
    check_chain(simulation, result)


def _interrupted(simulation: Simulation, stage: str, round_: int) -> None:
    """Interrupt the aggregator over a stage's first answer."""

    def interrupts(node: SimNode, request: wire.Request, answer: Answer) -> Answer:
        simulation.control.interrupted = True
        return answer

    simulation.order[0].faults[stage, round_, 0] = once(interrupts)
    with pytest.raises(Interrupted):
        simulation.drive()
    simulation.restart_aggregator()


@pytest.mark.parametrize("stage", STAGES)
def test_an_aggregator_that_restarts_at_any_stage_goes_on(tmp_path: Path, stage: str) -> None:
    simulation = simulate(tmp_path)
    round_ = FIRST[stage]
    _interrupted(simulation, stage, round_)
    result = simulation.drive()
    assert result_of(result).status == "completed"
    redone = [] if stage in ("share", "unmask") else [(round_, 0, "aborted", 3)]
    assert [row for row in outcomes(simulation) if row[2] == "aborted"] == redone
    assert len(outcomes(simulation)) == 3 + len(redone)
    check_chain(simulation, result)


def test_a_round_that_was_being_unmasked_is_completed_after_a_restart(tmp_path: Path) -> None:
    simulation = simulate(tmp_path, n=5)
    simulation.order[4].faults["train", 1, 0] = dies
    _interrupted(simulation, "unmask", 1)
    spooled = [entry for entry in simulation.entries() if isinstance(entry, Unmasking)]
    assert [(entry.round, entry.attempt) for entry in spooled] == [(0, 0), (1, 0)]
    files = list((tmp_path / "checkpoints").glob("*.sum"))
    assert [path.stem for path in files] == [spooled[1].sum]
    result = simulation.drive()
    assert outcomes(simulation)[1] == (1, 0, "completed", 4)
    assert list((tmp_path / "checkpoints").glob("*.sum*")) == []
    check_chain(simulation, result)


@pytest.mark.parametrize(
    "damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"x")]
)
def test_a_lost_spool_fails_the_run_with_the_reason(
    tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    simulation = simulate(tmp_path)
    _interrupted(simulation, "unmask", 1)
    (path,) = (tmp_path / "checkpoints").glob("*.sum")
    damage(path)
    body = result_of(simulation.drive())
    assert (body.status, body.code, body.rounds) == ("failed", "unmask-interrupted", 1)
    assert list(path.parent.glob("*.sum*")) == []


def test_the_attempt_is_on_disk_before_it_is_sent_and_before_it_is_unmasked(
    tmp_path: Path,
) -> None:
    simulation = simulate(tmp_path)
    found: dict[str, list[str]] = {}

    def looks(node: SimNode, request: wire.Request, answer: Answer) -> Answer:
        lines = (tmp_path / "journal").read_bytes().splitlines()
        found[request.type] = [line.decode() for line in lines[-1:]]
        return answer

    for stage in ("train", "unmask"):
        simulation.order[0].faults[stage, 1, 0] = looks
    simulation.drive()
    assert '"opened"' in found["train"][0] and '"unmasking"' in found["unmask"][0]
    assert sum(isinstance(entry, Opened) for entry in simulation.entries()) == 3


def test_shares_that_give_another_key_fail_the_run(tmp_path: Path) -> None:
    """A node that deals a wrong mask key and then leaves: its masks cannot be taken off."""
    simulation = simulate(tmp_path, n=5)
    node = simulation.order[1]
    node.faults["train", 0, 0] = dies

    def deals_another(node: SimNode, request: wire.Request, answer: Answer) -> Answer:
        prepared = node.secagg._prepared
        assert prepared is not None and isinstance(request, wire.Share)
        prepared.dealt, prepared.mask = None, X25519PrivateKey.generate()
        envelope = node.secagg.share(request.round, request.attempt, request.cohort)
        return wire.encode(wire.SharesReply(envelope=envelope)), ()

    node.faults["share", 0, 0] = deals_another
    body = result_of(simulation.drive())
    assert (body.status, body.code, body.rounds) == ("failed", "mask-key-mismatch", 0)


@pytest.mark.parametrize("bits", [16, 32, 64])
def test_the_model_moves_by_the_survivors_mean_in_every_ring(
    tmp_path: Path, bits: Literal[16, 32, 64]
) -> None:
    ring = ring_of(bits)
    secagg = SecAgg(
        threshold=4,
        min_cohort=4,
        colluders=0,
        ring_bits=bits,
        bound=BOUND,
        scale=scale_for(BOUND, 5, ring),
    )
    simulation = simulate(tmp_path, n=5, rounds=1, max_attempts_total=1, secagg=secagg)
    simulation.order[1].faults["train", 0, 0] = dies
    simulation.order[2].faults["confirm", 0, 0] = once(
        dies_and_returns(lambda: simulation.transport)
    )
    result = simulation.drive()
    check_chain(simulation, result)
    (receipt,) = simulation.receipts()
    assert len(receipt.cohort) == 4
    mean = sum(simulation.nodes[party].vector(0).astype(np.float64) for party in receipt.cohort) / 4
    left = Checkpoints(tmp_path / "checkpoints")
    (path,) = (tmp_path / "checkpoints").glob("*.safetensors")
    model = np.frombuffer(left.load(path.stem).vectors["model"].load(), "<f4")
    moved = model - np.frombuffer(simulation.initial, "<f4")
    assert np.abs(moved - mean).max() <= 0.5 / secagg.scale + 1e-6


@pytest.mark.parametrize("fault", [OSError("the disk"), FormatError("gone", "an object")])
def test_a_sum_that_an_upload_is_in_in_part_is_never_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    faults = [fault]
    unseal = sealing.unseal

    def breaks(*told: Any, **named: Any) -> Iterator[Words]:
        for piece in unseal(*told, **named):
            yield piece
            if faults:
                raise faults.pop()

    monkeypatch.setattr(sealing, "unseal", breaks)
    simulation = simulate(tmp_path)
    result = simulation.drive()
    assert outcomes(simulation)[:2] == [(0, 0, "aborted", 3), (0, 1, "completed", 3)]
    check_chain(simulation, result)


def test_what_cannot_be_taken_back_spoils_the_sum() -> None:
    total, opened = np.zeros(4, np.uint32), []

    def pieces() -> Iterator[Words]:
        opened.append(1)
        if len(opened) == 2:
            raise ProtocolError("seal-broken", "the second time")
        yield np.ones(2, np.uint32)
        raise ProtocolError("seal-broken", "the first time")

    with pytest.raises(SpoiledSum, match="the second time"):
        add_whole(total, pieces)


def test_a_disk_that_is_full_keeps_no_half_sum(tmp_path: Path) -> None:
    class Large:
        def suspend(self) -> tuple["Large", Words]:
            return self, np.zeros(1 << 18, np.uint32)

        def to_bytes(self) -> bytes:
            return b"{}"

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            Spool(tmp_path).write(cast(Attempt, Large()))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_a_node_whose_key_is_revoked_is_lost_at_once_and_not_heard_again(tmp_path: Path) -> None:
    simulation = simulate(tmp_path, n=5)
    node = simulation.order[1]

    def revoked(node: SimNode, request: wire.Request, answer: Answer) -> Answer:
        simulation.control.barred = {node.party: "key-revoked"}
        simulation.transport.later(1, lambda: simulation.transport.connect(node.party))
        return (
            answer  # its update is on the way, and comes too late; whoever has the key comes again
        )

    node.faults["train", 1, 0] = revoked
    result = result_of(simulation.drive())
    assert (result.status, result.refused) == ("completed", {node.party: "key-revoked"})
    first, *others = simulation.receipts()
    assert node.party in first.cohort
    assert all(node.party not in receipt.cohort for receipt in others)
    assert [request.type for request in node.seen][-2:] == ["train", "finish"]


def test_a_suspended_node_comes_back_when_it_is_readmitted(tmp_path: Path) -> None:
    simulation = simulate(tmp_path, n=5, rounds=4)
    node, other = simulation.order[1], simulation.order[2]
    simulation.control.barred = {node.party: "party-suspended"}

    def readmitted(_: SimNode, __: wire.Request, answer: Answer) -> Answer:
        simulation.control.barred = {}
        simulation.transport.connect(node.party)
        return answer

    other.faults["train", 1, 0] = readmitted
    result = result_of(simulation.drive())
    assert (result.status, result.refused) == ("completed", {})
    took = [node.party in receipt.cohort for receipt in simulation.receipts()]
    assert took[:2] == [False, False] and took[-1]


def test_too_few_nodes_name_the_revoked_one(tmp_path: Path) -> None:
    simulation = simulate(tmp_path)
    node = simulation.order[1]
    simulation.control.barred = {node.party: "key-revoked"}
    result = result_of(simulation.drive())
    assert (result.status, result.code) == ("failed", "too-few-nodes")
    assert "revoked" in result.cause and "[key-revoked]" in result.cause
