"""The round engine: drives one run from where its journal ends to its result.

Guarantees: a model moves only by the exact sum over a cohort of at least max(t, n_min) nodes; an
attempt goes on without the nodes that it loses, and is aborted as soon as too few remain: nothing
of it is used. Its number is on disk before it is sent and never sent again; every attempt ends in
one signed receipt. Shares that undo masks are asked for in one attempt of a round, ever: where they
do not suffice, the run fails. After a crash, or `Interrupted`, a new engine over the same journal
goes on with the last completed round's model, to the byte. The only vector in memory is the sum:
the model lies on the disk, is sent from there, and a round reads it and writes the next one block
by block.

It talks to a `Transport` and to the disk, never to the registry: what that must learn lies in the
journal. It imports neither flwr nor torch.
"""

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import structlog
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from accord_common import wire
from accord_common.bulk import Body, digest
from accord_common.chain import VerifiedRun
from accord_common.envelope import Envelope
from accord_common.errors import AccordError, FormatError, VerificationError
from accord_common.identity import SigningKey
from accord_common.log.peers import FORKED
from accord_common.rings import Words
from accord_server.aggregator.checkpoints import MODEL, Checkpoints, Vector, space
from accord_server.aggregator.chronicle import Chronicle, Completion
from accord_server.aggregator.control import Control, Ending, Stopped
from accord_server.aggregator.exchanges import Exchanges
from accord_server.aggregator.following import Following
from accord_server.aggregator.journal import Journal, Unmasking
from accord_server.aggregator.members import POLL_S, Members
from accord_server.aggregator.optimizer import Optimizer, mean_factor
from accord_server.aggregator.progress import STAGES, Driven, Progress
from accord_server.aggregator.secagg import Attempt
from accord_server.aggregator.spool import Spool
from accord_server.aggregator.stages import Short
from accord_server.aggregator.transport import Incoming, Lost, Outgoing, Transport

FINISH_S = 5.0  # how long nodes may take to say that they know the run is over
STOP_KNOWN_S = 5.0  # nodes may learn of a stop before this process does
STOPPED = "run-stopped"

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


class Engine:
    """One run.

    Args:
        run: the verified manifest and what it names.
        keys: private keys of the offer.
        transport: the way to the roster.
        journal: the run's journal; decides where to go on.
        checkpoints: the run's models.
        initial: the manifest's initial model, float32, little-endian.
        control: set by other threads to end the run.
        clock: seconds; differences count.
        progress: told where the run stands.
        shown: is told each advertisement that verified; AccordError for a head that is none.
    """

    def __init__(
        self,
        run: VerifiedRun,
        keys: RunKeys,
        transport: Transport,
        journal: Journal,
        checkpoints: Checkpoints,
        *,
        initial: Body,
        control: Control,
        clock: Callable[[], float] = time.monotonic,
        progress: Progress | None = None,
        shown: Callable[[Envelope], None] = lambda envelope: None,
    ) -> None:
        self._run = run
        self._keys = keys
        self._transport = transport
        self._checkpoints = checkpoints
        self._spool = Spool(checkpoints.folder)
        self._clock = clock
        self._control = control
        self._chronicle = Chronicle(run, keys.receipt, journal)
        self._history = self._chronicle.history
        self._members = Members(run, transport, control, clock, shown=shown)
        if progress is not None:
            self._members.progress = progress
        self._progress = self._members.progress
        self._optimizer = Optimizer(run.manifest.server)
        self._vectors = self._resume(initial)
        self._busy: dict[str, float] = {}

    def run(self) -> Envelope:
        """Drive the run to its end and return the signed result, which is in the journal too.

        Raises:
            Interrupted: the process must end; nothing is lost.
        """
        manifest, agreement = self._run.manifest, self._run.agreement
        names = {site.party: agreement.party(site.party).name for site in manifest.roster}
        deadlines = manifest.deadlines
        allowed = dict.fromkeys(STAGES, float(deadlines.advertise_s + deadlines.rejoin_s))
        allowed["update"] = float(deadlines.update_s)
        driven = Driven(manifest.id, manifest.rounds, allowed, names, self._transport.connected)
        self._progress.begin(driven)
        try:
            return self._drive()
        finally:
            self._progress.end()

    def _drive(self) -> Envelope:
        history = self._history
        if history.result is None:
            ending = self._rounds()
            self._chronicle.abort({}, (), self._members.refusals())
            result = self._chronicle.conclude(ending, self._members.refusals())
            log.info(
                "run-ended",
                run=self._run.manifest.id,
                status=ending.status,
                code=ending.code,
                cause=ending.cause,
            )
        else:
            result = history.result
        self._spool.clear()
        self._finish(result)
        return result

    def _resume(self, initial: Body) -> Mapping[str, Body]:
        """The model to go on from, and the optimiser's state beside it."""
        history, vectors = self._history, {MODEL: initial}
        if history.checkpoint is not None:
            found = self._checkpoints.load(history.checkpoint)
            if tuple(found.vectors) != self._optimizer.names:
                raise FormatError("bad-checkpoint", f"no state of {self._optimizer.settings.name}")
            vectors = dict(found.vectors)
        if digest(vectors[MODEL]) != history.model:
            raise VerificationError("wrong-model", f"the stored model is not {history.model[:16]}")
        if vectors[MODEL].size != 4 * self._run.manifest.dimension:
            raise VerificationError("wrong-model", f"the model has {vectors[MODEL].size} bytes")
        return vectors

    def _rounds(self) -> Ending:
        manifest = self._run.manifest
        try:
            if self._history.opened:
                self._chronicle.note(
                    "warning", f"the aggregator is back; {self._history.round} rounds are complete"
                )
            if self._history.unmasking is not None:
                self._complete(self._history.unmasking)
            self._chronicle.abort({}, (), {})  # an attempt that a crash cut off
            prepared: Attempt | None = None
            while self._history.round < manifest.rounds:
                prepared = self._attempt(prepared)
        except Stopped as stop:
            return stop.ending
        except _Failed as failure:
            return Ending("failed", failure.code, failure.cause)
        return Ending("completed", "", "")

    def _attempt(self, prepared: Attempt | None) -> Attempt | None:
        """Try the current round once; return what has been prepared of the next one."""
        manifest, began = self._run.manifest, self._clock()
        if self._history.opened >= manifest.max_attempts_total:
            raise _Failed(
                "attempts-exhausted", f"all {manifest.max_attempts_total} attempts are used up"
            )
        attempt = prepared or self._prepare()
        attempt.model = self._history.model
        gathered = self._clock()
        exchanges = Exchanges(self._members, attempt)
        last = attempt.round + 1 == manifest.rounds
        following = Following(self._members, None if last else self._new(attempt.round + 1, 0))
        self._checkpoints.require_space(space(manifest))  # before a site is charged
        self._control.check()  # likewise: the lease may be over
        self._chronicle.open(attempt.close_sharers())
        try:
            exchanges.update(self._vectors[MODEL], following)
            updated = self._clock()
            spooled: list[str] = []
            exchanges.confirm(following, lambda: spooled.append(self._spool.write(attempt)))
        except Short as short:
            self._busy = exchanges.busy
            self._abort(attempt, short.lost)
            return None
        confirmed = self._clock()
        self._chronicle.unmask(*spooled)
        self._unmask(exchanges, following)
        unmasked = self._clock()
        self._busy = exchanges.busy
        self._progress.at(attempt.round, attempt.attempt, "step")
        step_s = self._advance(attempt, exchanges.lost)
        self._progress.completed(self._clock() - began)
        log.info(
            "round",
            round=attempt.round,
            attempt=attempt.attempt,
            cohort=len(attempt.uploads),
            gather_s=round(gathered - began, 4),
            update_s=round(updated - gathered - exchanges.folding_s, 4),
            fold_s=round(exchanges.folding_s, 4),
            confirm_s=round(confirmed - updated, 4),
            unmask_s=round(unmasked - confirmed, 4),
            step_s=round(step_s, 4),
            seconds=round(self._clock() - began, 4),
        )
        return following.ready()

    def _complete(self, unmasking: Unmasking) -> None:
        """End a round that a crash cut off while it was unmasked: ask the same again."""
        attempt = self._new(unmasking.round, unmasking.attempt)
        following = Following(self._members, None)
        try:
            self._spool.read(unmasking.sum, attempt)
            exchanges = Exchanges(self._members, attempt)
            exchanges.confirm(following)
        except Short as short:
            raise self._closed(attempt, short.lost) from short
        except AccordError as error:
            raise _Failed(error.code, f"round {attempt.round + 1}: {error.message}") from error
        self._unmask(exchanges, following)
        self._busy = exchanges.busy
        self._advance(attempt, exchanges.lost)

    def _closed(self, attempt: Attempt, lost: dict[str, str]) -> _Failed:
        """A round of which some masks may have been released, and not enough."""
        self._await_stop()
        self._chronicle.abort(attempt.uploads, tuple(lost), self._members.refusals())
        return _Failed(
            "too-few-shares",
            f"round {attempt.round + 1} cannot be unmasked, nor tried again, since its masks may "
            f"have been released in part. Missing: {self._describe(lost)}",
        )

    def _new(self, round_: int, number: int) -> Attempt:
        return Attempt(
            self._run.manifest,
            self._run.manifest_hash,
            {party: item.node_key for party, item in self._run.delegations.items()},
            self._keys.envelope,
            round_,
            number,
            self._history.model,
        )

    def _prepare(self) -> Attempt:
        """R0 and R1 of the current attempt in exchanges of their own.

        A node that is lost between the two is waited for like any other.
        """
        while True:
            attempt = self._new(self._history.round, self._history.attempt)
            self._members.gather(attempt, self._busy)
            self._require_enough(attempt)
            exchanges = Exchanges(self._members, attempt)
            try:
                exchanges.share()
            except Short as short:
                self._busy = exchanges.busy
                here = self._transport.connected()
                silent = {party: why for party, why in short.lost.items() if party in here}
                self._members.give_up(silent)
            else:
                self._busy = {}
                return attempt

    def _require_enough(self, attempt: Attempt) -> None:
        smallest, roster = self._members.smallest(), self._run.manifest.roster
        here = len(attempt.advertised)
        if here < smallest:
            self._await_stop()
            if FORKED in self._members.refusals().values():
                raise _Failed(FORKED, "nodes have found that the registry shows different logs")
            missing = [site.party for site in roster if site.party not in attempt.advertised]
            raise _Failed(
                "too-few-nodes",
                f"round {attempt.round + 1} has {here} of {len(roster)} nodes and needs "
                f"{smallest}. Missing: " + "; ".join(map(self._members.reason, missing)),
            )

    def _await_stop(self) -> None:
        """Where nodes refuse because the run is to stop, that is how it ends: `Stopped`."""
        if STOPPED in self._members.refusals().values():
            until = self._clock() + STOP_KNOWN_S
            while self._members.receive(until) is not None:
                pass

    def _unmask(self, exchanges: Exchanges, following: Following) -> None:
        """R4. Nodes answer it in one attempt of a round: where it fails, the run does."""
        attempt = exchanges.attempt
        try:
            exchanges.unmask(following)
            attempt.total()
        except Short as short:
            raise self._closed(attempt, short.lost) from short
        except AccordError as error:
            raise _Failed(error.code, f"round {attempt.round + 1}: {error.message}") from error

    def _advance(self, attempt: Attempt, lost: dict[str, str]) -> float:
        """Step, checkpoint, sign; return the seconds of stepping and storing."""
        began = self._clock()
        words = attempt.total()
        if digest(self._vectors[MODEL]) != self._history.model:
            raise _Failed("checkpoint-altered", "the disk or somebody changed the model in use")
        factor = mean_factor(self._run.manifest, tuple(attempt.uploads))
        blocks = self._optimizer.steps(self._vectors, words, factor)
        stored = self._checkpoints.save(
            self._optimizer.names, words.shape[0], map(self._finite, blocks)
        )
        stepped = self._clock()
        completion = Completion(_sha256(words), stored.model_hash, stored.name)
        without = [party for party in attempt.cohort if party not in attempt.uploads]
        refused = self._members.refusals()
        self._chronicle.complete(attempt.uploads, without, refused, completion)
        self._vectors = stored.vectors
        self._checkpoints.prune()
        self._spool.clear()
        if lost:
            self._chronicle.note(
                "warning", f"round {attempt.round + 1} went on without {self._describe(lost)}"
            )
        return stepped - began

    def _finite(self, block: dict[str, Vector]) -> dict[str, Vector]:
        """Let a block of the next model pass."""
        if not np.isfinite(block[MODEL]).all():
            raise _Failed(
                "model-not-finite",
                f"round {self._history.round + 1} leaves a model that is not finite",
            )
        return block

    def _abort(self, attempt: Attempt, lost: dict[str, str]) -> None:
        rejoin_s = self._run.manifest.deadlines.rejoin_s
        self._busy |= dict.fromkeys(lost, self._clock() + rejoin_s)
        self._chronicle.abort(attempt.uploads, tuple(lost), self._members.refusals())
        why = self._describe(lost)
        self._chronicle.note(
            "warning", f"round {attempt.round + 1}, attempt {attempt.attempt + 1} aborted: {why}"
        )
        self._progress.aborted()
        log.warning("attempt-aborted", round=attempt.round, attempt=attempt.attempt, why=why)

    def _describe(self, lost: dict[str, str]) -> str:
        refused = self._members.refused  # who was shut out is lost for that, not for silence
        return "; ".join(
            f"{self._members.name(party)}: {refused.get(party, why)}" for party, why in lost.items()
        )

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


def _sha256(words: Words) -> str:
    """Hash a sum's little-endian bytes."""
    little = words.astype(words.dtype.newbyteorder("<"), copy=False)
    return hashlib.sha256(little.data.cast("B")).hexdigest()
