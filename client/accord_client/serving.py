"""One accepted run at work: its session answers what its link brings, in a thread of its own.

Guarantees: nothing that the aggregator, the disk or the data does ends the thread, but the run's
end or `leave`; a trouble that lasts is told once. A node whose disk takes nothing hangs up, so that
nobody waits for it, and one that refused what only time mends stays within reach; both connect
again once what held them back has passed (`returning`), for that is how a node is asked anew.

Not covered: what is answered (`session`), and which runs are served (`node`).
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from accord_client.contact import forget_trouble, note_trouble
from accord_client.link import FleetLink, Message
from accord_client.session import Session
from accord_client.stores import Stores
from accord_common.errors import AccordError, TransportError

log = structlog.get_logger(__name__)

_RECEIVE_WAIT_S = 15.0  # a link wakes by itself but where nothing comes: then it is asked why
_HELD_WAIT_S = 2.0  # how often a node that is held back looks whether it still is
_LEAVE_WITHIN_S = 10.0  # a round of training in flight is not waited for any longer


@dataclass(slots=True)
class Serving:
    """See the module.

    Args:
        stores: the node's open folder.
        session: the run's.
        link: to its aggregator.
        queued: called after each answer: there may be a record to post.
        ended: called as the thread ends.
    """

    stores: Stores
    session: Session
    link: FleetLink
    queued: Callable[[], None]
    ended: Callable[[], None]
    left: bool = False
    thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        name = f"run-{self.session.manifest.id[-6:]}"
        self.thread = threading.Thread(target=self._serve, name=name, daemon=True)

    def leave(self, reason: str) -> None:
        """End it, once; it counts as served, and no other starts, until its thread has ended."""
        if self.left:
            return
        self.left = True
        self.session.stop(reason)
        self.link.close()
        self.thread.join(timeout=_LEAVE_WITHIN_S)
        log.info("run-left", run=self.session.manifest.id, why=reason)

    def talk(self) -> None:
        """Answer until the run is over or the link is closed."""
        said, run = "", self.session.manifest.id
        heard = False
        while not self.session.over:
            try:
                held = bool(self.session.held_back)
                message = self.link.receive(_HELD_WAIT_S if held else _RECEIVE_WAIT_S)
                if message is None:
                    if self.session.held_back.passed():
                        self.link.come_back()
                    continue
                if not heard:
                    forget_trouble(self.stores, run)
                said, heard = "", True
                self._reply(message)
            except TransportError as error:
                if error.code == "link-closed":
                    return
                if error.code != said:
                    told = {"code": error.code, "detail": error.message, "hint": error.hint}
                    log.warning("aggregator-trouble", run=run, **told)
                    if not self.link.connected:
                        note_trouble(self.stores, run, error)
                        heard = False
                said = error.code
            except AccordError as error:  # the outbox takes no line: then nothing leaves
                log.error("not-answered", run=run, code=error.code, detail=error.message)
            except Exception:
                log.exception("session-error", run=run)
            if self.session.held_back.speechless:
                self._leave_for_room()

    def _serve(self) -> None:
        try:
            self.talk()
        finally:
            self.link.close()
            self.ended()

    def _reply(self, message: Message) -> None:
        """In a frame of its own, so that nothing of an answer stays in memory after it."""
        header, bulk = self.session.answer(message.header, message.bulk)
        self.queued()
        self.link.reply(header, bulk)

    def _leave_for_room(self) -> None:
        """Hang up until the disk takes an attempt again."""
        if self.link.here:
            folder = str(self.stores.home.path)
            hint = "Make room, or mount it writable; the node comes back by itself."
            log.error("disk-full", folder=folder, hint=hint)
            self.link.leave()
