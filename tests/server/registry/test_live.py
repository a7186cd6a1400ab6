"""`/live` is left in the middle of anything; the registry's connections survive that."""

import asyncio
import gc
from typing import Any

import pytest
from sqlalchemy import QueuePool, event

from accord_server.registry.app import create_app
from accord_server.registry.context import Registry
from accord_server.registry.web import live
from tests.server.registry.persons import join
from tests.server.registry.stack import Stack


@pytest.mark.usefixtures("quick_passwords")
def test_a_reader_who_leaves_breaks_no_connection(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "BEAT_S", 0.01)  # the session is looked at each time
    cookies = join(stack, stack.world.coordinator, "owner", "olga").cookies
    cookie = "; ".join(f"{name}={value}" for name, value in cookies.items())
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "https",
        "path": "/live",
        "query_string": b"",
        "headers": [(b"host", b"registry.test"), (b"cookie", cookie.encode())],
        "client": ("127.0.0.1", 1),
        "server": ("registry.test", 443),
    }
    troubles: list[dict[str, Any]] = []

    async def story() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, told: troubles.append(told))
        app = create_app(stack.settings)
        registry = app.state.registry
        assert isinstance(registry, Registry)
        engine = registry.database._engine.sync_engine
        assert isinstance(engine.pool, QueuePool)
        lost: list[object] = []
        event.listen(engine, "invalidate", lambda *told: lost.append(told))

        async def visit() -> None:
            streaming, gone = asyncio.Event(), asyncio.Event()
            asked = [{"type": "http.request", "body": b""}]

            async def receive() -> dict[str, Any]:
                if asked:
                    return asked.pop()
                await gone.wait()
                return {"type": "http.disconnect"}

            async def send(message: Any) -> None:
                if message.get("body"):
                    streaming.set()

            serving = asyncio.create_task(app(scope, receive, send))
            await streaming.wait()

            def leave(*_: object) -> None:
                gone.set()

            event.listen(engine, "before_cursor_execute", leave)
            await registry.changes.announce([])
            await serving
            event.remove(engine, "before_cursor_execute", leave)

        try:
            for _ in range(5):
                await visit()
            while engine.pool.checkedout():
                await asyncio.sleep(0.001)
            assert lost == []
        finally:
            await registry.database.close()

    async def bounded() -> None:
        async with asyncio.timeout(20):
            await story()

    asyncio.run(bounded())
    gc.collect()
    assert troubles == []
