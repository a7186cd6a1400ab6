"""The aggregator as a witness of the registry's log: what it saw itself, and what nodes show it.

Guarantees: each head in an advertisement is joined once to the checkpoint that the aggregator saw
itself, by the registry's proof, in a thread of its own; a fork ends the run (`log-forked`), and
both signed checkpoints, with the advertisement, are a file in the run's folder. A registry that is
out of reach holds nothing up.
"""

import threading
import time
from pathlib import Path

import structlog

from accord_common.api.client import RegistryClient
from accord_common.backoff import Backoff, Told
from accord_common.envelope import Envelope
from accord_common.errors import AccordError
from accord_common.files import replace_file
from accord_common.log.checkpoint import Head, verify_checkpoint
from accord_common.log.peers import FORKED, Fork, Peers
from accord_server.aggregator.control import Control, Ending

EVIDENCE = "log-forked.jsonl"

_FIRST_PAUSE_S, _MOST_PAUSE_S = 0.5, 15.0

log = structlog.get_logger(__name__)


class Witness:
    """See the module. `show` is the engine's, from one thread.

    Args:
        log_key: what the run's agreement names.
        client: the registry.
        control: the run's; told of a fork.
        folder: the run's, for the evidence.
    """

    def __init__(
        self, log_key: str, client: RegistryClient, control: Control, folder: Path
    ) -> None:
        self._log_key = log_key
        self._client = client
        self._control = control
        self._folder = folder
        self._own: Head | None = None
        self._peers = Peers(log_key, lambda: self._own, self._forked, time.monotonic)
        self._shown, self._ended = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._join, name="witness", daemon=True)
        self._thread.start()

    def show(self, envelope: Envelope) -> None:
        """Take the head in a verified advertisement.

        Raises:
            VerificationError: `wrong-head`: the log key never signed it.
        """
        if self._peers.show(envelope):
            self._shown.set()

    def close(self) -> None:
        """End the thread; what is in flight is not waited for."""
        self._ended.set()
        self._shown.set()

    def _join(self) -> None:
        backoff, told = Backoff(_FIRST_PAUSE_S, _MOST_PAUSE_S), Told()
        while not self._ended.is_set():
            self._shown.wait()
            self._shown.clear()
            if self._ended.is_set():
                return
            try:
                if self._own is None:
                    self._look()
                self._peers.settle(self._client.tree)
                backoff.reset()
            except AccordError as error:
                self._shown.set()  # what was not joined is asked for again
                if told.news(error.code):
                    log.warning("log-not-joined", code=error.code, why=error.message)
                self._ended.wait(backoff.pause_s())

    def _look(self) -> None:
        """What the registry shows the aggregator itself."""
        envelope = self._client.tree.checkpoint()
        verify_checkpoint(envelope, self._log_key)
        self._own = Head.of(envelope)

    def _forked(self, fork: Fork) -> None:
        path = self._folder / EVIDENCE
        replace_file(path, b"".join(each.to_bytes() + b"\n" for each in fork.evidence))
        log.error(FORKED, why=fork.why, evidence=str(path))
        told = f"the registry has shown its parties two different logs: {fork.why}"
        self._control.ending = Ending("failed", FORKED, told)
