"""What every request and answer passes: body limits, security headers, a count, one log line.

Guarantees: no body over its limit reaches a handler, whatever length it claims; no header, query or
body is logged, so no token is.
"""

import time

import structlog
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from accord_common.api.schemas import MAX_BLOB_BYTES, MAX_JSON_BYTES
from accord_server.registry.metrics import Metrics

_BLOBS = "/v1/blobs/"
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

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.monotonic()
        status = 500
        limit = MAX_BLOB_BYTES if scope["path"].startswith(_BLOBS) else MAX_JSON_BYTES
        scope.setdefault("state", {})

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self._app(scope, _limited(scope, receive, limit), answer)
        finally:
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
