"""What every request and answer passes: body limits, security headers, a count, one log line.

Guarantees: no body over its limit reaches a handler, whatever length it claims; no header, query or
body is logged, so no token is. However many people look at pages, only `PAGES_AT_ONCE` are made at
a time, so that a node's or a program's request waits for those and never for all of them; a slow
reader holds no place, for it is free once the answer begins.
"""

import asyncio
import time

import structlog
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from accord_common.api.schemas import MAX_BLOB_BYTES, MAX_JSON_BYTES
from accord_common.errors import LimitError
from accord_server.registry.errors import told
from accord_server.registry.metrics import Metrics

PAGES_AT_ONCE = 3  # each has the loop for some 10 ms at a stretch
PATIENCE_S = 20.0  # whoever waits longer is told to come back
_BLOBS = "/v1/blobs/"
_NO_PAGES = ("/v1/", "/assets/", "/live", "/readyz")  # `/live` and `/livez`
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Strict-Transport-Security": "max-age=31536000",
    "X-Content-Type-Options": "nosniff",
}
_log = structlog.get_logger("accord.registry")


class Limits:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics
        self._pages = asyncio.Semaphore(PAGES_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.monotonic()
        status = 500
        limit = MAX_BLOB_BYTES if scope["path"].startswith(_BLOBS) else MAX_JSON_BYTES
        scope.setdefault("state", {})
        held = False

        async def answer(message: Message) -> None:
            nonlocal status, held
            if message["type"] == "http.response.start":
                status = message["status"]
                if held:
                    held = False
                    self._pages.release()
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            if not scope["path"].startswith(_NO_PAGES):
                held = await self._place()
                if not held:
                    await _busy(scope, receive, answer)
                    return
            await self._app(scope, _limited(scope, receive, limit), answer)
        finally:
            if held:
                self._pages.release()
            seconds = time.monotonic() - start
            self._metrics.answered(scope, status, seconds)
            _log.info(
                "request",
                method=scope["method"],
                path=scope["path"],
                status=status,
                ms=round(seconds * 1000, 1),
                party=scope["state"].get("party"),
                person=scope["state"].get("person"),
            )

    async def _place(self) -> bool:
        """Wait for a place among the pages that are made; whether there was one in time."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await self._pages.acquire()
        except TimeoutError:
            return False


async def _busy(scope: Scope, receive: Receive, send: Send) -> None:
    error = LimitError(
        "too-many-pages",
        f"more pages are asked for than are made in {PATIENCE_S:.0f} s",
        hint="Wait a little, then load the page again.",
        retry_s=round(PATIENCE_S),
    )
    await told(Request(scope), error)(scope, receive, send)


def _limited(scope: Scope, receive: Receive, limit: int) -> Receive:
    claimed = dict(scope["headers"]).get(b"content-length", b"0")
    received = 0

    async def counted() -> Message:
        nonlocal received
        if not claimed.isdigit() or int(claimed) > limit:
            raise _too_large(limit)
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise _too_large(limit)
        return message

    return counted


def _too_large(limit: int) -> HTTPException:
    return HTTPException(413, f"the body exceeds {limit} bytes")
