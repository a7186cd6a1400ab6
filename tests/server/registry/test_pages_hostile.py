"""Pages under odd addresses, odd hosts and crowds: an answer in words each time, and soon."""

import asyncio

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from accord_server.registry import limits
from accord_server.registry.metrics import Metrics
from tests.server.registry.persons import Browser, join
from tests.server.registry.stack import URL, Stack, run_id
from tests.server.registry.test_pages import HTML, PAGES

ODD = ("%00", "9007199254740991", "%0d%0aSet-Cookie:x=1")
ASKED = {
    "/runs": "state title after",
    "/runs/{run}": "attempt show line level",
    "/runs/compare": "run",
    "/models": "after",
    "/datasets": "after duo party column",
    "/audit": "kind run agreement before",
    "/feed": "before",
    "/people": "after happened",
}


@pytest.fixture
def owner(stack: Stack, quick_passwords: None) -> Browser:
    return join(stack, stack.world.coordinator, "owner", "olga")


def test_odd_parameters_and_paths_are_answered_in_words(stack: Stack, owner: Browser) -> None:
    run = run_id(stack, stack.start(stack.offer()))
    asked = [
        f"{path.format(run=run)}?{name}={odd}"
        for path, names in ASKED.items()
        for name in names.split()
        for odd in ODD
    ]
    within = [path.partition("{")[0] + odd for path in PAGES if "{" in path for odd in ODD[:1]]
    for address in (*asked, *within, "/nowhere", "/runs/", "/models/", "/?language=%00"):
        answer = owner.call("GET", address, headers=HTML)
        assert answer.status_code < 500 and not answer.history, (address, answer.status_code)
        assert answer.headers["content-type"].startswith("text/html"), address
        assert "set-cookie" not in answer.headers or "language" in address
    assert owner.call("GET", "/nowhere").json()["code"] == "no-such-path"  # a program


def test_no_answer_names_the_host_that_a_request_names(owner: Browser) -> None:
    for path in ("/", "/runs/", "/sign-in", "/nowhere", "/v1/runs/"):
        answer = owner.call("GET", path, headers={**HTML, "Host": "evil.example"})
        assert not answer.history and "evil.example" not in answer.text + str(answer.headers), path


def test_who_looks_at_pages_leaves_the_api_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages beyond those made at a time wait, or are told to; a slow reader holds no place."""
    made = limits.PAGES_AT_ONCE
    inside: list[str] = []
    begun, read = asyncio.Event(), asyncio.Event()

    async def app(scope: Scope, _: Receive, send: Send) -> None:
        inside.append(scope["path"])
        await begun.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await read.wait()
        await send({"type": "http.response.body", "body": b""})

    async def story() -> None:
        asgi = httpx.ASGITransport(limits.Limits(app, Metrics()))
        async with httpx.AsyncClient(transport=asgi, base_url=URL) as http:

            def ask(path: str, count: int) -> list[asyncio.Task[httpx.Response]]:
                return [asyncio.create_task(http.get(path)) for _ in range(count)]

            first = ask("/runs", made)
            while len(inside) < made:
                await asyncio.sleep(0)
            monkeypatch.setattr(limits, "PATIENCE_S", 0.01)
            (late,) = ask("/runs", 1)
            assert "too-many-pages" in (await late).text
            asked = ask("/v1/runs", 1)
            while inside[-1] != "/v1/runs":
                await asyncio.sleep(0)
            monkeypatch.setattr(limits, "PATIENCE_S", 20)
            second = ask("/runs", made)
            begun.set()  # answers begin, and nobody reads them
            while len(inside) < 2 * made + 1:
                await asyncio.sleep(0)
            read.set()
            answers = await asyncio.gather(*first, *second, *asked)
            assert {answer.status_code for answer in answers} == {200}

    async def bounded() -> None:
        async with asyncio.timeout(20):
            await story()

    asyncio.run(bounded())
