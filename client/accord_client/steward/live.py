"""`/live`: tells an open page that something changed, so that it asks for itself again.

Guarantees: what changed is not said. The stream ends with the session, and with the process; it
keeps no session open.
"""

import asyncio
import time
from collections.abc import AsyncIterator

from starlette.responses import StreamingResponse

from accord_client.steward.visit import Visit
from accord_common.errors import AuthError

BEAT_S = 5.0  # the page takes three of them missing for a lost connection
_LOOK_S = 0.5  # how long after a change the page may learn of it
_HEADERS = {"X-Accel-Buffering": "no"}


def stream(visit: Visit) -> StreamingResponse:
    """Answer with server-sent events (WHATWG HTML, 9.2): `changed`, and `beat` in between."""
    visit.session(step=False)
    return StreamingResponse(_events(visit), headers=_HEADERS, media_type="text/event-stream")


async def _events(visit: Visit) -> AsyncIterator[bytes]:
    node = visit.node
    seen, said = node.mark(), time.monotonic()
    yield _event("beat")
    # In asyncio's own threads: however many tabs wait here, pages are made in others.
    while not await asyncio.to_thread(node.closing.wait, _LOOK_S):
        try:
            visit.session(step=False)
        except AuthError:
            return
        newest = node.mark()
        if newest != seen:
            seen, said = newest, time.monotonic()
            yield _event("changed")
        elif time.monotonic() - said >= BEAT_S:
            said = time.monotonic()
            yield _event("beat")


def _event(name: str) -> bytes:
    return f"event: {name}\ndata:\n\n".encode()
