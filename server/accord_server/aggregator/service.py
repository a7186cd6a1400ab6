"""The aggregator as a process: offers keys, waits for runs, drives one at a time.

Guarantees: one process a home; a run that a crash or SIGTERM cut off goes on when the process is
back; one unused offer is kept at the registry; a run that does not verify is refused with a signed
result that says why, and never reaches a node.

    watcher thread   inbox -> claims offers, publishes new ones, passes on stops
    lease thread     renews the active run's lease
    main thread      verifies a run, opens its transport, drives its engine
    courier threads  journal -> registry
"""

import queue
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from secrets import token_hex

import structlog

from accord_common.api.client import RegistryClient
from accord_common.api.schemas import FINAL_STATES, Inbox, RunView
from accord_common.backoff import Backoff, Told
from accord_common.chain import VerifiedRun
from accord_common.errors import AccordError, ConflictError, NotFoundError, TransportError
from accord_common.expiry import Daily, Term, of_certificates
from accord_common.fields import now
from accord_common.home import Home
from accord_common.manifest import RunManifest
from accord_common.protocols import require_protocol
from accord_common.sentences import Said, Sentence, say
from accord_common.trust import REFRESH_EVERY, refresh
from accord_server.aggregator.checkpoints import space
from accord_server.aggregator.conclusion import plain, warm_up
from accord_server.aggregator.control import Control, Ending, Interrupted, stop
from accord_server.aggregator.ending import end, end_unverified, only_the_end_is_left
from accord_server.aggregator.engine import Engine, RunKeys
from accord_server.aggregator.folders import Folders, RunFolder
from accord_server.aggregator.leasing import LEASE_S, Lease, holder_of
from accord_server.aggregator.offers import Endpoint, Offers
from accord_server.aggregator.progress import Progress
from accord_server.aggregator.registry_client import (
    FIRST_PAUSE_S,
    MAX_PAUSE_S,
    Watcher,
    barred,
    fetch,
    fetch_chain,
)
from accord_server.aggregator.transport import Transport
from accord_server.aggregator.witness import Witness
from accord_server.certificates import RENEW

log = structlog.get_logger(__name__)

OpenTransport = Callable[[VerifiedRun, Path], Transport]


@dataclass(slots=True)
class Service:
    """One aggregator.

    Args:
        home: its folder.
        client: its registry.
        endpoint: where nodes reach it; what its offers say.
        open_transport: makes the way to a run's roster; may keep files in the run's folder.
        reload_certificate: has the listener show the certificate that is in its file now.
        certificate: that file.
    """

    home: Home
    client: RegistryClient
    endpoint: Endpoint
    open_transport: OpenTransport
    reload_certificate: Callable[[], None] = lambda: None
    certificate: Path | None = None
    progress: Progress = field(default_factory=Progress)
    metrics_port: int | None = None
    _expiry: Daily = field(default_factory=Daily)
    _offers: Offers = field(init=False)
    _holder: str = field(init=False)
    _mail: queue.SimpleQueue[bool] = field(default_factory=queue.SimpleQueue)
    _runs: dict[str, RunView] = field(default_factory=dict)
    _keys: dict[str, RunKeys | None] = field(default_factory=dict)
    _folders: Folders = field(init=False)
    _over: set[str] = field(default_factory=set)
    _redelivered: set[str] = field(default_factory=set)
    _told: dict[str, str] = field(default_factory=dict)
    control: Control = field(default_factory=Control)
    _terminating: bool = False
    _offered: str = ""
    _refresh_at: datetime = field(default_factory=now)

    def __post_init__(self) -> None:
        self._offers = Offers(self.home)
        self._holder = holder_of(self.home)
        self._folders = Folders(self.home, self.client)

    @property
    def folders(self) -> Mapping[str, RunFolder]:
        """The runs' folders that are open."""
        return self._folders.open

    def publish(self) -> str:
        """Put an unused offer at the registry, however long that is away; return its hash.

        Raises:
            VerificationError: `protocol-differs`.
        """
        offer = self._offers.unused(self.endpoint)
        backoff, told = Backoff(FIRST_PAUSE_S, MAX_PAUSE_S), Told()
        while not self._terminating:
            try:
                require_protocol(self.client.info())
                self.client.post(offer)
                self._offered = offer.hash
                break
            except TransportError as error:
                if told.news(error.code):
                    log.warning("registry-away", code=error.code, why=error.message)
                with suppress(queue.Empty):
                    self._mail.get(timeout=backoff.pause_s())  # `terminate` ends the wait
        return offer.hash

    def serve(self) -> None:
        """Serve until `terminate`."""
        self._folders.resume()
        watcher = Watcher(self.client, self._receive)
        threading.Thread(target=warm_up, name="warm-up", daemon=True).start()
        try:
            while not self._terminating and self._mail.get():
                self._drive_next(watcher)
                self._folders.tidy(self._over)
        finally:
            watcher.stop()
            self._folders.stop()

    def terminate(self) -> None:
        """End `serve` soon, from a signal handler or any thread."""
        self._terminating = True
        self.control.interrupted = True
        self._mail.put(False)

    def reload(self) -> None:
        """Take up a renewed certificate, from a signal handler; one that does not fit is told."""
        try:
            self.reload_certificate()
        except AccordError as error:
            log.error(error.code, why=error.message, hint=error.hint)
        else:
            log.info("certificate-reloaded")

    def terms(self) -> list[Term]:
        """What ends here by a date."""
        found = self.home.terms("accord aggregator renew")
        if self.certificate is not None:
            found += of_certificates(self.certificate, Sentence.CERTIFICATE, f"{RENEW} FILE")
        return found

    def _receive(self, inbox: Inbox) -> None:
        """In the watcher's thread: claim the offers of new runs and replace them."""
        self.progress.heard = time.time()
        moment = now()
        self._expiry.look(self.terms, moment)
        if moment >= self._refresh_at:
            refresh(self.home.ca_path, self.client, moment)
            self._refresh_at = moment + REFRESH_EVERY
        for view in inbox.runs:
            if view.manifest_hash not in self._keys:
                manifest = RunManifest.from_bytes(self.client.record(view.manifest_hash).payload)
                keys = self._offers.claim(manifest.aggregator.offer, view.manifest_hash)
                if keys is None and manifest.aggregator.party == self.home.profile.party:
                    self._tell(view.id, say(Sentence.NO_KEYS))
                self._keys[view.manifest_hash] = keys
        self._runs = {view.id: view for view in inbox.runs}
        if self._mail.empty():
            self._mail.put(True)
        offer = self._offers.unused(self.endpoint)
        # Taken by a run, or its delegation was renewed; or the registry was restored without it.
        if offer.hash != self._offered or not self._has(offer.hash):
            self.client.post(offer)
            self._offered = offer.hash

    def _has(self, record: str) -> bool:
        try:
            self.client.record(record)
        except NotFoundError:
            return False
        return True

    def _drive_next(self, watcher: Watcher) -> None:
        """Drive the oldest run that can be driven, to its end."""
        for view in sorted(self._runs.values(), key=lambda view: view.id):
            keys = self._keys.get(view.manifest_hash)
            waits = view.state == "awaiting-consent" and view.stop_requested is None
            if keys is None or waits:
                continue
            if view.id in self._over:
                self._look_again(view)
                continue
            try:
                if (ending := only_the_end_is_left(view)) is not None:
                    self._end(view, keys, ending, self._verified(view))
                else:
                    self._drive(view, keys, watcher)
                self._over.add(view.id)
            except (TransportError, ConflictError) as error:
                if error.code == "aggregator-moved":
                    self._tell(view.id, _why(Sentence.AGGREGATOR_WAITS, error))
                elif self._told.get(view.id) != error.code:
                    self._told[view.id] = error.code
                    log.warning("run-waits", run=view.id, code=error.code, why=error.message)
                continue  # the next inbox, 20 s from now at most, tries again
            except OSError as error:
                self._tell(view.id, say(Sentence.AGGREGATOR_DISK, cause=error.strerror or error))
                continue  # likewise: the journal stands where it stood
            except AccordError as error:  # this run's files do not hold; the others' do
                self._tell(view.id, _why(Sentence.AGGREGATOR_STUCK, error))
                self._over.add(view.id)
            except Interrupted:
                log.info("run-interrupted", run=view.id)
            self._mail.put(True)  # look for the next one
            return

    def _drive(self, view: RunView, keys: RunKeys, watcher: Watcher) -> None:
        folder = self._folders.of(view.id)
        try:
            run = fetch(self.client, view.manifest_hash, self.home)
            self._require_own_place(run)
            initial = folder.initial(run.manifest.initial_model)
        except (TransportError, ConflictError):
            raise
        except AccordError as error:
            log.error("run-refused", run=view.id, code=error.code, why=error.message)
            self._end(view, keys, Ending("failed", error.code, error.message), None)
            return
        folder.checkpoints.require_space(space(run.manifest))  # before a site is charged
        asked = view.stop_requested
        self.control = control = Control(None if asked is None else stop(asked))
        control.interrupted = self._terminating
        control.barred = barred(view)
        # Before the lease, for that is what calls the nodes.
        transport = self.open_transport(run, folder.path)
        witness = Witness(run.agreement.log_key, self.client, control, folder.path)
        lease: Lease | None = None
        try:
            lease = Lease(
                self.client, view.id, self._holder, control, folder.fence, self._lose_holder
            )
            self._told.pop(view.id, None)
            watcher.follow(view.id, control)
            engine = Engine(
                run,
                keys,
                transport,
                folder.journal,
                folder.checkpoints,
                initial=initial,
                control=control,
                progress=self.progress,
                shown=witness.show,
            )
            engine.run()
        except Interrupted:
            if lease is not None:
                lease.end(lay_down=self._terminating)
            raise
        except (TransportError, ConflictError):
            raise
        except AccordError as error:  # what lies on the disk does not hold
            log.error("run-broken", run=view.id, code=error.code, why=error.message)
            self._end(view, keys, Ending("failed", error.code, error.message), run)
        finally:
            watcher.leave()
            witness.close()
            if lease is not None:
                lease.end(lay_down=False)
            transport.close()

    def _look_again(self, listed: RunView) -> None:
        """The next inbox tries again what fails; it holds up no other run."""
        try:
            self._redeliver(listed)
        except (AccordError, OSError) as error:
            code = error.code if isinstance(error, AccordError) else "disk"
            key = f"{listed.id} again"
            if self._told.get(key) != code:
                self._told[key] = code
                log.warning("run-not-redelivered", run=listed.id, code=code, why=str(error))

    def _redeliver(self, listed: RunView) -> None:
        """A run that is over here and open at the registry: was that restored from a backup?"""
        run, folder = listed.id, self.folders.get(listed.id)
        on_its_way = folder is not None and not folder.delivered
        if run in self._redelivered or (on_its_way and listed.state != "ready"):
            return
        view = self.client.run(run)  # the inbox may be older than what was delivered
        if view.state == "awaiting-consent" or (view.state in FINAL_STATES and not view.unsigned):
            return
        folder = self._folders.of(run)
        if view.state == "ready" or not (on_its_way or view.unsigned):
            folder.fence.store(self.client.lease(run, self._holder, LEASE_S).fence)
        if on_its_way:
            return
        self._redelivered.add(run)
        if (start := folder.result_at()) is not None:
            log.warning("registry-lost-records", run=run, hint="What it lacks is sent again.")
            self._folders.redeliver(run, start)

    def _lose_holder(self) -> None:
        """Another process has this folder's files: claim under another name, which must wait."""
        self._holder = f"aggregator-{token_hex(8)}"

    def _verified(self, view: RunView) -> VerifiedRun | None:
        """A run that is to end: None where it does not even verify."""
        try:
            return fetch_chain(self.client, view.manifest_hash)
        except TransportError:
            raise
        except AccordError as error:
            log.warning("run-unverified", run=view.id, code=error.code, why=error.message)
            return None

    def _require_own_place(self, run: VerifiedRun) -> None:
        keys = run.manifest.aggregator
        if (keys.address, keys.tls_spki) != (self.endpoint.address, self.endpoint.tls_spki):
            raise ConflictError(
                "aggregator-moved",
                f"run {run.manifest.id} expects this aggregator at {keys.address} with key "
                f"{keys.tls_spki[:16]}, it is at {self.endpoint.address}",
                hint="Start it again with the address and certificate that it had before.",
            )

    def _end(self, view: RunView, keys: RunKeys, how: Ending, run: VerifiedRun | None) -> None:
        journal = self._folders.of(view.id).journal
        if run is not None:
            end(run, keys, journal, how)
        else:
            manifest = RunManifest.from_bytes(self.client.record(view.manifest_hash).payload)
            end_unverified(manifest, view.manifest_hash, keys, journal, how)

    def _tell(self, run: str, message: Said) -> None:
        """Say what is wrong with a run here and to those who watch it; once, while it lasts."""
        if self._told.get(run) == message:
            return
        log.error("run-in-trouble", run=run, why=message)
        with suppress(AccordError):
            self.client.log(run, "error", plain(message))
            self._told[run] = message


def _why(sentence: Sentence, error: AccordError) -> Said:
    return say(sentence, cause=error.message, code=error.code)
