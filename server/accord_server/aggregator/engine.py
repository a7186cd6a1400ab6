"""The round engine: drives one run from where its journal ends to its result.

Guarantees: a model moves only by a sum over a whole cohort; an attempt that loses a node, meets a
refusal or a bad upload, or outlasts its deadline is aborted at once, and nothing of it is used; its
number is on disk before it is sent and never sent again; every attempt ends in one signed receipt.
After a crash, or `Interrupted`, a new engine over the same journal goes on with the last completed
round's model, to the byte.

It talks to a `Transport` and to the disk, never to the registry: what that must learn lies in the
journal. It imports neither flwr nor torch.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import structlog
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from accord_common import wire
from accord_common.chain import VerifiedRun
from accord_common.envelope import Envelope
from accord_common.errors import AccordError, VerificationError
from accord_common.identity import SigningKey
from accord_server.aggregator.checkpoints import Checkpoint, Checkpoints, Vector
from accord_server.aggregator.chronicle import Chronicle, Completion
from accord_server.aggregator.conclusion import Ending
from accord_server.aggregator.control import Control, Stopped
from accord_server.aggregator.journal import Journal
from accord_server.aggregator.members import POLL_S, Members
from accord_server.aggregator.optimizer import Optimizer, mean_factor
from accord_server.aggregator.secagg import Attempt
from accord_server.aggregator.transport import Incoming, Lost, Outgoing, Transport

FINISH_S = 5.0  # how long nodes may take to say that they know the run is over
STOP_KNOWN_S = 5.0  # nodes may learn of a stop before this process does
STOPPED = "[run-stopped]"
LOST_KEY = "no-mask-key"  # the node restarted after it advertised: it may come again at once

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RunKeys:
    """The private halves of the offer that the manifest names."""

    envelope: X25519PrivateKey
    receipt: SigningKey


class _Failed(Exception):
    """The run cannot go on: code for programs, cause for people."""

    def __init__(self, code: str, cause: str) -> None:
        super().__init__(cause)
        self.code = code
        self.cause = cause


class _Aborted(Exception):
    """The attempt cannot go on: who is lost, and why."""

    def __init__(self, lost: dict[str, str]) -> None:
        super().__init__(str(lost))
        self.lost = lost


class Engine:
    """One run.

    Args:
        run: the verified manifest and what it names.
        keys: private keys of the offer.
        transport: the way to the roster.
        journal: the run's journal; decides where to go on.
        checkpoints: the run's models.
        initial: the bytes of the manifest's initial model.
        control: set by other threads to end the run.
        clock: seconds; differences count.
    """

    def __init__(
        self,
        run: VerifiedRun,
        keys: RunKeys,
        transport: Transport,
        journal: Journal,
        checkpoints: Checkpoints,
        *,
        initial: bytes,
        control: Control,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._run = run
        self._keys = keys
        self._transport = transport
        self._checkpoints = checkpoints
        self._clock = clock
        self._control = control
        self._chronicle = Chronicle(run, keys.receipt, journal)
        self._history = self._chronicle.history
        self._members = Members(run, transport, control, clock)
        self._model, self._optimizer = self._resume(initial)
        self._busy: dict[str, float] = {}
        self._folding_s = 0.0

    def run(self) -> Envelope:
        """Drive the run to its end and return the signed result, which is in the journal too.

        Raises:
            Interrupted: the process must end; nothing is lost.
        """
        history = self._history
        if history.result is None:
            ending = self._rounds()
            self._chronicle.abort({}, ())
            result = self._chronicle.conclude(ending)
            log.info(
                "run-ended",
                run=self._run.manifest.id,
                status=ending.status,
                code=ending.code,
                cause=ending.cause,
            )
        else:
            result = history.result
        self._finish(result)
        return result

    def _resume(self, initial: bytes) -> tuple[Vector, Optimizer]:
        manifest, history = self._run.manifest, self._history
        if history.checkpoint is None:
            found = Checkpoint(np.frombuffer(initial, "<f4"), {})
            optimizer = Optimizer(manifest.server, manifest.dimension)
        else:
            found = self._checkpoints.load(history.checkpoint)
            optimizer = Optimizer.resume(manifest.server, manifest.dimension, found.state)
        model = found.model.astype(np.float32)
        if model.shape != (manifest.dimension,) or _sha256(model) != history.model:
            raise VerificationError("wrong-model", f"the stored model is not {history.model[:16]}")
        return model, optimizer

    def _rounds(self) -> Ending:
        manifest = self._run.manifest
        try:
            self._chronicle.abort({}, ())  # an attempt that a crash cut off
            if self._history.opened:
                self._chronicle.note(
                    "warning", f"the aggregator is back; {self._history.round} rounds are complete"
                )
            known: dict[str, Envelope] = {}
            while self._history.round < manifest.rounds:
                known = self._attempt(known)
        except Stopped as stop:
            return Ending("stopped", "stop-requested", str(stop))
        except _Failed as failure:
            return Ending("failed", failure.code, failure.cause)
        return Ending("completed", "", "")

    def _attempt(self, known: dict[str, Envelope]) -> dict[str, Envelope]:
        """Try the current round once; return what nodes advertised for the next one."""
        history, manifest, began = self._history, self._run.manifest, self._clock()
        if history.opened >= manifest.max_attempts_total:
            raise _Failed(
                "attempts-exhausted", f"all {manifest.max_attempts_total} attempts are used up"
            )
        attempt = Attempt(
            manifest,
            self._run.manifest_hash,
            {party: item.node_key for party, item in self._run.delegations.items()},
            self._keys.envelope,
            history.round,
            history.attempt,
            history.model,
        )
        self._members.gather(attempt, known, self._busy)
        cohort = self._close(attempt)
        gathered = self._clock()
        self._chronicle.open(attempt.cohort)
        self._folding_s = 0.0
        try:
            known = self._exchange(attempt, cohort)
        except _Aborted as abort:
            self._abort(attempt, abort.lost)
            return {}
        exchanged = self._clock()
        self._busy = {}
        step_s, store_s = self._advance(attempt)
        log.info(
            "round",
            round=attempt.round,
            attempt=attempt.attempt,
            cohort=len(cohort),
            gather_s=round(gathered - began, 4),
            wait_s=round(exchanged - gathered - self._folding_s, 4),
            fold_s=round(self._folding_s, 4),
            step_s=round(step_s, 4),
            store_s=round(store_s, 4),
            seconds=round(self._clock() - began, 4),
        )
        return known

    def _close(self, attempt: Attempt) -> list[Envelope]:
        smallest, roster = self._members.smallest(), self._run.manifest.roster
        here = len(attempt.advertised)
        if here < smallest:
            self._await_stop()
            missing = [site.party for site in roster if site.party not in attempt.advertised]
            raise _Failed(
                "too-few-nodes",
                f"round {attempt.round + 1} has {here} of {len(roster)} nodes and needs "
                f"{smallest}. Missing: " + "; ".join(map(self._members.reason, missing)),
            )
        return attempt.close_cohort()

    def _await_stop(self) -> None:
        """Where nodes refuse because the run is to stop, that is how it ends: `Stopped`."""
        if any(STOPPED in why for why in self._members.refused.values()):
            until = self._clock() + STOP_KNOWN_S
            while self._members.receive(until) is not None:
                pass

    def _exchange(self, attempt: Attempt, cohort: list[Envelope]) -> dict[str, Envelope]:
        """Send the model, fold every upload in; return the advertisements that came along."""
        header = wire.encode(
            wire.Train(
                manifest=attempt.manifest_hash,
                round=attempt.round,
                attempt=attempt.attempt,
                cohort=cohort,
                model=attempt.model,
            )
        )
        bulk = _chunks(self._model)
        update_s = self._run.manifest.deadlines.update_s
        self._transport.send([Outgoing(party, header, bulk) for party in attempt.cohort])
        del bulk  # the transport keeps it as long as anybody needs it
        deadline = self._clock() + update_s
        self._busy = dict.fromkeys(attempt.cohort, deadline)
        following: dict[str, Envelope] = {}
        while attempt.missing:
            match self._members.receive(deadline):
                case None:
                    raise _Aborted(
                        dict.fromkeys(sorted(attempt.missing), f"no update within {update_s} s")
                    )
                case Lost(party, reason):
                    following.pop(party, None)
                    if party in attempt.missing:
                        raise _Aborted({party: reason})
                case Incoming(party, answer, chunks) if party in attempt.missing:
                    began = self._clock()
                    advertisement = self._take(attempt, party, answer, chunks)
                    if advertisement is not None:
                        following[party] = advertisement
                    self._folding_s += self._clock() - began
        return following

    def _take(
        self, attempt: Attempt, party: str, answer: bytes, chunks: Sequence[bytes]
    ) -> Envelope | None:
        del self._busy[party]
        try:
            reply = wire.decode_reply(answer)
            if isinstance(reply, wire.UpdateReply):
                attempt.fold(party, reply.upload, chunks)
                return reply.next
        except AccordError as error:
            self._members.refuse(party, error.code, error.message)
            raise _Aborted({party: f"{error.message} [{error.code}]"}) from error
        if not isinstance(reply, wire.Refusal):
            reply = wire.Refusal(code="unexpected-message", message=f"answered {reply.type}")
        if reply.code != LOST_KEY:
            self._members.refuse(party, reply.code, reply.message)
        raise _Aborted({party: f"{reply.message} [{reply.code}]"})

    def _advance(self, attempt: Attempt) -> tuple[float, float]:
        """Step, checkpoint, sign; return the seconds of computing and of storing."""
        began = self._clock()
        words = attempt.total()
        total = _sha256(words)
        self._optimizer.step(self._model, words, mean_factor(self._run.manifest, attempt.cohort))
        if not np.isfinite(self._model).all():
            raise _Failed(
                "model-not-finite", f"round {attempt.round + 1} leaves a model that is not finite"
            )
        model = _sha256(self._model)
        stepped = self._clock()
        checkpoint = self._checkpoints.save(self._model, self._optimizer.state)
        self._chronicle.complete(attempt.uploads, Completion(total, model, checkpoint))
        self._checkpoints.prune()
        return stepped - began, self._clock() - stepped

    def _abort(self, attempt: Attempt, lost: dict[str, str]) -> None:
        rejoin_s = self._run.manifest.deadlines.rejoin_s
        self._busy |= dict.fromkeys(lost, self._clock() + rejoin_s)
        self._chronicle.abort(attempt.uploads, tuple(lost))
        why = "; ".join(f"{self._members.name(party)}: {reason}" for party, reason in lost.items())
        self._chronicle.note(
            "warning", f"round {attempt.round + 1}, attempt {attempt.attempt + 1} aborted: {why}"
        )
        log.warning("attempt-aborted", round=attempt.round, attempt=attempt.attempt, why=why)

    def _finish(self, result: Envelope) -> None:
        """Tell every node, and wait for those that are free to listen, at most `FINISH_S`."""
        header = wire.encode(wire.Finish(manifest=self._run.manifest_hash, result=result))
        connected = sorted(self._transport.connected())
        self._transport.send([Outgoing(party, header) for party in connected])
        waiting = set(connected) - self._busy.keys()
        until = self._clock() + FINISH_S
        while waiting and not self._control.interrupted and (left := until - self._clock()) > 0:
            event = self._transport.receive(min(left, POLL_S))
            if isinstance(event, Incoming | Lost):
                waiting.discard(event.party)


def _chunks(model: Vector) -> tuple[bytes, ...]:
    view = model.astype("<f4", copy=False).data.cast("B")
    size = wire.MODEL_CHUNK_BYTES
    return tuple(bytes(view[start : start + size]) for start in range(0, len(view), size))


def _sha256(vector: NDArray[np.float32] | NDArray[np.uint32]) -> str:
    """Hash a vector's little-endian bytes."""
    little = vector.astype(vector.dtype.newbyteorder("<"), copy=False)
    return hashlib.sha256(little.data.cast("B")).hexdigest()
