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
from dataclasses import dataclass, field
from time import monotonic

import structlog

from accord_client.contact import (
    REGISTRY_GRACE_S,
    RegistryContact,
    endpoint_of,
)
from accord_client.delivery import deliver, recall, waits
from accord_client.limits import Limits
from accord_client.link import FleetLink
from accord_client.reconciling import compare, compare_run
from accord_client.registry_sync import refresh
from accord_client.serving import Serving
from accord_client.session import Session
from accord_client.state import SERVED_STATES, Run
from accord_client.stores import Stores
from accord_client.undecided import Undecided
from accord_client.witness import follow
from accord_common.api.client import RegistryClient
from accord_common.api.schemas import FINAL_STATES, RunView
from accord_common.errors import (
    AccordError,
    NotFoundError,
    TransportError,
)
from accord_common.expiry import Daily, Term
from accord_common.fields import now
from accord_common.pausing import Pause
from accord_common.protocols import require_protocol
from accord_common.trust import REFRESH_EVERY
from accord_common.trust import refresh as refresh_authorities

log = structlog.get_logger(__name__)


_NO_LIMITS = Limits()
_INBOX_WAIT_S = 30.0  # the longest poll the registry holds
_HALTS_ANEW_S = 3600.0  # so long at most does one false sequence number hide them
_FORGOTTEN = "run-forgotten"
_FIRST_PAUSE_S, _MOST_PAUSE_S = 0.2, 15.0
_LOOP_ENDS_WITHIN_S = 0.2  # what a loop does is durable at every step; a long poll is not awaited
_COMPARE_WITHIN_S = 5.0  # a registry that says nothing holds up neither accepted runs nor an end


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
    served: dict[str, Serving] = field(default_factory=dict)
    _undecided: Undecided = field(init=False)
    _stop: threading.Event = field(default_factory=threading.Event)
    _queued: threading.Event = field(default_factory=threading.Event)
    _asked: threading.Event = field(default_factory=threading.Event)
    _resumed: threading.Event = field(default_factory=threading.Event)
    _compared: threading.Event = field(default_factory=threading.Event)
    _shown: threading.Event = field(default_factory=threading.Event)
    _expiry: Daily = field(default_factory=Daily)

    def __post_init__(self) -> None:
        self._undecided = Undecided(self.stores, self.registry, self.limits, self._queued.set)

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
        cursor, wait_s, pause = 0, 0.0, self._pause()
        seen, anew = dict[str, int](), monotonic() + _HALTS_ANEW_S
        authorities, same_protocol = monotonic(), False
        while not self._stop.is_set():
            try:
                if not same_protocol:  # asked again after an outage: it may have been upgraded
                    require_protocol(self.registry.info())
                    same_protocol = True
                inbox = self.registry.inbox(cursor, wait_s)
                self._compare()
                self._resumed.wait()
                self._heard(contact)
                if monotonic() >= anew:
                    seen, anew = {}, monotonic() + _HALTS_ANEW_S
                if monotonic() >= authorities:
                    self._follow_authorities()
                    authorities = monotonic() + REFRESH_EVERY.total_seconds()
                seen = refresh(self.stores, self.registry, seen)
                follow(self.stores, self.registry)
                self._shown.set()  # a head that was shown before the first was seen
                for view in inbox.runs:
                    try:
                        self._attend(view, contact)
                    except TransportError:
                        raise
                    except Exception:  # one run's trouble is not the others'
                        log.exception("run-trouble", run=view.id)
                self._expiry.look(self._terms, now())
                self._follow_absent({view.id for view in inbox.runs})
                if waits(self.stores):
                    self._queued.set()
                cursor, wait_s = inbox.cursor, _INBOX_WAIT_S
                pause.reset()
            except Exception as error:  # the watcher outlives whatever one run or answer does
                seen = {}  # a registry that was restored counts from lower on
                same_protocol = False
                self._asked.set()
                pause.after("registry-trouble", error, loop="watcher")

    def _carry(self, contact: RegistryContact) -> None:
        pause = self._pause()
        self._compared.wait()
        while not self._stop.is_set():
            try:
                if deliver(self.stores, self.registry):
                    self._heard(contact)
                pause.reset()
                self._queued.wait()
                self._queued.clear()
            except Exception as error:  # the queue outlives whatever the registry answers
                pause.after("registry-trouble", error, loop="courier")

    def _follow_authorities(self) -> None:
        path = self.stores.home.ca_path
        refresh_authorities(path, self.registry, now())
        try:
            bundle = path.read_bytes()  # which another process of this node may have changed
        except OSError as error:
            log.warning("authorities-not-read", detail=str(error))
            return
        self.registry.trust(bundle)
        for served in list(self.served.values()):
            served.link.trust(bundle)

    def _join(self, _: RegistryContact) -> None:
        """Join what others showed of the log to what this node has seen, off a round's path."""
        pause = self._pause()
        while not self._stop.is_set():
            self._shown.wait()
            self._shown.clear()
            try:
                for served in list(self.served.values()):
                    served.session.witness.peers.settle(self.registry.tree)
                pause.reset()
            except Exception as error:  # what was not joined is asked for again
                self._shown.set()
                pause.after("log-not-joined", error, loop="witness")

    def _pause(self) -> Pause:
        return Pause(_FIRST_PAUSE_S, _MOST_PAUSE_S, self._stop)

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
                self._undecided.decide(view)
            return
        recall(self.stores, self.registry, view)
        if known.decision == "refuse":
            self._leave(view.id, known.reason)
        self.stores.state.follow(view.id, view.state, now())
        if FINAL_STATES & {view.state, known.state}:
            self._leave(view.id, f"the run is {view.state}")
            self.stores.rounds.erase(view.id)  # a final state is never left
        elif view.stop_requested is not None:  # who does not serve it yet does not begin
            if view.id in self.served:
                self.served[view.id].session.stop("the coordinator asked that the run end")
        elif known.decision == "accept" and view.state in SERVED_STATES:
            if view.id in self.served or compare_run(self.stores, self.registry, view):
                self._serve(view.id, contact)

    def _serve(self, run_id: str, contact: RegistryContact) -> None:
        if run_id in self.served or self._stop.is_set():
            return
        session = Session(
            self.stores,
            run_id,
            check_registry=contact.check,
            shown=self._shown.set,
            limits=self.limits,
        )
        link = FleetLink(
            endpoint_of(session.manifest, self.stores.home), self.stores.home.flower_key()
        )
        serving = Serving(self.stores, session, link, self._queued.set, lambda: self._ended(run_id))
        self.served[run_id] = serving
        serving.thread.start()
        self.changed()
        log.info("run-served", run=run_id, title=session.manifest.title)

    def _ended(self, run_id: str) -> None:
        self.served.pop(run_id, None)

    def _follow_absent(self, listed: set[str]) -> None:
        """The inbox lists runs that are not final: ask about those that it no longer lists."""
        for run in self.stores.state.runs():
            if run.state in FINAL_STATES or run.id in listed:
                continue
            try:
                self.stores.state.follow(run.id, self.registry.run(run.id).state, now())
            except NotFoundError:
                self._forget(run)
                continue
            self._leave(run.id, "the registry says that it is over")
            known = self.stores.state.run(run.id)
            if known is not None and known.state in FINAL_STATES:
                self.stores.rounds.erase(run.id)

    def _forget(self, run: Run) -> None:
        """A run that the registry does not know: it holds up no other, and cannot go on."""
        if run.code == _FORGOTTEN:
            return
        reason = (
            "the registry does not know this run any more; was it restored from an older backup? "
            "The coordinator must start it anew, as another run"
        )
        log.error(_FORGOTTEN, run=run.id, title=run.title, hint=reason)
        self.stores.state.disown(run.id, _FORGOTTEN, reason, now())
        self._leave(run.id, reason)
        self.stores.rounds.erase(run.id)

    def _leave(self, run_id: str, reason: str) -> None:
        served = self.served.get(run_id)
        if served is not None:
            served.leave(reason)
