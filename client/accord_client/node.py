"""The daemon: one warm process that answers runs; outbound connections only.

    watcher            registry's inbox, long poll -> agreements, withdrawals, decisions, runs
    courier            queue -> registry
    witness            heads that a run's nodes showed -> registry's proofs
    one thread a run   aggregator -> session -> aggregator

Guarantees: one daemon a folder; a run is served only under this node's own acceptance, and from
what this node keeps, so a restart needs no registry; a run that ends is left at once, one that is
stopped or loses its agreement gets no further answer; nor does any after `REGISTRY_GRACE_S`
without the registry. Before that first counts as heard, ledger and receipts are compared; runs are
served after that too, unless the registry takes longer than `_COMPARE_WITHIN_S` to answer.

Not covered: what is answered (`session`), and what is decided (`consent`).
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic

import structlog

from accord_client.bases import fetch_base
from accord_client.contact import (
    REGISTRY_GRACE_S,
    RegistryContact,
    endpoint_of,
    forget_trouble,
    note_trouble,
)
from accord_client.deciding import answer, consider
from accord_client.delivery import deliver
from accord_client.disk import has_room, is_unwritable
from accord_client.limits import Limits
from accord_client.link import FleetLink, Message
from accord_client.pauses import Pause
from accord_client.queueing import require_turn
from accord_client.reconciling import answered_elsewhere, behind, compare, compare_run
from accord_client.registry_sync import refresh
from accord_client.session import Session
from accord_client.state import SERVED_STATES
from accord_client.stores import Stores
from accord_client.witness import broken, follow
from accord_common.api.client import RegistryClient
from accord_common.api.schemas import FINAL_STATES, RunView
from accord_common.errors import (
    AccordError,
    ConflictError,
    FormatError,
    NotFoundError,
    TransportError,
    VerificationError,
)
from accord_common.expiry import Daily, Term
from accord_common.fields import now
from accord_common.trust import REFRESH_EVERY
from accord_common.trust import refresh as refresh_authorities

log = structlog.get_logger(__name__)


_NO_LIMITS = Limits()
_INBOX_WAIT_S = 30.0  # the longest poll the registry holds
_RECEIVE_WAIT_S = 15.0  # a link wakes by itself but where nothing comes: then it is asked why
_WITHDRAWALS_ANEW_S = 3600.0  # so long at most does one false sequence number hide them
_LOOP_ENDS_WITHIN_S = 0.2  # what a loop does is durable at every step; a long poll is not awaited
_COMPARE_WITHIN_S = 5.0  # a registry that says nothing holds up neither accepted runs nor an end
_UNFIT = frozenset({"wrong-size", "too-large"})  # of a base: fetching it again mends nothing
_LEAVE_WITHIN_S = 10.0  # a round of training in flight is not waited for any longer


@dataclass(slots=True)
class _Served:
    session: Session
    link: FleetLink
    thread: threading.Thread
    left: bool = False


@dataclass(slots=True)
class Node:
    """See the module.

    Args:
        stores: the node's open folder; the caller holds `lock.only_daemon`.
        registry: an authenticated client.
        grace_s: how long runs go on without the registry.
        limits: what its institution lets it use.
    """

    stores: Stores
    registry: RegistryClient
    grace_s: float = REGISTRY_GRACE_S
    limits: Limits = _NO_LIMITS
    changed: Callable[[], None] = lambda: None
    served: dict[str, _Served] = field(default_factory=dict)
    _unanswerable: dict[str, str] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)
    _queued: threading.Event = field(default_factory=threading.Event)
    _asked: threading.Event = field(default_factory=threading.Event)
    _resumed: threading.Event = field(default_factory=threading.Event)
    _compared: threading.Event = field(default_factory=threading.Event)
    _shown: threading.Event = field(default_factory=threading.Event)
    _expiry: Daily = field(default_factory=Daily)

    def run(self) -> None:
        """Serve until `stop`."""
        contact = RegistryContact(self.stores, self.grace_s)
        # Daemon threads: a long poll in flight must not hold up the end of the process.
        loops: list[tuple[str, Callable[[RegistryContact], None]]] = [
            ("watcher", self._watch),
            ("courier", self._carry),
            ("witness", self._join),
        ]
        threads = [
            threading.Thread(target=loop, args=(contact,), name=name, daemon=True)
            for name, loop in loops
        ]
        for thread in threads:
            thread.start()
        self._asked.wait(_COMPARE_WITHIN_S)
        self._resume(contact)
        self._resumed.set()
        self._stop.wait()
        for run_id in list(self.served):
            self._leave(run_id, "the node is shutting down")
        for waited in (self._queued, self._compared, self._shown):
            waited.set()
        self.registry.close()
        for thread in threads:
            thread.join(timeout=_LOOP_ENDS_WITHIN_S)

    def stop(self) -> None:
        """End `run`; safe in a signal handler and from any thread."""
        self._stop.set()
        self._asked.set()

    def _resume(self, contact: RegistryContact) -> None:
        """Serve what was accepted before this start."""
        if not self._compared.is_set():
            log.warning("ledger-not-compared", hint="The registry is asked until it answers.")
        for run in self.stores.state.runs():
            if run.state in FINAL_STATES:
                self.stores.rounds.erase(run.id)  # whoever recorded the end may have died then
            elif run.decision == "accept" and run.state in SERVED_STATES:
                try:
                    self._serve(run.id, contact)
                except AccordError as error:
                    log.error("run-not-resumed", run=run.id, code=error.code, detail=error.message)

    def _watch(self, contact: RegistryContact) -> None:
        cursor, wait_s, pause = 0, 0.0, Pause(self._stop)
        withdrawals, anew = 0, monotonic() + _WITHDRAWALS_ANEW_S
        authorities = monotonic()
        while not self._stop.is_set():
            try:
                inbox = self.registry.inbox(cursor, wait_s)
                self._compare()
                self._resumed.wait()
                self._heard(contact)
                if monotonic() >= anew:
                    withdrawals, anew = 0, monotonic() + _WITHDRAWALS_ANEW_S
                if monotonic() >= authorities:
                    refresh_authorities(self.stores.home.ca_path, self.registry, now())
                    authorities = monotonic() + REFRESH_EVERY.total_seconds()
                withdrawals = refresh(self.stores, self.registry, withdrawals)
                follow(self.stores, self.registry)
                for view in inbox.runs:
                    try:
                        self._attend(view, contact)
                    except TransportError:
                        raise
                    except Exception:  # one run's trouble is not the others'
                        log.exception("run-trouble", run=view.id)
                self._expiry.look(self._terms, now())
                self._follow_absent({view.id for view in inbox.runs})
                if self.stores.state.queued():
                    self._queued.set()
                cursor, wait_s = inbox.cursor, _INBOX_WAIT_S
                pause.reset()
            except Exception as error:  # the watcher outlives whatever one run or answer does
                self._asked.set()
                pause.after("watcher", error)

    def _carry(self, contact: RegistryContact) -> None:
        pause = Pause(self._stop)
        self._compared.wait()
        while not self._stop.is_set():
            try:
                if deliver(self.stores, self.registry):
                    self._heard(contact)
                pause.reset()
                self._queued.wait()
                self._queued.clear()
            except Exception as error:  # the queue outlives whatever the registry answers
                pause.after("courier", error)

    def _join(self, _: RegistryContact) -> None:
        """Join what others showed of the log to what this node has seen, off a round's path."""
        pause = Pause(self._stop)
        while not self._stop.is_set():
            self._shown.wait()
            self._shown.clear()
            try:
                for served in list(self.served.values()):
                    served.session.witness.peers.settle(self.registry.tree)
                pause.reset()
            except Exception as error:  # what was not joined is asked for again
                self._shown.set()
                pause.after("witness", error)

    def _terms(self) -> list[Term]:
        return self.stores.home.terms("accord-node renew")

    def _heard(self, contact: RegistryContact) -> None:
        if contact.heard():
            for served in list(self.served.values()):
                served.link.reconnect()  # to be asked again by an aggregator that went on

    def _compare(self) -> None:
        """Once: what a restored ledger has forgotten is known before anything rests on it."""
        if not self._compared.is_set():
            compare(self.stores, self.registry)
            self._compared.set()
            self._asked.set()

    def _attend(self, view: RunView, contact: RegistryContact) -> None:
        """Decide about a run, or follow one that was decided."""
        known = self.stores.state.run(view.id)
        if known is None or (known.decision == "ask" and view.state == "awaiting-consent"):
            if view.state == "awaiting-consent":
                self._decide(view)
            return
        if known.decision == "refuse":
            self._leave(view.id, known.reason)
        self.stores.state.follow(view.id, view.state, now())
        if FINAL_STATES & {view.state, known.state}:
            self._leave(view.id, f"the run is {view.state}")
            self.stores.rounds.erase(view.id)  # a final state is never left
        elif view.stop_requested is not None and view.id in self.served:
            self.served[view.id].session.stop("the coordinator asked that the run end")
        elif known.decision == "accept" and view.state in SERVED_STATES:
            if view.id not in self.served:
                compare_run(self.stores, self.registry, view)
            self._serve(view.id, contact)

    def _decide(self, view: RunView) -> None:
        if self._unanswerable.get(view.id) == view.manifest_hash:
            return
        if behind(self.stores) or broken(self.stores):  # no consent rests on either
            return
        if answered_elsewhere(self.stores, view):
            self._unanswerable[view.id] = view.manifest_hash
            log.error("answered-elsewhere", run=view.id, hint="Does a second copy of it run?")
            return
        try:
            considered = consider(self.stores, self.registry.record, view.manifest_hash, now())
        except TransportError:
            raise
        except AccordError as error:
            self._unanswerable[view.id] = view.manifest_hash
            log.warning("run-not-for-us", run=view.id, code=error.code, detail=error.message)
            return
        manifest, verdict = considered.facts.run, considered.verdict
        dataset = considered.dataset
        wait = dataset is None or dataset.policy == "ask"
        if verdict.decision == "accept" and wait:
            if self.stores.state.run(manifest.id) is None:
                name = dataset.name if dataset else considered.facts.site.dataset
                self.stores.state.ask(manifest.id, view.manifest_hash, manifest.title, name, now())
                log.info("steward-asked", run=manifest.id, title=manifest.title, dataset=name)
            return
        try:
            with self.stores.bases.held():
                if verdict.decision == "accept":
                    assert dataset is not None  # consent has seen to it
                    most = self.limits.most_runs
                    require_turn(self.stores, manifest.id, dataset.name, most)
                    fetch_base(self.stores, self.registry, manifest)
                answer(self.stores, considered, verdict, view.state, now())
        except (NotFoundError, VerificationError, FormatError) as error:  # undecided
            again = error.code not in _UNFIT
            if not again:
                self._unanswerable[view.id] = view.manifest_hash
            log.warning(
                "base-not-fetched",
                run=view.id,
                code=error.code,
                detail=error.message,
                fetched_again="at the next look" if again else "after a restart",
            )
            return
        except OSError as error:  # a full disk, say: as unfit until somebody acts
            self._unanswerable[view.id] = view.manifest_hash
            log.error("base-not-kept", run=view.id, detail=str(error), fetched_again="at a restart")
            return
        except ConflictError as error:  # not now; or the steward was faster, or is at it
            if dataset is not None and self.stores.state.run(manifest.id) is None:
                self.stores.state.ask(
                    manifest.id, view.manifest_hash, manifest.title, dataset.name, now()
                )
                log.info("run-waits", run=manifest.id, code=error.code, detail=error.message)
            return
        log.info("decided", run=manifest.id, decision=verdict.decision, code=verdict.code)
        self._queued.set()

    def _serve(self, run_id: str, contact: RegistryContact) -> None:
        if run_id in self.served or self._stop.is_set():
            return
        told = (contact.check, self._shown.set)
        session = Session(self.stores, run_id, *told, limits=self.limits)
        link = FleetLink(
            endpoint_of(session.manifest, self.stores.home), self.stores.home.flower_key()
        )
        thread = threading.Thread(
            target=self._answer, args=(session, link), name=f"run-{run_id[-6:]}", daemon=True
        )
        self.served[run_id] = _Served(session, link, thread)
        thread.start()
        self.changed()
        log.info("run-served", run=run_id, title=session.manifest.title)

    def _answer(self, session: Session, link: FleetLink) -> None:
        try:
            self._talk(session, link)
        finally:
            link.close()
            self.served.pop(session.manifest.id, None)

    def _talk(self, session: Session, link: FleetLink) -> None:
        said, run = "", session.manifest.id  # a trouble that lasts is told once
        heard = False
        while not (session.over or self._stop.is_set()):
            try:
                message = link.receive(_RECEIVE_WAIT_S)
                if message is None:
                    if session.may_return():
                        link.reconnect()
                    continue
                if not heard:
                    forget_trouble(self.stores, run)
                said, heard = "", True
                self._reply(session, link, message)
            except TransportError as error:
                if error.code == "link-closed":
                    return
                if error.code != said:
                    told = {"code": error.code, "detail": error.message, "hint": error.hint}
                    log.warning("aggregator-trouble", run=run, **told)
                    if not link.connected:
                        note_trouble(self.stores, run, error)
                        heard = False
                said = error.code
            except AccordError as error:  # the outbox takes no line: then nothing leaves
                log.error("not-answered", run=run, code=error.code, detail=error.message)
                if is_unwritable(error):
                    self._leave_for_room(link)
            except Exception:
                log.exception("session-error", run=session.manifest.id)

    def _reply(self, session: Session, link: FleetLink, message: Message) -> None:
        """In a frame of its own, so that nothing of an answer stays in memory after it."""
        header, bulk = session.answer(message.header, message.bulk)
        self._queued.set()
        link.reply(header, bulk)
        if session.starved:
            self._leave_for_room(link)

    def _leave_for_room(self, link: FleetLink) -> None:
        """Hang up, so that nobody waits for this node, until its disk takes something again."""
        folder = self.stores.home.path
        log.error("disk-full", folder=str(folder), hint="Make room; the node comes back by itself.")
        link.leave_until(lambda: has_room(folder))

    def _follow_absent(self, listed: set[str]) -> None:
        """The inbox lists runs that are not final: ask about those that it no longer lists."""
        for run in self.stores.state.runs():
            if run.state in FINAL_STATES or run.id in listed:
                continue
            with suppress(NotFoundError):
                self.stores.state.follow(run.id, self.registry.run(run.id).state, now())
            self._leave(run.id, "the registry says that it is over")
            known = self.stores.state.run(run.id)
            if known is not None and known.state in FINAL_STATES:
                self.stores.rounds.erase(run.id)

    def _leave(self, run_id: str, reason: str) -> None:
        """End a session; it counts as served, and no other starts, until its thread has ended."""
        served = self.served.get(run_id)
        if served is None or served.left:
            return
        served.left = True
        served.session.stop(reason)
        served.link.close()
        served.thread.join(timeout=_LEAVE_WITHIN_S)
        log.info("run-left", run=run_id, why=reason)
