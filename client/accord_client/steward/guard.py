"""What every request passes before anything else: whose it is, where it was meant for, from where.

Guarantees: no request is answered but from this machine and this user (`peers`), and under a name
of this address: a name that somebody else's server resolves to 127.0.0.1 (DNS rebinding) is
refused. No page of another origin reads or causes anything, another port of this host included
(Fetch Metadata, and Origin on whatever is no GET). Bodies are JSON with a length that the server
holds them to, at most `MAX_BODY_BYTES`. Every answer, of failures too, carries the pages' headers.
"""

from collections.abc import Callable, Collection
from http import HTTPStatus
from ipaddress import ip_address

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from accord_client.steward.answers import problem
from accord_client.steward.peers import Address
from accord_common.errors import AccordError, FormatError, PolicyError, UsageError
from accord_common.web.rendering import HEADERS

MAX_BODY_BYTES = 16 << 10  # a passphrase, a reason of 2,000 characters, a hash
SAFE = ("GET", "HEAD")
_OWN_SITE = ("same-origin", "none")  # none: typed, or from a bookmark or a terminal


class Guard:
    """ASGI middleware around the whole application.

    Args:
        app: what it guards.
        uid_of: the user at the other end, by both ends of the connection.
        uids: who may ask.
    """

    def __init__(
        self,
        app: ASGIApp,
        uid_of: Callable[[Address, Address], int | None],
        uids: Collection[int],
    ) -> None:
        self._app = app
        self._uid_of = uid_of
        self._uids = uids

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        if scope["type"] != "http":
            return None  # no WebSocket

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        error = self._refused(scope)
        if error is None:
            return await self._app(scope, receive, answer)
        accepted = Headers(scope=scope).get("accept-language")
        return await problem(error, HTTPStatus(error.status), accepted)(scope, receive, answer)

    def _refused(self, scope: Scope) -> AccordError | None:
        peer, here = scope["client"], scope["server"]
        if not ip_address(peer[0]).is_loopback or self._uid_of(peer, here) not in self._uids:
            return PolicyError(
                "other-user",
                "this page answers only the user who started it, on this machine",
                hint="Start accord-node steward as yourself, or with sudo from your own account.",
            )
        headers = Headers(scope=scope)
        names = names_of(here[1])
        host = headers.get("host", "").lower()
        if host not in names:
            return PolicyError("wrong-host", f"asked for as {host!r}; this is {', '.join(names)}")
        if headers.get("sec-fetch-site", "none") not in _OWN_SITE:
            return PolicyError("cross-site", "another page asked for this one")
        return None if scope["method"] in SAFE else _refused_change(headers, host)


def names_of(port: int) -> tuple[str, ...]:
    """What a browser may call this address."""
    return f"127.0.0.1:{port}", f"localhost:{port}", f"[::1]:{port}"


def _refused_change(headers: Headers, host: str) -> AccordError | None:
    if headers.get("origin") != f"http://{host}":
        return PolicyError("cross-site", "what changes something comes from this page alone")
    if headers.get("content-type", "").partition(";")[0] != "application/json":
        return UsageError("bad-request", "the body is not application/json")
    length = headers.get("content-length", "0")
    stated = length.isdigit() and "transfer-encoding" not in headers
    if not stated or int(length) > MAX_BODY_BYTES:
        return FormatError("too-large", f"a body has a length, at most {MAX_BODY_BYTES} bytes")
    return None
