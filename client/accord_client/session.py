"""One accepted run at one node: what it answers to each of the aggregator's messages; no network.

Guarantees, for each attempt, in this order: the run is still allowed (agreement, delegations, no
stop); round and attempt come after every one served before, also before a restart; the model is the
one announced; the cohort verifies; the installed code and the table are those that were checked.
Only then is the attempt marked as begun and charged to the ledger, on disk, and the table opened,
trained on; then the run is still allowed, or nothing is masked; then the update is quantised and
masked. What the later stages need, or have decided, is on disk, sealed, before the answer that
rests on it is returned (`rounds`), and a restarted node answers for the attempt that it uploaded
in; so is an answer's outbox line; the receipt is queued with it. A run that is over stays over: its
end is on disk before its round is forgotten, and it has no session again.

What leaves is an answer or a refusal. A refusal has a stable code; its message leaves only where it
speaks of what the aggregator sent or all parties signed. What data, budget, and whatever failed
after the table was opened, say is in no log, and leaves as `refusals` has it. An attempt that the
budget, disk, memory or working hours do not cover is refused at R0, before any site is charged for
it; the charge, which decides, is refused too. What was refused, and why, is in the node's own state
for its steward.

Not covered: the connection (`node`), and posting receipts (`delivery`).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

import structlog

from accord_client.capacity import Capacity
from accord_client.charging import Charging
from accord_client.contribution import Contribution, open_model
from accord_client.limits import Limits
from accord_client.outbox import Kind, Place
from accord_client.refusals import NODE_ERROR, told
from accord_client.returning import HeldBack
from accord_client.secagg import NodeSecAgg
from accord_client.standing import Standing
from accord_client.stores import Stores
from accord_client.witness import RunWitness
from accord_common import wire
from accord_common.api.schemas import FINAL_STATES
from accord_common.canonical import sha256_hex
from accord_common.enrolment import DELEGATION, Delegation
from accord_common.envelope import Envelope
from accord_common.errors import (
    AccordError,
    ConflictError,
    DamageError,
    DataError,
    PolicyError,
    ProtocolError,
    VerificationError,
)
from accord_common.fields import now as system_clock
from accord_common.manifest import RunManifest
from accord_common.privacy.events import LedgerEntry
from accord_common.receipts import RESULT, RunResult

log = structlog.get_logger(__name__)

Bulk = Sequence[bytes]
_NO_LIMITS = Limits()
_Small = wire.Advertise | wire.Share | wire.Confirm | wire.Unmask

_KINDS: dict[type[wire.Reply], Kind] = {
    wire.AdvertisementReply: "advertisement",
    wire.SharesReply: "shares",
    wire.UpdateReply: "upload",
    wire.ConfirmationReply: "confirmation",
    wire.UnmaskingReply: "unmasking",
    wire.Refusal: "refusal",
    wire.Done: "acknowledgement",
}


@dataclass(frozen=True, slots=True)
class _Answer:
    reply: wire.Reply
    bulk: list[bytes]
    place: Place


class _Concealed(Exception):
    """Carries an error whose message must not leave the node."""

    def __init__(self, error: AccordError) -> None:
        super().__init__(error.code)
        self.error = error


@contextmanager
def _concealing() -> Iterator[None]:
    try:
        yield
    except AccordError as error:
        raise _Concealed(error) from error


class Session:
    """See the module. Calls come from one thread; `stop` from any.

    Args:
        stores: the node's open folder.
        run_id: a run that this node accepted and that is not over.
        check_registry: raises where the registry has been out of reach for too long.
        shown: is called when another node's head of the log waits to be joined to this one's.
        clock: the node's clock.
        limits: where to train, and what the attempt may take.

    Attributes:
        over: the aggregator said so.
        witness: what the run's nodes show each other of the log.
        held_back: what refusals so far only time mends.
    """

    def __init__(
        self,
        stores: Stores,
        run_id: str,
        *,
        check_registry: Callable[[], None] = lambda: None,
        shown: Callable[[], None] = lambda: None,
        clock: Callable[[], datetime] = system_clock,
        limits: Limits = _NO_LIMITS,
    ) -> None:
        run = stores.state.run(run_id)
        if run is None or run.decision != "accept":
            raise ConflictError("run-not-accepted", f"run {run_id} was not accepted here")
        if run.state in FINAL_STATES:
            raise ConflictError("run-over", f"run {run_id} is {run.state}")
        self._stores = stores
        self._clock = clock
        self.manifest_hash = run.manifest
        self.manifest = RunManifest.from_bytes(stores.state.record(run.manifest).payload)
        self._site = self.manifest.site(stores.party)
        self._delegations = {
            site.party: _delegation(stores, site.delegation) for site in self.manifest.roster
        }
        self._capacity = Capacity(stores.home.path, limits)
        self._contribution = Contribution(stores, self.manifest, self._site, self._capacity)
        self.witness = RunWitness.of(stores, self.manifest.agreement, shown)
        self._charging = Charging(stores, self.manifest, self.manifest_hash, self.witness, clock)
        self.held_back = HeldBack(self._capacity, self._contribution, clock)
        self._secagg = NodeSecAgg(
            self.manifest,
            self.manifest_hash,
            stores.party,
            stores.key,
            {party: delegation.node_key for party, delegation in self._delegations.items()},
        )
        self._kept = stores.rounds.kept(run_id)
        if self._kept is not None:
            self._secagg.load(self._kept)
        self._held = self._secagg.held
        self._standing = Standing(
            stores,
            self.manifest,
            self._delegations,
            check_registry,
            self.witness,
            clock,
            charged=stores.ledger.count(run=self.manifest_hash),
        )
        self.over = False

    def stop(self, reason: str) -> None:
        """Refuse every further attempt."""
        self._standing.stop(reason)

    def answer(self, header: bytes, bulk: Bulk) -> tuple[bytes, tuple[bytes, ...]]:
        """Answer one message; raises only where the outbox takes no line: then nothing leaves.

        Raises:
            ConflictError: `outbox-unwritable`.
            DamageError: `outbox-broken`.
        """
        place = Place(self.manifest.id)
        try:
            request = wire.decode_request(header)
            if not isinstance(request, wire.Finish):
                place = Place(self.manifest.id, request.round, request.attempt)
            log.debug(
                "asked",
                run=self.manifest.id,
                type=request.type,
                round=place.round,
                attempt=place.attempt,
            )
            answer = self._handle(request, bulk, place)
        except _Concealed as hidden:
            answer = self._refuse(hidden.error, place, concealed=True)
        except AccordError as error:
            concealed = isinstance(error, DataError | ConflictError | DamageError)
            answer = self._refuse(error, place, concealed=concealed)
        except Exception as error:  # no traceback and no message of a library's leaves the node
            log.exception(NODE_ERROR, run=self.manifest.id)
            answer = self._refuse(AccordError(NODE_ERROR, str(error)), place, concealed=True)
        return self._release(answer), tuple(answer.bulk)

    def _handle(self, request: wire.Request, bulk: Bulk, place: Place) -> _Answer:
        if request.manifest != self.manifest_hash:
            raise ProtocolError("wrong-manifest", f"this is run {self.manifest_hash[:16]}")
        if isinstance(request, wire.Finish):
            return self._finish(request.result, place)
        if isinstance(request, wire.Train):
            self._standing.check()
            self._standing.check_next(request.round, request.attempt)
            return self._train(request, bulk, place)
        if bulk:
            raise ProtocolError("unexpected-bulk", f"{request.type} carries {len(bulk)} chunks")
        self._standing.check()
        reply = self._exchange(request)
        self._remember()
        return _Answer(reply, [], place)

    def _exchange(self, request: _Small) -> wire.Reply:
        """R0, R1, R3 and R4: what has nothing to do with the table."""
        round_, attempt = request.round, request.attempt
        match request:
            case wire.Advertise():
                self._standing.check_next(round_, attempt)
                self._check_can(round_, attempt)
                keys = self._secagg.advertise(round_, attempt, self.witness.carried())
                return wire.AdvertisementReply(envelope=keys)
            case wire.Share():
                self._standing.check_next(round_, attempt)
                shares = self._secagg.share(round_, attempt, request.cohort)
                self.witness.shown(request.cohort)
                return wire.SharesReply(envelope=shares)
            case wire.Confirm():
                envelope = self._secagg.confirm(round_, attempt, request.uploads)
                return wire.ConfirmationReply(envelope=envelope, shares=self._ahead(request.next))
            case wire.Unmask():
                return wire.UnmaskingReply(
                    envelope=self._secagg.unmask(round_, attempt, request.confirmations)
                )

    def _ahead(self, request: wire.Share | None) -> Envelope | None:
        """R1 of the next round, where it rode along and this node can take part in it."""
        if request is None:
            return None
        try:
            if request.manifest != self.manifest_hash:
                raise ProtocolError("wrong-manifest", f"this is run {self.manifest_hash[:16]}")
            self._standing.check_next(request.round, request.attempt)
            shares = self._secagg.share(request.round, request.attempt, request.cohort)
            self.witness.shown(request.cohort)
            return shares
        except AccordError as error:
            log.warning("not-shared", run=self.manifest.id, code=error.code, detail=error.message)
            return None

    def _remember(self) -> None:
        """Have on disk what was decided, and shares that are held no more gone from there."""
        data = self._secagg.dump()
        if data is not None and data != self._kept:
            self._stores.rounds.keep(self.manifest.id, data, replaces=self._kept)
            self._kept = data
        held = self._secagg.held
        if self._held not in (None, held):
            self._stores.rounds.flush()
        self._held = held

    def _finish(self, result: Envelope, place: Place) -> _Answer:
        if result.kind != RESULT:
            raise ProtocolError("wrong-kind", f"a {result.kind} is no {RESULT}")
        result.verify([self.manifest.aggregator.receipt_key])
        record = RunResult.from_bytes(result.payload)
        if record.manifest != self.manifest_hash:
            raise ProtocolError("wrong-manifest", "the result is another run's")
        self._stores.state.follow(self.manifest.id, record.status, self._clock())
        self.over = True
        self._stores.rounds.erase(self.manifest.id)
        log.info("run-over", run=self.manifest.id, status=record.status, rounds=record.rounds)
        return _Answer(wire.Done(), [], place)

    def _train(self, request: wire.Train, bulk: Bulk, place: Place) -> _Answer:
        model = open_model(self.manifest, request.round, request.model, bulk)
        sharers = self._secagg.open_sharers(
            request.round,
            request.attempt,
            request.cohort,
            request.sharers,
            request.sealed,
            request.model,
        )
        with _concealing():
            self._contribution.ready()
        entry = self._charge(request.round, request.attempt)
        with _concealing():
            words = self._contribution.words(model)
        del model  # not needed to mask
        self._standing.check()  # training takes long: a stop or a withdrawal came meanwhile
        with _concealing():
            upload, chunks = self._secagg.mask(sharers, words)
            del words
            self._remember()
            size = sum(len(chunk) for chunk in chunks)
            self._charging.report(entry, model=request.model, upload=upload.hash, upload_bytes=size)
        following = request.round + 1
        last = following == self.manifest.rounds
        reply = wire.UpdateReply(upload=upload, next=None if last else self._keys_for(following))
        log.info("update-ready", run=self.manifest.id, round=request.round, attempt=request.attempt)
        return _Answer(reply, chunks, place)

    def _keys_for(self, round_: int) -> Envelope | wire.Refusal:
        """R0 of the next round, or why this node will not be in it."""
        try:
            self._check_can(round_, 0)
        except _Concealed as hidden:
            return self._told(hidden.error, round_, concealed=True)
        return self._secagg.advertise(round_, 0, self.witness.carried())

    def _check_can(self, round_: int, attempt: int) -> None:
        """Raise where an attempt, or its charge, would be refused now; nothing is written."""
        with _concealing():
            self._capacity.check_hours(self._clock())
            self._contribution.fits()
            self._charging.check(round_, attempt)

    def _charge(self, round_: int, attempt: int) -> LedgerEntry:
        """Write ahead: the attempt is begun and paid for before the table is opened."""
        self._stores.state.begin(self.manifest.id, round_, attempt)
        with _concealing():
            entry = self._charging.charge(round_, attempt)
        self._standing.charged += 1
        return entry

    def _refuse(self, error: AccordError, place: Place, *, concealed: bool) -> _Answer:
        return _Answer(self._told(error, place.round, concealed=concealed), [], place)

    def _told(self, error: AccordError, round_: int | None, *, concealed: bool) -> wire.Refusal:
        """Log an error, keep it for the steward, and say what of it may leave."""
        self.held_back.note(error)
        words = {} if concealed else {"detail": error.message}  # a row's may be in a concealed one
        log.warning("refused", run=self.manifest.id, code=error.code, **words)
        if round_ is not None and (concealed or isinstance(error, PolicyError)):
            try:
                self._stores.state.refuse(self.manifest.id, round_, error.code, error.message)
            except AccordError as failed:  # it must not keep the refusal from those who wait for it
                log.error("refusal-not-kept", code=failed.code, detail=failed.message)
        return told(error, concealed=concealed)

    def _release(self, answer: _Answer) -> bytes:
        """Write the outbox line, then hand the header over."""
        header = wire.encode(answer.reply)
        size = len(header) + sum(len(chunk) for chunk in answer.bulk)
        digest = sha256_hex(header)  # an update's header holds the signed root of its chunks
        kind = _KINDS[type(answer.reply)]
        try:
            self._stores.outbox.append(kind, "aggregator", digest, size, answer.place)
        except AccordError as error:
            self.held_back.note(error)
            raise
        return header


def _delegation(stores: Stores, record_hash: str) -> Delegation:
    envelope = stores.state.record(record_hash)
    if envelope.kind != DELEGATION:
        raise VerificationError("wrong-kind", f"a {envelope.kind} is no {DELEGATION}")
    return Delegation.from_bytes(envelope.payload)
