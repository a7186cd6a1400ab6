"""`/live`: tells an open page that something changed, so that it asks for itself again.

Guarantees: what changed is not said; the page's own request decides what its reader may see. The
stream ends with the session, with what its reader may read, and with the registry. A
reader learns when others' records arrive at the registry, and nothing else of them.
"""

import asyncio
from collections.abc import AsyncIterator

from starlette.responses import StreamingResponse

from accord_common.errors import AuthError, PolicyError
from accord_server.registry.access.credentials import COOKIE
from accord_server.registry.access.decisions import DECISIONS
from accord_server.registry.auth import decide
from accord_server.registry.changes import EVERYTHING
from accord_server.registry.sessions.principals import by_session
from accord_server.registry.web.visit import Visit

BEAT_S = 5.0  # the page takes three of them missing for a lost connection
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def stream(visit: Visit) -> StreamingResponse:
    """Answer with server-sent events (WHATWG HTML, 9.2): `changed`, and `beat` in between."""
    return StreamingResponse(_events(visit), headers=_HEADERS, media_type="text/event-stream")


async def _events(visit: Visit) -> AsyncIterator[bytes]:
    changes, cookie = visit.registry.changes, visit.request.cookies[COOKIE]
    seen = changes.version(EVERYTHING)
    yield _event("beat")
    while not changes.closed:
        await changes.wait(EVERYTHING, seen, BEAT_S)
        try:
            # Whoever leaves cancels this; a connection in the middle of a statement would be lost.
            reader = await asyncio.shield(by_session(visit.registry, cookie))
            decide(reader, DECISIONS["GET", "/live"])  # its party may be suspended by now
        except (AuthError, PolicyError):
            return
        newest = changes.version(EVERYTHING)
        yield _event("beat" if newest == seen else "changed")
        seen = newest


def _event(name: str) -> bytes:
    return f"event: {name}\ndata:\n\n".encode()
