"""HTTP connections whose clients say what they want.

Guarantees: whoever has not sent a request's head within `HEAD_S`, of a new connection or after its
first byte of another, is hung up on, however slowly the bytes come; a connection that is kept alive
between requests is uvicorn's to end. Bodies have a bound of their own (`limits`).

Not covered: as many connections as the system allows, each in time; that is a firewall's.
"""

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.auto import AutoHTTPProtocol

HEAD_S = 30.0  # a TLS handshake is over by then; a head is some hundred bytes


class _Prompt:
    """What comes before uvicorn's own protocol; `cycle` is its request in progress."""

    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    cycle: Any
    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Expect the first head."""
        cast(Any, super()).connection_made(transport)
        self._expect()

    def data_received(self, data: bytes) -> None:
        """Expect the rest of a head where no request is in progress."""
        before = self.cycle
        if self._late is None and (before is None or before.response_complete):
            self._expect()
        cast(Any, super()).data_received(data)
        if self.cycle is not before:
            self._settle()

    def connection_lost(self, error: Exception | None) -> None:
        """Expect nothing more."""
        self._settle()
        cast(Any, super()).connection_lost(error)

    def _expect(self) -> None:
        self._late = self.loop.call_later(HEAD_S, self.transport.abort)

    def _settle(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


PROTOCOL = cast(type[asyncio.Protocol], type("PromptHttp", (_Prompt, AutoHTTPProtocol), {}))
