"""The table of decisions, cell by cell, against the real application."""

import re
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from fastapi import APIRouter, Depends

from accord_common.fields import new_id
from accord_common.joining import parse_invitation
from accord_server.registry import app as application
from accord_server.registry.access import decisions
from accord_server.registry.access.decisions import ANYONE, DECISIONS, HALF, PENDING
from accord_server.registry.auth import Allow
from accord_server.registry.web import live
from accord_server.registry.web.visit import Visit
from tests.server.registry.persons import Browser, join, on_sqlite
from tests.server.registry.stack import Stack
from tests.world import make_actor

pytestmark = pytest.mark.usefixtures("quick_passwords")
REFUSED = {
    PENDING: {"pending-approval"},
    HALF: {"second-factor-required"},
}


class Machine:
    """A party's daemon: a bearer token."""

    def __init__(self, stack: Stack, token: str) -> None:
        self._stack = stack
        self._headers = {"Authorization": f"Bearer {token}"}

    def call(self, method: str, path: str) -> httpx.Response:
        self._stack.http.cookies.clear()
        answer: httpx.Response = self._stack.http.request(method, path, headers=self._headers)
        return answer


def callers(stack: Stack) -> Iterator[tuple[str, Machine | Browser]]:
    """Somebody for each column, the registry asking stewards for a second factor."""
    world = stack.world
    hospital = world.hospitals[0]
    coordinator = stack.client(world.coordinator)
    auditor, newcomer = make_actor("inspectors", "auditor"), make_actor("new", "data-holder")
    stack.join(auditor, coordinator.invite("auditor", auditor.name).code)
    code = coordinator.invite("data-holder", newcomer.name).code
    stack.join(newcomer, code, approve=False)
    machines = {
        PENDING: newcomer,
        "coord": world.coordinator,
        "holder": hospital,
        "aggr": world.aggregator,
        "audit": auditor,
    }
    for column, actor in machines.items():
        yield column, Machine(stack, stack.tokens[actor.id])
    yield "oper", join(stack, world.coordinator, "owner", "oona")
    yield "owner", join(stack, hospital, "owner", "olga")
    yield "coor", join(stack, world.coordinator, "coordinator", "carl")
    yield "audi", join(stack, auditor, "auditor", "anna")
    yield "stew", join(stack, hospital, "steward", "stella")
    settings = stack.settings.model_copy(update={"second_factor": ("steward",)})
    object.__setattr__(stack.app.state.registry, "settings", settings)
    yield HALF, join(stack, hospital, "steward", "henry")


def url(path: str) -> str:
    ids = {"name": "ab" * 32, "record_hash": "ab" * 32, "agreement_hash": "ab" * 32}
    return re.sub(r"{(\w+)}", lambda name: ids.get(name[1], new_id()), path)


@on_sqlite
def test_each_cell_is_what_the_registry_does(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody gets in without a credential; who is denied is refused before anything is read."""

    async def one_beat(
        _: Visit, seen: int
    ) -> AsyncIterator[bytes]:  # a stream that ends can be read here
        yield b"event: beat\ndata:\n\n"

    monkeypatch.setattr(live, "_events", one_beat)
    for (method, path), row in DECISIONS.items():
        if row.public:
            continue
        for headers in ({}, {"Authorization": "Bearer accord_made-up-token-0000"}):
            answer = stack.http.request(method, url(path), headers=headers)
            assert answer.status_code == 401, (method, path)
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.headers["www-authenticate"] == "Bearer"
    tried = 0
    for column, caller in callers(stack):
        for (method, path), row in DECISIONS.items():
            if row.public:
                continue
            cell = row.cells[column]
            if column == PENDING and row.cells["holder"] == "-":
                cell = "-"
            ends_session = method == "DELETE" and path.startswith("/v1/sessions")
            answer = caller.call(method, url(path))
            code = answer.json().get("code") if answer.status_code == 403 else None
            where = (column, method, path, answer.status_code, code)
            if cell == "-":
                assert code in REFUSED.get(column, {"wrong-role"}), where
            else:
                refusals = {"wrong-role", "pending-approval", "second-factor-required"}
                own_only = column == PENDING and path == "/v1/partners/{party}"
                assert answer.status_code != 401 and (own_only or code not in refusals), where
                assert answer.status_code < 500, where
            assert not ends_session or answer.status_code in {403, 404}
            tried += 1
    others = set(next(iter(DECISIONS.values())).cells) - {ANYONE}
    asked = [row for row in DECISIONS.values() if not row.public]
    assert tried == len(others) * len(asked)


@on_sqlite
def test_the_registry_does_not_start_with_a_route_that_nobody_decided_on(
    empty: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgotten = APIRouter()
    forgotten.add_api_route("/v1/forgotten", lambda: None, dependencies=[Depends(Allow())])
    with monkeypatch.context() as more:
        more.setattr(application, "ROUTERS", (*application.ROUTERS, forgotten))
        with pytest.raises(RuntimeError, match="GET /v1/forgotten has no row"):
            application.create_app(empty.settings)
    with monkeypatch.context() as fewer:
        fewer.setattr(application, "ROUTERS", application.ROUTERS[:-1])
        with pytest.raises(RuntimeError, match=r"no route .'GET', '/'. is there"):
            application.create_app(empty.settings)


@on_sqlite
def test_nor_where_a_route_asks_nobody_or_anybody(
    empty: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, live = DECISIONS["GET", "/v1/runs"], DECISIONS["GET", "/livez"]
    for key, row in ((("GET", "/v1/runs"), live), (("GET", "/livez"), runs)):
        with monkeypatch.context() as changed:
            changed.setitem(DECISIONS, key, row)
            with pytest.raises(RuntimeError, match=f"{key[1]} is (not )?for anyone, and"):
                application.create_app(empty.settings)


@pytest.mark.parametrize(
    "line",
    ["GET /v1/runs all", "GET /v1/runs " + "- " * 12 + "everything", "GET /x " + "yes " * 12 + "-"],
)
def test_a_row_that_does_not_read_is_refused(line: str) -> None:
    header = next(line for line in decisions._TABLE.splitlines() if line.strip())
    with pytest.raises(RuntimeError, match="does not read"):
        decisions._read(f"{header}\n{line}\n")


def test_an_auditor_reads_everything_and_changes_nothing() -> None:
    """But for its own account, its own organisation's people, and what its party signs."""
    own = ("/v1/me", "/v1/sessions", "/v1/tokens")
    models_and_inbox = {"/v1/blobs/{name}", "/v1/inbox"}  # by agreement; what waits for oneself
    for (method, path), row in DECISIONS.items():
        if row.public or path.startswith(own):
            continue
        if not path.startswith("/v1/"):  # a page: no machine reads it
            assert (row.cells["audi"], row.cells["audit"]) == ("all", "-"), path
        elif method == "GET" or path.endswith("/check"):  # which asks, and changes nothing
            wanted = "own" if path in models_and_inbox else "all"
            assert row.cells["audi"] == row.cells["audit"] == wanted, path
        else:
            assert row.cells["audi"] == "-", path


def test_nobody_elses_budget_drafts_or_runs_are_a_stewards() -> None:
    asked = [(key, row) for key, row in DECISIONS.items() if not row.public]
    assert {key for key, row in asked if row.cells["stew"] == "all"} == {
        *(("GET", f"/v1/log/{name}") for name in ("checkpoint", "checkpoint.jsonl")),
        *(("GET", f"/v1/log/{name}") for name in ("checkpoints", "consistency")),
        ("POST", "/v1/log/check"),
        ("GET", "/partners"),
        ("GET", "/partners/{party}"),
        ("GET", "/datasets"),
        ("GET", "/v1/partners"),
        ("GET", "/v1/partners/{party}"),
        ("GET", "/v1/datasets"),
    }


@on_sqlite
def test_a_pending_party_keeps_to_its_own_column(empty: Stack) -> None:
    """Its people have no more than people, its machine no more than a machine."""
    world = empty.world
    empty.join(world.coordinator, parse_invitation(empty.first_invitation).code)
    person = join(empty, world.coordinator, "owner", "oona")
    row = DECISIONS["PUT", "/v1/trust"]
    assert row.cells[PENDING] == "own" and row.cells["oper"] == "-"
    assert person.call("PUT", "/v1/trust").json()["code"] == "wrong-role"
