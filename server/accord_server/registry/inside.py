"""The registry's client, inside the registry: verifying code asks the routes, as the same caller.

Guarantees: every request carries the credential that came in, so what is read is what the caller
may read; nothing leaves the process.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any

import httpx
from fastapi import Request

from accord_common.api.client import RegistryClient
from accord_server.registry.context import Registry

_KEPT = ("cookie", "authorization")


def client(request: Request, registry: Registry) -> RegistryClient:
    """A client for a thread, while this loop serves it."""
    inside = _Inside(request, asyncio.get_running_loop())
    return RegistryClient(registry.settings.url, registry.ca_pem, transport=inside)


class _Inside(httpx.BaseTransport):
    """Carries a thread's requests to this application."""

    def __init__(self, request: Request, loop: asyncio.AbstractEventLoop) -> None:
        self._asgi = httpx.ASGITransport(app=request.app)
        self._loop = loop
        self._headers = {
            name: value for name in _KEPT if (value := request.headers.get(name)) is not None
        }

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer as the application does."""
        request.headers.update(self._headers)
        return self._do(self._ask(request))

    async def _ask(self, request: httpx.Request) -> httpx.Response:
        answer = await self._asgi.handle_async_request(request)
        body = await answer.aread()
        return httpx.Response(answer.status_code, headers=answer.headers, content=body)

    def _do(self, work: Coroutine[Any, Any, httpx.Response]) -> httpx.Response:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()
