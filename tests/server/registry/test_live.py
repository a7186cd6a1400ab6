"""`/live`: few streams a person, none after the session; left in the middle of anything."""

import asyncio
import gc
from typing import Any

import pytest
from sqlalchemy import QueuePool, event

from accord_server.registry.app import create_app
from accord_server.registry.context import Registry
from accord_server.registry.web import live
from tests.server.registry.persons import Browser, join, on_sqlite
from tests.server.registry.stack import Stack
from tests.server.registry.test_pages import until


def asking(browser: Browser) -> dict[str, Any]:
    """The request for a stream, as ASGI has it."""
    cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    return {
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


@on_sqlite
@pytest.mark.usefixtures("quick_passwords")
def test_streams_are_few_by_person_and_end_with_the_session(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "BEAT_S", 0.02)
    monkeypatch.setattr(live, "GAP_S", 0.0)
    monkeypatch.setattr(live, "MOST", 2)
    browser = join(stack, stack.world.coordinator, "owner", "olga")
    scope, registry = asking(browser), stack.app.state.registry
    heard: list[bytes] = []

    async def listen() -> None:
        asked: list[dict[str, Any]] = [{"type": "http.request", "body": b""}]

        async def receive() -> dict[str, Any]:
            if not asked:
                await asyncio.Event().wait()
            return asked.pop()

        async def send(message: Any) -> None:
            heard.append(message.get("body", b""))

        await stack.app(dict(scope), receive, send)

    assert stack.http.portal is not None
    streams = [stack.http.portal.start_task_soon(listen) for _ in range(2)]
    until(lambda: registry.listening.total() == 2)
    refused = browser.call("GET", "/live")
    assert (refused.status_code, refused.json()["code"]) == (429, "too-many-streams")
    stack.http.portal.call(registry.changes.announce, [])
    until(lambda: any(b"changed" in event for event in heard))
    assert set(heard) <= {b"", b"event: beat\ndata:\n\n", b"event: changed\ndata:\n\n"}
    heard.clear()
    scope["query_string"] = b"seen=1"  # as a page that was read before the change
    monkeypatch.setattr(live, "MOST", 3)
    streams.append(stack.http.portal.start_task_soon(listen))
    until(lambda: any(b"changed" in event for event in heard))
    session = browser.call("GET", "/v1/sessions").json()[0]["id"]
    assert browser.call("DELETE", f"/v1/sessions/{session}").status_code == 204
    for stream in streams:
        stream.result(20)
    assert not registry.listening


@pytest.mark.usefixtures("quick_passwords")
def test_a_reader_who_leaves_breaks_no_connection(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "BEAT_S", 0.01)  # the session is looked at each time
    monkeypatch.setattr(live, "GAP_S", 0.0)
    scope = asking(join(stack, stack.world.coordinator, "owner", "olga"))
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
