"""Heads of the log that others show, each joined once to one's own; no thread, no clock of its own.

Guarantees: a head counts only under the log key that the run's agreement names; two of one size
with other roots are found as they are shown, without a network; any other is joined by a proof of
the registry's, off the caller's path (`settle`), and where the registry has none, or a wrong one,
that is a fork. What was joined once is not asked for again.

Not covered: two logs whose readers never hear of each other.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from accord_common.api.tree import TreeClient
from accord_common.envelope import Envelope
from accord_common.errors import (
    AccordError,
    FormatError,
    UsageError,
    VerificationError,
)
from accord_common.log.checkpoint import Head, same_tree
from accord_common.secagg.messages import Advertisement, Commitment

FORKED = "log-forked"

_REFUTES = (UsageError, FormatError, VerificationError)  # the registry answered, and had no proof


@dataclass(frozen=True, slots=True)
class Fork:
    """Two heads that the log key signed and that are of no one log; `shown` holds the second."""

    log: str
    ours: Head
    theirs: Head
    shown: Envelope
    why: str

    @property
    def evidence(self) -> list[Envelope]:
        """Both checkpoints, and the message that carried the second."""
        return [self.ours.envelope(self.log), self.theirs.envelope(self.log), self.shown]


@dataclass(slots=True)
class Peers:
    """See the module. Any thread may call.

    Args:
        log: the log key that the agreement names.
        own: the newest head that the caller itself has seen, if any.
        forked: is told of a fork, in the thread that finds it.
        clock: seconds, for `waiting_s`.
    """

    log: str
    own: Callable[[], Head | None]
    forked: Callable[[Fork], None]
    clock: Callable[[], float]
    _joined: set[tuple[int, str]] = field(default_factory=set)
    _pending: dict[tuple[int, str], tuple[Head, Envelope, float]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def show(self, envelope: Envelope) -> bool:
        """Take the head in an advertisement whose signer was verified; True where one waits.

        Raises:
            VerificationError: `wrong-head`: the log key never signed it.
        """
        message = Commitment if envelope.kind == Commitment.KIND else Advertisement
        head = message.from_bytes(envelope.payload).log
        if head is None:
            return False
        key = (head.size, head.root)
        with self._lock:
            if key in self._joined:
                return False
            if key in self._pending:
                return True
        head.verify(self.log)
        ours = self.own()
        if ours is not None and ours.size == head.size:
            self._compare(ours, head, envelope, [])
            return False
        with self._lock:
            self._pending[key] = head, envelope, self.clock()
        return True

    def settle(self, tree: TreeClient) -> None:
        """Join every head that waits to one's own; without one, all go on waiting.

        Raises:
            AccordError: the registry cannot be asked now; what was not joined goes on waiting.
        """
        while (waiting := self._next()) is not None and (ours := self.own()) is not None:
            head, shown = waiting
            first, second = sorted((ours.size, head.size))
            try:
                proof = [] if first == second else tree.consistency(first, second)
            except _REFUTES as error:
                self._fork(Fork(self.log, ours, head, shown, f"the registry: {error.message}"))
                return
            # Whose proof it is stays said: both heads may be of one log, and the proof of another.
            self._compare(ours, head, shown, proof, "the registry: " if proof else "")

    def waiting_s(self) -> float:
        """How long the oldest head has waited to be joined; 0 where none does."""
        with self._lock:
            since = [at for _, _, at in self._pending.values()]
        return self.clock() - min(since) if since else 0.0

    def _next(self) -> tuple[Head, Envelope] | None:
        with self._lock:
            for head, shown, _ in self._pending.values():
                return head, shown
        return None

    def _compare(
        self, ours: Head, theirs: Head, shown: Envelope, proof: list[str], source: str = ""
    ) -> None:
        try:
            same_tree(ours, theirs, proof)
        except AccordError as error:
            self._fork(Fork(self.log, ours, theirs, shown, source + error.message))
            return
        with self._lock:
            self._joined.add((theirs.size, theirs.root))
            self._pending.pop((theirs.size, theirs.root), None)

    def _fork(self, fork: Fork) -> None:
        with self._lock:
            self._pending.pop((fork.theirs.size, fork.theirs.root), None)
        self.forked(fork)
