"""A node's link to the aggregator: one line held open for as long as the node lives.

Guarantees: the line is there also while the node trains: the aggregator reads the node's presence
from it and writes a byte when a message waits. When it breaks, the link connects again by itself,
with exponential backoff and jitter, and what was not answered is void. See `fleet.Session` for what
one connection guarantees.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import structlog

from accord_client.fleet import Asked, Session, Signer
from accord_client.wire import Endpoint, Wire
from accord_common.backoff import Backoff
from accord_common.bulk import Bulk
from accord_common.errors import FormatError, TransportError, UsageError
from accord_common.identity import FlowerKey
from accord_common.network.route import authority
from accord_common.parcel import pack, pack_bulk
from accord_common.tls import trusting

log = structlog.get_logger(__name__)

_WAKE, _END = b"w", b"e"
_CLOSE_S = 2.0  # a TCP connect that nobody answers cannot be cut; its thread ends by itself
_LOOKS_EVERY_S = 1.0  # whether it was closed, while the node has left
_FIRST_DELAY_S, _MOST_DELAY_S = 0.1, 5.0


@dataclass(frozen=True, slots=True)
class Message:
    """What the aggregator sends: a header, and bulk chunks in order."""

    header: bytes
    bulk: Bulk


class FleetLink:
    """See the module. One thread receives and replies; any thread may close."""

    def __init__(
        self, endpoint: Endpoint, key: FlowerKey, *, unreachable_after_s: float = 30.0
    ) -> None:
        """Start connecting; `receive` says how it went.

        Args:
            endpoint: the aggregator.
            key: the P-384 key that the node's delegation names.
            unreachable_after_s: how long `receive` waits for a connection without complaint.
        """
        self._endpoint = endpoint
        self._signer = Signer(key)
        self._tls = trusting(endpoint.ca_pem)
        self._unreachable_after_s = unreachable_after_s
        self._down_since = time.monotonic()
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._attempt: Session | None = None
        self._session: Session | None = None
        self._error: TransportError | None = None
        self._why, self._remedy = "no attempt has ended yet", ""
        self._received: tuple[Session, Asked] | None = None
        self._here = threading.Event()
        self._here.set()
        self._thread = threading.Thread(target=self._stay, name="fleet-line", daemon=True)
        self._thread.start()

    @property
    def connected(self) -> bool:
        """Whether the aggregator sees this node now."""
        return self._session is not None

    @property
    def here(self) -> bool:
        """Whether the node wants to be seen: it has not left."""
        return self._here.is_set()

    def receive(self, timeout_s: float) -> Message | None:
        """Return the next message as soon as it is there, or None after `timeout_s`.

        An error is raised once for each failed attempt to connect that a retry alone will not
        mend; the link goes on trying, and `receive` may be called again.

        Raises:
            TransportError: `aggregator-spki-mismatch`, `aggregator-certificate-refused`,
                `node-not-registered`, `node-clock-skew`, `node-signature-invalid`,
                `aggregator-unreachable` (down for longer than `unreachable_after_s`),
                `link-closed`.
        """
        deadline = time.monotonic() + timeout_s
        while (session := self._wait(deadline)) is not None:
            try:
                message = session.pull()
                if message is not None:
                    self._received = session, message[0]
                    return Message(*message[1])
            except FormatError as error:
                log.warning(error.code, detail=error.message)
            except TransportError as error:
                session.give_up(error)
        return None

    def reply(self, header: bytes, bulk: Sequence[bytes] = ()) -> None:
        """Answer the message received last; returns when the aggregator has all of it.

        Raises:
            UsageError: `nothing-to-answer`, `header-too-large`, `chunk-size`, `bulk-too-large`.
            TransportError: `reply-not-wanted` (the aggregator has moved on, or the connection broke
                since), `aggregator-unreachable`.
        """
        if self._received is None:
            raise UsageError("nothing-to-answer", "no message is waiting for a reply")
        parcel = pack(header, pack_bulk(bulk))
        session, message = self._received
        self._received = None
        if session is not self._session:
            raise TransportError("reply-not-wanted", "the connection has been replaced")
        try:
            session.push(message, parcel)
        except TransportError as error:
            session.give_up(error)
            raise

    def trust(self, ca_pem: bytes) -> None:
        """Trust these authorities too, from the next connection on."""
        self._tls.load_verify_locations(cadata=ca_pem.decode("ascii"))

    def leave(self) -> None:
        """Hang up until `come_back`; meanwhile nothing is received, and that is no trouble."""
        self._here.clear()
        self.reconnect()

    def come_back(self) -> None:
        """Connect again, in the place of the present connection if there is one."""
        self._here.set()
        self.reconnect()

    def reconnect(self) -> None:
        """Hang up and, unless the node has left, connect again; what was not answered is void."""
        with self._changed:
            attempt = self._attempt
        if attempt is not None:
            attempt.close()

    def close(self) -> None:
        """Hang up. The aggregator learns it at once."""
        self._closing.set()
        self._here.set()
        with self._changed:
            attempt = self._attempt
            self._changed.notify_all()
        if attempt is not None:
            attempt.close()
        self._thread.join(_CLOSE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _wait(self, deadline: float) -> Session | None:
        """Return the session in which a message waits, or None when the time is over."""
        with self._changed:
            self._changed.wait_for(self._has_news, max(0.0, deadline - time.monotonic()))
            if self._closing.is_set():
                raise TransportError("link-closed", "the link was closed")
            error, self._error = self._error, None
            if error is not None:
                raise error
            session = self._session
            if session is None:
                if not self.here:
                    self._down_since = time.monotonic()
                    return None
                down_s = time.monotonic() - self._down_since
                if down_s > self._unreachable_after_s:
                    where = authority(self._endpoint.host, self._endpoint.port)
                    raise TransportError(
                        "aggregator-unreachable",
                        f"{where} has not answered for {down_s:.0f} s; {self._why}",
                        hint=f"The node goes on trying. {self._remedy}".rstrip(),
                    )
            elif session.waiting:
                session.waiting = False
                return session
            return None

    def _has_news(self) -> bool:
        session = self._session
        waits = session is not None and session.waiting
        return waits or self._error is not None or self._closing.is_set()

    def _stay(self) -> None:
        """Keep a line open until the link is closed."""
        backoff = Backoff(_FIRST_DELAY_S, _MOST_DELAY_S)
        while not self._closing.is_set():
            if not self._here.wait(_LOOKS_EVERY_S):
                continue
            began = time.monotonic()
            try:
                self._hold_line()
            except TransportError as error:
                self._why, self._remedy = error.message, error.hint
                if error.code not in ("aggregator-unreachable", "no-run"):
                    with self._changed:
                        self._error = error
                        self._changed.notify_all()
            if time.monotonic() - began > _MOST_DELAY_S:  # it held: this is a new failure
                backoff.reset()
            self._closing.wait(backoff.pause_s())

    def _hold_line(self) -> None:
        """Connect, let `receive` know, and read the line until it ends."""
        session = Session(
            lambda: Wire(self._endpoint, self._tls, self._signer.headers), self._signer.public_key
        )
        try:
            with self._changed:
                self._attempt = session
                if self._closing.is_set() or not self.here:
                    return
            session.open()
            with self._changed:
                self._session = session
            log.info("aggregator-connected", host=self._endpoint.host, port=self._endpoint.port)
            self._read(session)
        finally:
            with self._changed:
                if self._session is session:
                    self._session = None
                    self._down_since = time.monotonic()
            session.dispose()
        log.info("aggregator-hung-up", host=self._endpoint.host, port=self._endpoint.port)

    def _read(self, session: Session) -> None:
        """Read the line until it ends; that it is lost is in the log at once."""
        try:
            while (frame := session.next_frame()) not in (b"", _END):
                if frame == _WAKE:
                    with self._changed:
                        session.waiting = True
                        self._changed.notify_all()
        except TransportError as error:
            if not self._closing.is_set():
                log.warning("aggregator-line-lost", detail=error.message, hint="It connects again.")
            raise
