"""`/live`: tells an open page that something changed, so that it asks for itself again.

Guarantees: what changed is not said; the page's own request decides what its reader may see. The
stream ends within `BEAT_S` of the session's end or of its reader's right to read, and with the
registry. A reader learns when others' records arrive at the registry, and nothing else of them.
However much changes, a stream costs an event each `GAP_S` and a look at its session each `BEAT_S`;
a person has `MOST` streams. What only time changes (a node that fell silent) the page asks for by
itself.
"""

import asyncio
import time
from collections.abc import AsyncIterator

from starlette.responses import StreamingResponse

from accord_common.errors import AuthError, LimitError, PolicyError
from accord_server.registry.access.credentials import COOKIE
from accord_server.registry.access.decisions import DECISIONS
from accord_server.registry.auth import decide
from accord_server.registry.changes import EVERYTHING
from accord_server.registry.faults import DatabaseFault
from accord_server.registry.sessions.principals import by_session
from accord_server.registry.web.visit import Visit

BEAT_S = 5.0  # the page takes three of them missing for a lost connection
GAP_S = 0.7  # a page asks no more often
MOST = 30  # tabs in sight; a tab that is not lets go of its stream
_NOTHING = "nothing"  # a topic of which nobody tells: the registry's end alone wakes who waits
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def stream(visit: Visit, seen: int | None) -> StreamingResponse:
    """Answer with server-sent events (WHATWG HTML, 9.2): `changed`, and `beat` in between.

    Args:
        visit: by whom.
        seen: the version that the page shows: what changed before it listens, or while it was cut
            off, is told at once. None is the present one.

    Raises:
        LimitError: `too-many-streams`.
    """
    if visit.registry.listening[visit.person.id] >= MOST:
        raise LimitError(
            "too-many-streams",
            f"{MOST} pages of yours are kept up to date already",
            hint="Close some tabs; this one asks by itself meanwhile.",
            retry_s=round(6 * BEAT_S),
        )
    return StreamingResponse(
        _counted(visit, seen), headers=_HEADERS, media_type="text/event-stream"
    )


async def _counted(visit: Visit, seen: int | None) -> AsyncIterator[bytes]:
    listening, person = visit.registry.listening, visit.person.id
    listening[person] += 1
    try:
        async for event in _events(visit, seen):
            yield event
    finally:
        listening[person] -= 1
        if not listening[person]:
            del listening[person]


async def _events(visit: Visit, seen: int | None) -> AsyncIterator[bytes]:
    changes, cookie = visit.registry.changes, visit.request.cookies[COOKIE]
    seen = visit.seen if seen is None else seen
    checked = time.monotonic()
    yield _event("beat")
    while not changes.closed:
        await changes.wait(EVERYTHING, seen, BEAT_S)
        if time.monotonic() - checked >= BEAT_S:
            try:
                # Whoever leaves cancels this; a connection in mid-statement would be lost.
                reader = await asyncio.shield(by_session(visit.registry, cookie))
                decide(reader, DECISIONS["GET", "/live"])  # its party may be suspended by now
            except (AuthError, PolicyError, DatabaseFault):
                return  # a reader comes back, and is told why not
            checked = time.monotonic()
        newest = changes.version(EVERYTHING)
        yield _event("beat" if newest == seen else "changed")
        if newest != seen:
            seen = newest
            await changes.wait(_NOTHING, changes.version(_NOTHING), GAP_S)


def _event(name: str) -> bytes:
    return f"event: {name}\ndata:\n\n".encode()
