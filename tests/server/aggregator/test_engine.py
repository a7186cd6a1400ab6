"""The round engine against real nodes without training: sums, attempts, failures, restarts."""

import errno
import hashlib
import os
import signal
import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from accord_common import wire
from accord_common.chain import fetch_result
from accord_common.envelope import Envelope, sign
from accord_common.identity import SigningKey
from accord_common.manifest import ServerOptimizer
from accord_common.receipts import RunResult
from accord_common.secagg.messages import UPLOAD, Upload
from accord_server.aggregator.checkpoints import Checkpoints
from accord_server.aggregator.control import Ending, Interrupted
from tests.simulator import (
    Answer,
    Fault,
    SimNode,
    Simulation,
    dies,
    leaves,
    refuses,
    silent,
    simulate,
)

FEDADAM = ServerOptimizer(
    name="fedadam", learning_rate="0.1", beta1="0.9", beta2="0.99", tau="0.001"
)


def result_of(envelope: Envelope) -> RunResult:
    return RunResult.from_bytes(envelope.payload)


def outcomes(simulation: Simulation) -> list[tuple[int, int, str, int]]:
    return [(r.round, r.attempt, r.outcome, len(r.cohort)) for r in simulation.receipts()]


def check_chain(simulation: Simulation, result: Envelope) -> None:
    """An auditor follows the result to the agreement, and every sum is the nodes' sum."""
    found = fetch_result(simulation.lookup(result), result.hash, simulation.run)
    for receipt in found.receipts:
        if receipt.sum is not None:
            words = simulation.expected_sum(receipt.round, receipt.cohort)
            assert receipt.sum == hashlib.sha256(words.tobytes()).hexdigest()


def test_a_run_forms_exact_sums_and_a_chain_that_verifies(tmp_path: Path) -> None:
    simulation = simulate(tmp_path)
    result = simulation.drive()
    body = result_of(result)
    assert (body.status, body.code, body.rounds) == ("completed", "", 3)
    check_chain(simulation, result)

    model = np.frombuffer(simulation.initial, np.float32).astype(np.float64)
    scale = simulation.run.manifest.secagg.scale
    for round_ in range(3):
        words = simulation.expected_sum(round_, list(simulation.nodes))
        model = (model + words.view(np.int32) / scale / 3).astype(np.float32).astype(np.float64)
    assert body.model == hashlib.sha256(model.astype("<f4").tobytes()).hexdigest()

    assert [row.attempts for row in body.epsilon] == [3, 3, 3]
    assert all(0 < float(row.epsilon or "inf") < 3 for row in body.epsilon)
    for node in simulation.nodes.values():
        assert [request.type for request in node.seen] == [
            "advertise",
            "share",
            *["train", "confirm", "unmask"] * 3,
            "finish",
        ]  # three exchanges a round


def test_a_lost_node_ends_the_attempt_and_is_waited_for(tmp_path: Path) -> None:
    simulation = simulate(tmp_path)
    node = simulation.order[1]

    def dies_and_returns(node: SimNode, request: wire.Request, answer: Answer) -> Answer:
        simulation.transport.later(90, lambda: simulation.transport.connect(node.party))
        return dies(node, request, answer)

    node.faults["train", 1, 0] = dies_and_returns
    result = simulation.drive()
    assert outcomes(simulation) == [
        (0, 0, "completed", 3),
        (1, 0, "aborted", 3),
        (1, 1, "completed", 3),
        (2, 0, "completed", 3),
    ]
    assert simulation.receipts()[1].lost == [node.party]
    assert [row.attempts for row in result_of(result).epsilon] == [4, 4, 4]  # charged again
    check_chain(simulation, result)


def test_a_new_attempt_has_new_mask_keys(tmp_path: Path) -> None:
    simulation = simulate(tmp_path)
    simulation.order[0].faults["train", 0, 0] = refuses("no-mask-key")
    simulation.drive()
    shared = [r for r in simulation.order[1].seen if isinstance(r, wire.Share) and r.round == 0]
    assert [request.attempt for request in shared] == [0, 1]
    first, second = ({e.hash for e in request.cohort} for request in shared)
    assert not first & second


def test_too_few_nodes_fail_the_run_by_name(tmp_path: Path) -> None:
    simulation = simulate(tmp_path)
    node = simulation.order[2]
    node.faults["train", 1, 0] = dies
    result = simulation.drive()
    body = result_of(result)
    assert (body.status, body.code, body.rounds) == ("failed", "too-few-nodes", 1)
    name = simulation.run.agreement.party(node.party).name
    assert f"{name}: not connected: connection reset" in body.cause
    assert body.model == simulation.receipts()[0].model_after
    check_chain(simulation, result)


def test_a_refusal_is_not_waited_for(tmp_path: Path) -> None:
    simulation = simulate(tmp_path)
    node = simulation.order[0]
    node.faults["train", 0, 0] = refuses("budget-exceeded")
    began = simulation.transport.now
    body = result_of(simulation.drive())
    assert body.status == "failed"
    assert simulation.run.agreement.party(node.party).name in body.cause
    assert "[budget-exceeded]" in body.cause
    assert simulation.transport.now == began
    assert outcomes(simulation) == [(0, 0, "aborted", 3)]


def test_a_refusal_before_the_cohort_is_fixed_charges_nobody(tmp_path: Path) -> None:
    simulation = simulate(tmp_path)
    simulation.order[0].faults["advertise", 0, 0] = refuses("run-not-approved")
    body = result_of(simulation.drive())
    assert (body.status, body.rounds, body.model) == ("failed", 0, None)
    assert [row.attempts for row in body.epsilon] == [0, 0, 0]
    assert all(row.epsilon == "0" for row in body.epsilon)
    assert simulation.receipts() == []


def test_a_refusal_of_the_next_round_charges_nobody(tmp_path: Path) -> None:
    """All three are needed: the one whose budget ends with round 0 says so before round 1."""
    simulation = simulate(tmp_path)
    node = simulation.order[0]
    node.faults["train", 0, 0] = leaves("budget-exceeded")
    body = result_of(simulation.drive())
    assert (body.status, body.code, body.rounds) == ("failed", "too-few-nodes", 1)
    assert simulation.run.agreement.party(node.party).name in body.cause
    assert "[budget-exceeded]" in body.cause
    assert body.refused == {node.party: "budget-exceeded"}
    assert outcomes(simulation) == [(0, 0, "completed", 3)]
    assert [row.attempts for row in body.epsilon] == [1, 1, 1]


def test_a_silent_node_is_late_by_the_manifests_deadline(tmp_path: Path) -> None:
    simulation = simulate(tmp_path)
    node = simulation.order[2]
    node.faults["train", 0, 0] = silent
    began = simulation.transport.now
    simulation.drive()
    assert outcomes(simulation)[:2] == [(0, 0, "aborted", 3), (0, 1, "completed", 3)]
    assert simulation.receipts()[0].lost == [node.party]
    assert simulation.transport.now - began == 60


def test_a_silent_node_costs_one_wait_and_is_asked_in_the_next_round(
    tmp_path: Path,
) -> None:
    simulation = simulate(tmp_path, n=5)
    node = simulation.order[3]
    node.faults["advertise", 0, 0] = silent
    began = simulation.transport.now
    simulation.drive()
    assert [len(r.cohort) for r in simulation.receipts()] == [4, 5, 5]
    assert simulation.transport.now - began == 10


def test_attempts_are_bounded_over_the_whole_run(tmp_path: Path) -> None:
    simulation = simulate(tmp_path, max_attempts_total=4)
    for attempt in range(10):
        simulation.order[0].faults["train", 0, attempt] = refuses("no-mask-key")
    body = result_of(simulation.drive())
    assert (body.status, body.code) == ("failed", "attempts-exhausted")
    assert len(simulation.receipts()) == 4


def _altered(answer: Answer, chunks: tuple[bytes, ...]) -> Answer:
    assert answer is not None
    return answer[0], chunks


def _flipped(node: SimNode, request: wire.Request, answer: Answer) -> Answer:
    assert answer is not None
    first = bytearray(answer[1][0])
    first[0] ^= 1
    return _altered(answer, (bytes(first),))


def _cut(node: SimNode, request: wire.Request, answer: Answer) -> Answer:
    return _altered(answer, ())


def _noise(node: SimNode, request: wire.Request, answer: Answer) -> Answer:
    return b"\x00noise", ()


def _wrong_type(node: SimNode, request: wire.Request, answer: Answer) -> Answer:
    return wire.encode(wire.Done()), ()


def _unsigned_vector(node: SimNode, request: wire.Request, answer: Answer) -> Answer:
    """Sends a record of another kind."""
    assert answer is not None
    honest = wire.decode_reply(answer[0])
    assert isinstance(honest, wire.UpdateReply) and isinstance(honest.next, Envelope)
    return wire.encode(wire.UpdateReply(upload=honest.next, next=None)), answer[1]


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (_flipped, "wrong-root"),
        (_cut, "wrong-root"),
        (_noise, "not-json"),
        (_wrong_type, "unexpected-message"),
        (_unsigned_vector, "wrong-kind"),
    ],
)
def test_a_bad_upload_excludes_its_node_and_nobody_else(
    tmp_path: Path, fault: Fault, code: str
) -> None:
    simulation = simulate(tmp_path, n=5)
    node = simulation.order[2]
    node.faults["train", 1, 0] = fault
    result = simulation.drive()
    assert outcomes(simulation) == [
        (0, 0, "completed", 5),
        (1, 0, "completed", 4),
        (2, 0, "completed", 4),
    ]
    assert simulation.receipts()[1].lost == [node.party]
    assert f"[{code}]" in simulation.notes()[-1]
    check_chain(simulation, result)


def test_a_replayed_upload_is_refused(tmp_path: Path) -> None:
    simulation = simulate(tmp_path)
    kept: list[Answer] = []

    def keeps(node: SimNode, request: wire.Request, answer: Answer) -> Answer:
        kept.append(answer)
        return answer

    node = simulation.order[0]
    node.faults["train", 0, 0] = keeps
    node.faults["train", 1, 0] = lambda *_: kept[0]
    body = result_of(simulation.drive())
    assert (body.status, body.rounds) == ("failed", 1)
    assert "[wrong-context]" in body.cause


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"model": "ab" * 32}, "wrong-model"),
        ({"cohort": "ab" * 32}, "wrong-cohort"),
        ({"words": 8}, "wrong-length"),
        ({"ephemeral_key": SigningKey.generate().public}, "seal-broken"),
    ],
)
def test_what_a_node_signs_must_fit_the_attempt(
    tmp_path: Path, changes: dict[str, Any], code: str
) -> None:
    simulation = simulate(tmp_path)

    def signs_otherwise(node: SimNode, request: wire.Request, answer: Answer) -> Answer:
        assert answer is not None
        reply = wire.decode_reply(answer[0])
        assert isinstance(reply, wire.UpdateReply)
        body = Upload.from_bytes(reply.upload.payload).model_copy(update=changes)
        upload = sign(UPLOAD, body, node.secagg.node_key)
        return wire.encode(reply.model_copy(update={"upload": upload})), answer[1]

    simulation.order[0].faults["train", 0, 0] = signs_otherwise
    body = result_of(simulation.drive())
    assert body.status == "failed"
    assert f"[{code}]" in body.cause


def test_a_stop_takes_effect_within_the_round(tmp_path: Path) -> None:
    simulation = simulate(tmp_path)
    simulation.order[0].faults["train", 1, 0] = silent
    asked = Ending("stopped", "stop-requested", "the coordinator stopped it: budget review")

    def stop() -> None:
        simulation.control.ending = asked

    def plans_the_stop(node: SimNode, request: wire.Request, answer: Answer) -> Answer:
        simulation.transport.later(5, stop)
        return answer

    simulation.order[1].faults["train", 1, 0] = plans_the_stop
    began = simulation.transport.now
    result = simulation.drive()
    body = result_of(result)
    assert (body.status, body.code, body.rounds) == ("stopped", "stop-requested", 1)
    assert "budget review" in body.cause
    assert outcomes(simulation) == [(0, 0, "completed", 3), (1, 0, "aborted", 3)]
    assert simulation.transport.now - began < 12
    check_chain(simulation, result)


def test_an_interrupted_run_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    whole = simulate(tmp_path / "whole", server=FEDADAM, rounds=6, dimension=1000)
    expected = result_of(whole.drive()).model

    parts = simulate(tmp_path / "parts", server=FEDADAM, rounds=6, dimension=1000)
    for round_ in (1, 3):

        def interrupts(node: SimNode, request: wire.Request, answer: Answer) -> Answer:
            parts.control.interrupted = True
            return answer

        parts.order[0].faults["train", round_, 0] = interrupts
        with pytest.raises(Interrupted):
            parts.drive()
        parts.restart_aggregator()
    result = parts.drive()
    assert result_of(result).model == expected
    aborted = [(r.round, r.attempt, r.lost) for r in parts.receipts() if r.outcome == "aborted"]
    assert aborted == [(1, 0, []), (3, 0, [])]
    assert [row.attempts for row in result_of(result).epsilon] == [8, 8, 8]
    check_chain(parts, result)


def test_a_killed_aggregator_goes_on_from_its_last_checkpoint(tmp_path: Path) -> None:
    simulation = simulate(tmp_path, rounds=4)

    def kills(node: SimNode, request: wire.Request, answer: Answer) -> Answer:
        os.kill(os.getpid(), signal.SIGKILL)
        return None

    node = simulation.order[2]
    node.faults["train", 2, 0] = kills
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 on forking beside threads
        child = os.fork()
    if child == 0:
        simulation.drive()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert [(r.round, r.outcome) for r in simulation.receipts()] == [
        (0, "completed"),
        (1, "completed"),
    ]

    for other in simulation.nodes.values():  # in this process they have seen nothing yet
        assert other.seen == []
    result = simulation.drive()
    assert outcomes(simulation)[2:] == [
        (2, 0, "aborted", 3),
        (2, 1, "completed", 3),
        (3, 0, "completed", 3),
    ]
    first = node.seen[0]
    assert isinstance(first, wire.Advertise)
    assert (first.round, first.attempt) == (2, 1)
    check_chain(simulation, result)


def test_a_disk_that_fills_during_a_run_costs_no_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulation, asked = simulate(tmp_path), []

    def full_once(descriptor: int, offset: int, size: int) -> None:
        asked.append(size)
        if len(asked) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full_once)
    with pytest.raises(OSError, match="No space left"):
        simulation.drive()
    assert outcomes(simulation) == [(0, 0, "completed", 3)]
    simulation.restart_aggregator()
    result = simulation.drive()
    assert outcomes(simulation) == [(round_, 0, "completed", 3) for round_ in range(3)]
    assert [row.attempts for row in result_of(result).epsilon] == [3, 3, 3]
    assert len(asked) == 4 and min(asked) > 3 * 4 * simulation.run.manifest.dimension


def test_a_concluded_run_only_says_so_again(tmp_path: Path) -> None:
    simulation = simulate(tmp_path)
    result = simulation.drive()
    simulation.restart_aggregator()
    for node in simulation.nodes.values():
        node.seen.clear()
    assert simulation.drive() == result
    assert all([r.type for r in node.seen] == ["finish"] for node in simulation.nodes.values())


def test_checkpoints_do_not_pile_up(tmp_path: Path) -> None:
    simulation = simulate(tmp_path, rounds=5, max_attempts_total=5)
    simulation.drive()
    kept = list((tmp_path / "checkpoints").iterdir())
    assert len(kept) == 2
    last = simulation.receipts()[-1].model_after
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    assert last in [checkpoints.load(path.stem).model_hash for path in kept]


@pytest.mark.soak(sample=30, full=100)
def test_memory_stays_flat_over_rounds(tmp_path: Path, size: int) -> None:
    simulation = simulate(tmp_path, rounds=size, max_attempts_total=size, dimension=100_000)
    sizes: list[int] = []

    def measures(node: SimNode, request: wire.Request, answer: Answer) -> Answer:
        for other in simulation.nodes.values():
            other.seen.clear()
        sizes.append(tracemalloc.get_traced_memory()[0])
        return answer

    for round_ in (10, size - 1):
        simulation.order[0].faults["train", round_, 0] = measures
    tracemalloc.start()
    try:
        body = result_of(simulation.drive())
    finally:
        tracemalloc.stop()
    assert body.status == "completed"
    assert abs(sizes[1] - sizes[0]) < 100_000  # bytes; one vector is 400,000
