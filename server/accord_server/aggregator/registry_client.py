"""The aggregator's outbound side: what it asks the registry, and what it tells it.

Guarantees: no round waits for the registry. What it must learn is read from a run's journal and
sent in order, again and again until it has it; what a registry lacks that was restored from a
backup is sent again; a record that it refuses for good is logged and passed over. Models that a
later round has overtaken are left out; the last one always goes, before the result that names it.

What the registry says is only a hint when to look: `fetch` verifies a run down to the agreement.
"""

import threading
from collections.abc import Callable
from typing import Literal

import structlog

from accord_common.api.client import RegistryClient
from accord_common.api.membership import SHUT_OUT
from accord_common.api.schemas import FINAL_STATES, Inbox, RunView
from accord_common.chain import VerifiedRun, check_dates, fetch_run, verify_consent
from accord_common.envelope import Envelope
from accord_common.errors import (
    AccordError,
    AuthError,
    FormatError,
    NotFoundError,
    PolicyError,
    TransportError,
    VerificationError,
)
from accord_common.fields import now
from accord_common.home import Home
from accord_common.pausing import Pause
from accord_common.receipts import CONSENT
from accord_common.terms import violations
from accord_server.aggregator.checkpoints import MODEL, Checkpoints
from accord_server.aggregator.control import Control, Ending, stop
from accord_server.aggregator.journal import Concluded, Ended, Entry, Journal, Note
from accord_server.aggregator.leasing import Fence

WAIT_S = 20.0
FORGOTTEN = "Was the registry restored from an older backup? Start the run anew, as another run."
FIRST_PAUSE_S, MAX_PAUSE_S = 0.5, 30.0

_UNTIL_LEASED = frozenset({"lease-lost", "run-not-running"})

log = structlog.get_logger(__name__)


def fetch(client: RegistryClient, manifest_hash: str, home: Home) -> VerifiedRun:
    """Fetch a run and verify it: signatures, terms, dates, and every site's consent.

    Raises:
        VerificationError: the first thing that does not hold.
        PolicyError: `agreement-not-signed` where this aggregator's own key did not sign, a term
            that the manifest breaks, or `consent-missing`.
    """
    run = fetch_chain(client, manifest_hash)
    own = run.agreement.party(run.manifest.aggregator.party)
    if (own.id, own.identity_key) != (home.profile.party, home.profile.identity_key):
        raise PolicyError("agreement-not-signed", f"{run.agreement_hash[:16]} names other keys")
    check_dates(run, now())
    for violation in violations(run.agreement, run.manifest):
        raise violation
    records = client.records(kind=CONSENT, run=run.manifest.id)
    consents = [verify_consent(record.envelope, run) for record in records]
    accepted = {consent.party for consent in consents if consent.decision == "accept"}
    if missing := [site.party for site in run.manifest.roster if site.party not in accepted]:
        name = run.agreement.party(missing[0]).name
        raise PolicyError("consent-missing", f"{name} has not consented")
    return run


def barred(view: RunView) -> dict[str, str]:
    """Party -> code of the sites that the registry shuts out."""
    return {site.party: site.barred for site in view.consents if site.barred is not None}


def fetch_chain(client: RegistryClient, manifest_hash: str) -> VerifiedRun:
    """Fetch a run and verify its signatures alone: enough to say how it ended."""

    def lookup(record_hash: str) -> Envelope:
        try:
            return client.record(record_hash)
        except NotFoundError:
            return client.agreement(record_hash).envelope

    return fetch_run(lookup, manifest_hash)


class Courier:
    """Takes one run's journal to the registry, in a thread of its own, until all is there."""

    def __init__(
        self,
        client: RegistryClient,
        run: str,
        journal: Journal,
        checkpoints: Checkpoints,
        fence: Fence,
    ) -> None:
        self._client = client
        self._run = run
        self._fence = fence
        self._journal = journal
        self._checkpoints = checkpoints
        self._again = False
        self._pause = Pause(FIRST_PAUSE_S, MAX_PAUSE_S)
        self._thread = threading.Thread(target=self._deliver, name=f"courier-{run}", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float) -> bool:
        """Deliver what there is, if the registry answers in time; say whether all is there."""
        self._journal.close()
        self._thread.join(timeout_s)
        self._pause.cancel()
        return self._journal.cursor == self._journal.size

    @property
    def done(self) -> bool:
        """Whether the run's result has been delivered."""
        return not self._thread.is_alive()

    def _deliver(self) -> None:
        try:
            self._deliver_all()
        except AccordError as error:  # the journal is damaged: nothing behind it can be sent
            log.error("journal-unreadable", run=self._run, code=error.code, why=error.message)

    def _deliver_all(self) -> None:
        concluded = False
        while not concluded and self._journal.wait(self._journal.cursor):
            batch = list(self._journal.read(self._journal.cursor))
            newest = [entry for entry, _ in batch if isinstance(entry, Ended) and entry.checkpoint]
            for entry, position in batch:
                if not self._persist(entry, newest[-1] if newest else None):
                    return
                try:
                    self._journal.delivered(position)
                except OSError as error:  # sent again after a restart, which changes nothing
                    self._journal.cursor = position
                    log.error("cursor-not-stored", run=self._run, why=error.strerror)
                concluded = concluded or isinstance(entry, Concluded)

    def _persist(self, entry: Entry, newest: Ended | None) -> bool:
        """Send one entry until the registry has it or refuses it; False where stopped before."""
        while not self._pause.cancelled:
            try:
                self._send(entry, entry is newest)
            except (TransportError, AuthError) as error:
                self._pause.after("registry-away", error, run=self._run)
                continue
            except AccordError as error:
                if type(error) is AccordError:  # an internal error of the registry's: it may pass
                    self._pause.after("registry-fails", error, run=self._run)
                    continue
                # Another process has the run, or this one will; or the coordinator may undo it.
                if error.code in _UNTIL_LEASED or error.code in SHUT_OUT:
                    self._pause.after("courier-waits", error, run=self._run)
                    continue
                if error.code == "missing-predecessor" and self._send_again():
                    continue
                log.error("registry-refuses", run=self._run, code=error.code, why=error.message)
            self._pause.reset()
            return True
        return False

    def _send_again(self) -> bool:
        """Send what the registry has had of this run and lacks: it was restored from a backup."""
        if self._again:
            return False
        self._again = True
        log.warning("registry-lost-records", run=self._run, hint="What it lacks is sent again.")
        had = [entry for entry, behind in self._journal.read() if behind <= self._journal.cursor]
        newest = [entry for entry in had if isinstance(entry, Ended) and entry.checkpoint]
        records = [entry for entry in had if isinstance(entry, Ended)]
        done = all(self._persist(entry, newest[-1] if newest else None) for entry in records)
        self._again = False
        return done and bool(records)

    def _send(self, entry: Entry, is_newest: bool) -> None:
        match entry:
            case Ended(receipt=receipt, checkpoint=checkpoint):
                if is_newest and checkpoint is not None:
                    self._upload(checkpoint)
                self._client.post(receipt, self._fence.value)
            case Concluded(result=result):
                self._client.post(result, self._fence.value)
                log.info("result-delivered", run=self._run, result=result.hash)
            case Note(level=level, message=message):
                self._client.log(self._run, level, message)

    def _upload(self, checkpoint: str) -> None:
        try:
            model = self._checkpoints.load(checkpoint).vectors[MODEL]
        except (VerificationError, FormatError, OSError) as error:
            # Missing where two rounds have passed since this batch was read: a newer one is next.
            # Whatever is wrong with the model, its receipt must go: later ones name it.
            if not (isinstance(error, VerificationError) and error.code == "checkpoint-missing"):
                log.error("model-unreadable", run=self._run, why=str(error))
            return
        self._client.put_blob(model)


class Watcher:
    """Follows the inbox, and what it says of the active run, in a thread of its own.

    Args:
        client: the registry.
        deliver: called with each inbox, from the watcher's thread.
    """

    def __init__(self, client: RegistryClient, deliver: Callable[[Inbox], None]) -> None:
        self._client = client
        self._deliver = deliver
        self._pause = Pause(FIRST_PAUSE_S, MAX_PAUSE_S)
        self._active: tuple[str, Control] | None = None
        self._thread = threading.Thread(target=self._watch, name="inbox", daemon=True)
        self._thread.start()

    def follow(self, run: str, control: Control) -> None:
        """From now on, let `control` know that a run is to stop, or is over."""
        self._active = (run, control)

    def leave(self) -> None:
        """Follow no run."""
        self._active = None

    def stop(self) -> None:
        """End the thread; a long poll in flight is left behind."""
        self._pause.cancel()

    def _watch(self) -> None:
        cursor, wait_s = 0, 0.0  # the first look is at what has been there before
        while not self._pause.cancelled:
            try:
                inbox = self._client.inbox(cursor, wait_s)
                if self._pause.cancelled:
                    return
                self._deliver(inbox)
                self._look_after(inbox)
                cursor, wait_s = inbox.cursor, WAIT_S
                self._pause.reset()
            except Exception as error:  # the watcher outlives whatever one run, or the disk, does
                self._pause.after("registry-away", error, loop="watcher")

    def _look_after(self, inbox: Inbox) -> None:
        """Heed what ends the active run."""
        active = self._active
        if active is None:
            return
        run, control = active
        try:
            view = next((v for v in inbox.runs if v.id == run), None) or self._client.run(run)
        except NotFoundError as error:
            log.error("run-forgotten", run=run, why=error.message, hint=FORGOTTEN)
            control.interrupted = True
            return
        control.barred = barred(view)
        if (found := closed(view)) is not None:
            control.ending = found
        elif view.state in FINAL_STATES:  # its result is signed; not by this process
            control.interrupted = True
        elif view.stop_requested is not None:
            control.ending = stop(view.stop_requested)


def closed(view: RunView) -> Ending | None:
    """How the registry ended a run that still wants a signed result; None for any other."""
    if not view.unsigned:
        return None
    status: Literal["stopped", "failed"] = "stopped" if view.state == "stopped" else "failed"
    return Ending(status, view.code, view.cause)
