"""Bodies of requests and responses: small ones whole, large ones in pieces.

Guarantees: a body is never longer than was declared and allowed; of a large one, memory holds what
is under way, about 256 KiB, at the speed of whoever takes it; a sender who falls silent is cut off.

Reading from and writing to the disk is done by threads, so that it never holds up other nodes.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping, Sequence
from http import HTTPStatus
from typing import Any, Protocol

from accord_common.bulk import Body

LARGE = 64 << 10  # bytes; a body above that is passed on as it comes
_START = 1 << 10  # bytes; what stands before the object in a push-object is some 150
_BATCH = 256 << 10  # bytes read or written at once; with more, the event loop moves memory about
_STALL_S = 60.0  # as long as a node's own patience with one request

Headers = Mapping[bytes, bytes]
Message = MutableMapping[str, Any]  # an ASGI event
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Piece = bytes | Body


class Refusal(Exception):
    """A request that is answered with a status and a stable code, and changes nothing."""

    def __init__(self, status: HTTPStatus, code: str, detail: str = "") -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.detail = detail  # for the log, never for the node


class Upload(Protocol):
    """A large body on its way in. Called in worker threads, by one at a time; may raise Refusal."""

    def write(self, pieces: Sequence[bytes]) -> None:
        """Take what has come."""
        ...

    def finish(self) -> Sequence[Piece]:
        """Take note that this was all; return the pieces of the response."""
        ...


Admit = Callable[[bytes, int], Upload]
"""A body's first bytes and its length -> who takes it; raises Refusal before more is read."""


def declared_length(headers: Headers, limit: int) -> int:
    """Return what the headers say, or raise Refusal."""
    declared = headers.get(b"content-length", b"")
    if not declared.isdigit():
        raise Refusal(HTTPStatus.LENGTH_REQUIRED, "length-required")
    if int(declared) > limit:
        raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body-too-large")
    return int(declared)


async def pieces_of(receive: Receive) -> AsyncIterator[bytes]:
    """Yield a body as it comes; the HTTP parser lets no more through than was declared."""
    more = True
    while more:
        try:
            async with asyncio.timeout(_STALL_S):
                message = await receive()
        except TimeoutError as error:
            raise Refusal(HTTPStatus.REQUEST_TIMEOUT, "body-stalled") from error
        if message["type"] == "http.disconnect":
            raise Refusal(HTTPStatus.BAD_REQUEST, "body-cut-short")
        yield message.get("body", b"")
        more = message.get("more_body", False)


async def pass_on(receive: Receive, length: int, admit: Admit) -> Sequence[Piece]:
    """Hand a large body over batch by batch; nothing more is read while a batch is on its way."""
    upload: Upload | None = None
    batch: list[bytes] = []
    size = 0
    async for piece in pieces_of(receive):
        batch.append(piece)
        size += len(piece)
        if upload is None and size >= _START:
            start = b"".join(batch)
            upload = await asyncio.to_thread(admit, start, length)
            batch, size = [], 0
        elif upload is not None and size >= _BATCH:
            await asyncio.to_thread(upload.write, batch)
            batch, size = [], 0
    assert upload is not None  # a body above `LARGE` has more than `_START`
    await asyncio.to_thread(upload.write, batch)
    return await asyncio.to_thread(upload.finish)


async def respond(send: Send, status: HTTPStatus, pieces: Sequence[Piece], kind: bytes) -> None:
    """Send a response; a large piece is read as it goes out."""
    bodies = [Body.of(piece) if isinstance(piece, bytes) else piece for piece in pieces]
    length = str(sum(body.size for body in bodies)).encode()
    headers = [(b"content-type", kind), (b"content-length", length)]
    if status != HTTPStatus.OK:  # its body may be unread
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": int(status), "headers": headers})
    for body in bodies:
        for start in range(0, body.size, _BATCH):
            count = min(_BATCH, body.size - start)
            if body.size > LARGE:
                part = await asyncio.to_thread(body.read, start, count)
            else:
                part = body.read(start, count)
            await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
