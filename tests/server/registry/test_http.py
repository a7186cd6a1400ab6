"""What every answer has: problems, headers, an honest OpenAPI document."""

import errno

import pytest
from sqlalchemy import Connection, event

from accord_common.canonical import sha256_hex
from accord_server.registry.app import OPENAPI, all_routes
from accord_server.registry.web.endpoints import ROUTERS as PAGES
from tests.server.registry.persons import on_sqlite
from tests.server.registry.stack import Stack


def test_failures_are_problems_whoever_finds_them(stack: Stack) -> None:
    token = stack.tokens[stack.world.coordinator.id]
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    expected = {
        ("GET", "/v1/nowhere", ""): (404, "no-such-path"),
        ("DELETE", "/v1/runs", ""): (405, "no-such-method"),
        ("GET", "/v1/runs/not-an-id", ""): (422, "bad-request"),
        ("GET", "/v1/records?limit=501", ""): (422, "bad-request"),
        ("GET", "/v1/inbox?wait=31", ""): (422, "bad-request"),
        ("POST", "/v1/invitations", "{"): (422, "bad-request"),
        ("POST", "/v1/invitations", '{"role": "auditor", "name": "x", "admin": true}'): (
            422,
            "bad-request",
        ),
        ("POST", "/v1/records", '{"envelope": {"payload": ""}}'): (400, "bad-record"),
        ("POST", "/v1/records", '{"envelope": 1.5}'): (400, "not-canonical"),
    }
    for (method, path, body), (status, code) in expected.items():
        answer = stack.http.request(method, path, content=body, headers=headers)
        problem = answer.json()
        assert (answer.status_code, problem["code"]) == (status, code), path
        assert answer.headers["content-type"] == "application/problem+json"
        assert set(problem) == {"type", "title", "status", "detail", "code", "hint", "error"}
        assert problem["status"] == status and problem["type"] == f"urn:accord:problem:{code}"


def test_a_full_disk_is_told_and_keeps_nothing(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = stack.tokens[stack.world.coordinator.id]
    headers = {"Authorization": f"Bearer {token}"}

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("accord_server.registry.blobs.repository.put_in_place", full)
        told = stack.http.put(f"/v1/blobs/{sha256_hex(b'x')}", content=b"x", headers=headers)
    assert (told.status_code, told.json()["code"]) == (507, "registry-disk-full")


@on_sqlite  # its size can be bounded
def test_a_database_that_cannot_grow_is_told(stack: Stack) -> None:
    headers = {"Authorization": f"Bearer {stack.tokens[stack.world.coordinator.id]}"}

    @event.listens_for(stack.app.state.registry.database._engine.sync_engine, "begin")
    def no_larger(connection: Connection) -> None:
        connection.exec_driver_sql("PRAGMA max_page_count = 1")  # means: as large as it is

    for number in range(1000):
        invited = {"role": "auditor", "name": f"{number} " + "x" * 80}
        told = stack.http.post("/v1/invitations", json=invited, headers=headers)
        if told.is_error:
            break
    assert (told.status_code, told.json()["code"]) == (507, "registry-disk-full")
    assert "make room" in told.json()["hint"] and "sqlite" not in told.text
    assert stack.http.get("/readyz").status_code == 200


def test_a_bad_request_is_not_quoted(stack: Stack) -> None:
    body = {"code": "short-secret", "enrolment": 1, "unknown": "another-secret"}
    answer = stack.http.post("/v1/enrolments", json=body)
    assert answer.status_code in {400, 422}
    assert "secret" not in answer.text


def test_answers_carry_security_headers(stack: Stack) -> None:
    for path in ("/livez", "/v1/runs", "/v1/nowhere"):
        headers = stack.http.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert headers["strict-transport-security"].startswith("max-age=")
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert "server" not in headers


def test_health_and_info_are_for_anybody(empty: Stack) -> None:
    assert empty.http.get("/livez").json() == {"status": "ok"}
    assert empty.http.get("/readyz").json() == {"status": "ok"}
    info = empty.client().info()
    assert (info.protocol, info.log_key) == (1, empty.world.log_key.public)
    assert empty.http.get("/v1/ca.pem").content == empty.settings.ca.read_bytes()


def test_every_call_is_described(empty: Stack) -> None:
    document = empty.http.get(OPENAPI).json()
    described = {
        (method.upper(), path) for path, calls in document["paths"].items() for method in calls
    }
    shown = [route for pages in PAGES for route in pages.routes]
    assert described == {
        (method, route.path)
        for route in all_routes()
        for method in route.methods or ()
        if route not in shown  # which are for people
    }
    for path, calls in document["paths"].items():
        for method, call in calls.items():
            assert call["summary"] and call["description"], (method, path)
            assert "application/problem+json" in call["responses"]["default"]["content"]
