"""One run's lease: claimed at the registry, renewed in a thread of its own, given back.

Guarantees: the engine is stopped before the lease is over, by this process's own clock and whether
or not the registry answers (`Control.lease_until`), so no two processes drive one run for longer
than clocks drift in `MARGIN_S`; the fence is on disk before anything is done under it, and what is
posted names it; who finds that another has the run lets go at once.

`LEASE_S` is as long as nodes go on without the registry: a shorter outage costs nothing, and in a
longer one the aggregator suspends the run rather than have it refused by every node.
"""

import threading
from collections.abc import Callable
from pathlib import Path
from secrets import token_hex

import structlog

from accord_common.api.client import RegistryClient
from accord_common.backoff import Backoff, Told
from accord_common.errors import AccordError, ConflictError, NotFoundError
from accord_common.files import replace_file
from accord_common.home import Home
from accord_server.aggregator.control import Control

LEASE_S = 900
MARGIN_S = 30  # what a stage may still be busy with, before it looks
_RENEW_FIRST_S = 0.5
_LAY_DOWN_WITHIN_S = 2.0  # a registry that is away holds up no end

log = structlog.get_logger(__name__)


def holder_of(home: Home) -> str:
    """Name a folder towards the registry: made once, and kept wherever the folder is mounted."""
    path = home.path / "holder"
    if not path.exists():
        replace_file(path, f"aggregator-{token_hex(8)}".encode())
    return path.read_text()


class Fence:
    """The number of a run's newest claim by this folder, remembered over restarts."""

    def __init__(self, path: Path) -> None:
        self._path = path
        text = path.read_text() if path.exists() else ""
        self.value = int(text) if text.isdigit() else None

    def store(self, value: int) -> None:
        """Remember a claim."""
        replace_file(self._path, str(value).encode())
        self.value = value


class Lease:
    """See the module.

    Args:
        client: the registry.
        run: the run's id.
        holder: names this folder.
        control: is told how long the lease lasts, and when it is lost; says for whom the run waits.
        fence: remembers the claim.
        lost: called once where another process has the run.
    """

    def __init__(
        self,
        client: RegistryClient,
        run: str,
        holder: str,
        control: Control,
        fence: Fence,
        lost: Callable[[], None] = lambda: None,
    ) -> None:
        """Claim the run.

        Raises:
            ConflictError: `leased` while another process has it; `run-over`.
            TransportError: the registry cannot be reached.
        """
        self._client = client
        self._run = run
        self._holder = holder
        self._control = control
        self._lost = lost
        self._ended = threading.Event()
        self._told = Told()
        asked = control.clock()
        given = client.lease(run, holder, LEASE_S)
        fence.store(given.fence)
        self._fence = given.fence
        self._renew_s = given.renew_s
        self._backoff = Backoff(min(_RENEW_FIRST_S, self._renew_s), self._renew_s)
        control.lease_until = asked + LEASE_S - MARGIN_S
        self._thread = threading.Thread(target=self._keep, name=f"lease-{run}", daemon=True)
        self._thread.start()

    def end(self, *, lay_down: bool) -> None:
        """Renew no more; with `lay_down` let the registry know that nobody drives the run."""
        self._ended.set()
        self._control.changed.set()
        if lay_down:
            teller = threading.Thread(target=self._lay_down, name="lay-down", daemon=True)
            teller.start()
            teller.join(_LAY_DOWN_WITHIN_S)

    def _keep(self) -> None:
        pause_s = self._renew_s
        while not self._ended.is_set():
            self._control.changed.wait(pause_s)
            self._control.changed.clear()
            if self._ended.is_set():
                return
            pause_s = self._renew_s
            try:
                self.renew()
                self._backoff.reset()
                if self._told.news(None):
                    log.info("lease-renewed-again", run=self._run)
            except ConflictError as error:
                if error.code == "run-over":  # how it ended, the inbox says
                    continue
                log.error("lease-lost", run=self._run, code=error.code, why=error.message)
                self._lost()
                self._control.interrupted = True
                return
            except NotFoundError as error:  # the registry was restored from before the run
                log.error("run-forgotten", run=self._run, code=error.code, why=error.message)
                self._control.interrupted = True
                return
            except AccordError as error:
                pause_s = self._backoff.pause_s()
                if self._told.news(error.code):
                    log.warning("lease-waits", run=self._run, code=error.code, why=error.message)

    def renew(self) -> None:
        """Have the lease last from now on; counted from before the request."""
        asked = self._control.clock()
        waiting = self._control.waiting
        self._client.lease(self._run, self._holder, LEASE_S, self._fence, waiting)
        self._control.lease_until = asked + LEASE_S - MARGIN_S

    def _lay_down(self) -> None:
        try:
            self._client.lease(self._run, self._holder, 0, self._fence)
        except AccordError as error:  # it ends by itself
            log.info("lease-not-laid-down", run=self._run, code=error.code)
