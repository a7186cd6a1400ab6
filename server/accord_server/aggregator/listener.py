"""The one port that nodes reach: TLS, an allow-list of paths, and a line that shows who is there.

Guarantees: every path but `BODY_LIMITS` answers 404, whatever else Flower can do; a body is read
only from a node whose key signed the request and is in the roster, and never beyond its path's
limit; a fault while answering one request touches no other. No node has more than `LANES` large
bodies under way, each of which takes 256 KiB of memory (`bodies`). Strangers who connect and say
nothing are sent away after 30 s, the oldest at once where they are many: they crowd out no node
that is here.

A node holds one request to `LINE` open for as long as it lives. The aggregator writes a frame (one
byte) into it: `WAKE` when a message waits, `ALIVE` every few seconds, `END` before closing. When
the socket goes, so does the node. A machine that vanishes without closing its sockets is noticed
by TCP keepalive within about 15 s.

The listener outlives runs: a run's transport mounts itself, and between runs nodes get 503.
"""

import asyncio
import json
import socket
import ssl
import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Protocol, Self, TypeGuard

import structlog
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from accord_common.errors import ConflictError, TransportError
from accord_common.parcel import MAX_OBJECT_BYTES
from accord_server.aggregator.bodies import (
    LARGE,
    Headers,
    Message,
    Piece,
    Receive,
    Refusal,
    Send,
    Upload,
    declared_length,
    pass_on,
    pieces_of,
    respond,
)
from accord_server.certificates import reload_certificate

LINE = "/v1/accord/line"
ACTIVATE = "/v1/fleet/activate-node"
PULL_MESSAGES = "/v1/fleet/pull-messages"
PUSH_MESSAGES = "/v1/fleet/push-messages"
PULL_OBJECT = "/v1/fleet/pull-object"
PUSH_OBJECT = "/v1/fleet/push-object"
BODY_LIMITS: Mapping[str, int] = {
    LINE: 1 << 10,
    ACTIVATE: 4 << 10,
    PULL_MESSAGES: 1 << 10,
    PUSH_MESSAGES: 64 << 10,  # ids of 256 chunks take 18 KiB
    PULL_OBJECT: 1 << 10,
    PUSH_OBJECT: MAX_OBJECT_BYTES,
}
WAKE, ALIVE, END = b"w", b".", b"e"
ALIVE_S = 5.0
TICK_S = 10  # Flower drops a run's task after 60 s without a sign
_CONNECTIONS = 1_000  # two a node; beyond that a flood gets 503
_FIRST_REQUEST_S = 30.0  # a node asks at once, but perhaps behind another's update on a slow line
LANES = 4  # large bodies a node may have under way; an honest one has one, or two while it returns

log = structlog.get_logger(__name__)


class Line:
    """A node's open request. `wake` and `end` may be called from any thread, at any time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._changed = asyncio.Event()
        self._ended = False

    def wake(self) -> None:
        """Tell the node that a message waits."""
        self._notify()

    def end(self) -> None:
        """Close the line."""
        self._ended = True
        self._notify()

    def _notify(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._changed.set)
        except RuntimeError:  # the listener is closed, and the line with it
            self._ended = True

    async def next_frame(self) -> bytes:
        """Wait for the next frame to write."""
        try:
            await asyncio.wait_for(self._changed.wait(), ALIVE_S)
        except TimeoutError:
            return ALIVE
        self._changed.clear()
        return END if self._ended else WAKE


class Application(Protocol):
    """A run's transport, as the listener sees it. All methods are quick and thread-safe."""

    def identify(self, headers: Headers) -> str:
        """Return the party whose node signed these headers, or raise Refusal 401."""
        ...

    def answer(self, party: str, path: str, body: bytes) -> Sequence[Piece]:
        """Serve one of the Fleet paths: the pieces of the response. May raise Refusal."""
        ...

    def upload(self, party: str, start: bytes, length: int) -> Upload:
        """Admit a push-object of `length` bytes that begins so, or raise Refusal."""
        ...

    def opened(self, party: str, line: Line, body: bytes) -> None:
        """Take a party's line; the one it had before is ended. May raise Refusal."""
        ...

    def closed(self, party: str, line: Line) -> None:
        """Learn that a line is gone, for whatever reason."""
        ...

    def tick(self) -> None:
        """Do what must happen every `TICK_S` seconds."""
        ...


class Listener:
    """A TLS server in a thread of its own, on one port, for one run after another."""

    def __init__(self, host: str, port: int, *, certificate: Path, key: Path) -> None:
        """Bind and serve at once; port 0 takes a free one.

        Raises:
            TransportError: `address-in-use` or `certificate-unusable`.
        """
        self._application: Application | None = None
        self._files = certificate, key
        self.received_bytes = self.sent_bytes = 0  # of bodies, since the start
        self._lanes = defaultdict[str, asyncio.Semaphore](lambda: asyncio.Semaphore(LANES))
        self._socket = _bind(host, port)
        self.port: int = self._socket.getsockname()[1]
        config = uvicorn.Config(
            self._serve,
            interface="asgi3",
            lifespan="off",
            http=_Connection,
            ws="none",
            log_config=None,
            log_level="critical",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ssl_certfile=certificate,
            ssl_keyfile=str(key),
            timeout_keep_alive=60,
            timeout_graceful_shutdown=2,
            limit_concurrency=_CONNECTIONS,
            callback_notify=self._tick,
            timeout_notify=TICK_S,
        )
        try:
            config.load()
        except (OSError, ssl.SSLError) as error:
            self._socket.close()
            raise TransportError("certificate-unusable", f"{certificate}: {error}") from error
        assert config.ssl is not None
        config.ssl.minimum_version = ssl.TLSVersion.TLSv1_3  # both ends are ours
        self._server = _Server(config)
        self._thread = threading.Thread(
            target=self._server.run, args=([self._socket],), name="fleet-listener", daemon=True
        )
        self._thread.start()
        self._server.ready.wait()

    def mount(self, application: Application) -> None:
        """Serve this run. Raises ConflictError `run-active` while another one is mounted."""
        if self._application is not None:
            raise ConflictError("run-active", "the listener serves another run already")
        self._application = application

    def unmount(self) -> None:
        """Serve no run; the run ends its own lines."""
        self._application = None

    def reload(self) -> None:
        """Show the certificate that is in its file now; `certificate-unusable`."""
        reload_certificate(self._server.config.ssl, *self._files)

    def close(self) -> None:
        """Close port and connections."""
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def _tick(self) -> None:
        application = self._application  # a run may end meanwhile
        if application is None:
            return
        try:
            application.tick()
        except Exception:  # it would end the server's loop
            log.exception("tick-failed")

    async def _serve(self, scope: Message, receive: Receive, send: Send) -> None:
        async def counted_receive() -> Message:
            message = await receive()
            self.received_bytes += len(message.get("body", b""))
            return message

        async def counted_send(message: Message) -> None:
            self.sent_bytes += len(message.get("body", b""))
            await send(message)

        await self._answer(scope, counted_receive, counted_send)

    async def _answer(self, scope: Message, receive: Receive, send: Send) -> None:
        path, party = scope["path"], ""
        try:
            limit = BODY_LIMITS.get(path)
            if limit is None or scope["method"] != "POST":
                raise Refusal(HTTPStatus.NOT_FOUND, "not-found")
            application = self._application
            if application is None:
                raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "no-run")
            headers = dict(scope["headers"])
            party = application.identify(headers)
            length = declared_length(headers, limit)
            pieces: Sequence[Piece]
            if length > LARGE:  # only push-object may be
                async with self._lanes[party]:
                    pieces = await pass_on(receive, length, partial(application.upload, party))
            else:
                body = b"".join([piece async for piece in pieces_of(receive)])
                if path == LINE:
                    return await _hold(application, party, body, receive, send)
                pieces = application.answer(party, path, body)
        except Refusal as refusal:
            log.warning(refusal.code, party=party, path=path, detail=refusal.detail)
            body = json.dumps({"code": refusal.code}).encode()
            await respond(send, refusal.status, [body], b"application/json")
        except Exception:
            log.exception("request-failed", party=party, path=path)
            body = b'{"code": "request-failed"}'
            await respond(send, HTTPStatus.INTERNAL_SERVER_ERROR, [body], b"application/json")
        else:
            async with self._lanes[party]:
                await respond(send, HTTPStatus.OK, pieces, b"application/protobuf")


class _Connection(HttpToolsProtocol):
    """A connection that ends unless its first request, which carries a key, comes soon."""

    # uvicorn narrows the base class's transport.
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._since = self.loop.time()
        self.loop.call_later(_FIRST_REQUEST_S, self._end_if_silent)
        silent = [other for other in self.connections if _is_silent(other)]
        if 2 * len(silent) > _CONNECTIONS:  # the other half is for those who have spoken
            min(silent, key=lambda other: other._since)._end_if_silent()

    def _end_if_silent(self) -> None:
        if _is_silent(self):
            self.connections.discard(self)
            self.transport.abort()


class _Server(uvicorn.Server):
    """Says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        finally:
            self.ready.set()


def _is_silent(connection: object) -> TypeGuard[_Connection]:
    return isinstance(connection, _Connection) and connection.cycle is None


async def _hold(
    application: Application, party: str, body: bytes, receive: Receive, send: Send
) -> None:
    line = Line(asyncio.get_running_loop())
    application.opened(party, line, body)
    gone = asyncio.ensure_future(_disconnected(receive))
    try:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        frame = ALIVE
        while frame != END:
            await send({"type": "http.response.body", "body": frame, "more_body": True})
            following = asyncio.ensure_future(line.next_frame())
            await asyncio.wait({gone, following}, return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                following.cancel()
                return
            frame = following.result()
        await send({"type": "http.response.body", "body": END})
    finally:
        gone.cancel()
        application.closed(party, line)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Accepted connections inherit these: three probes, 3 s apart, after 5 silent seconds.
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 5)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 3)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 14_000)  # ms
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise TransportError("address-in-use", f"{host}:{port}: {error}") from error
    return listening
