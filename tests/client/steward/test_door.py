"""Who comes in: links, sessions, and everybody who must not."""

import asyncio
import os
import socket
from collections.abc import Iterator

import httpx
import pytest

from accord_client.steward import door
from accord_client.steward.app import create_app
from accord_client.steward.door import Door
from accord_client.steward.guard import MAX_BODY_BYTES, Guard
from accord_client.steward.peers import own_uids, uid_of
from accord_client.steward.server import listen
from accord_common.errors import AuthError, UsageError
from tests.client.steward.conftest import Clock, Site, Visitor


def test_a_link_lets_in_once_in_time_and_only_the_newest() -> None:
    clock = Clock()
    entrance = Door(clock)
    replaced, newest = entrance.link(), entrance.link()
    for wrong in (replaced, "", newest[:-1]):
        with pytest.raises(AuthError, match=r"\[link-void\]"):
            entrance.enter(wrong)
    assert entrance.session(entrance.enter(newest), step=True).csrf
    with pytest.raises(AuthError, match=r"\[link-void\]"):
        entrance.enter(newest)
    late = entrance.link()
    clock.now += door.LINK_S + 1
    with pytest.raises(AuthError, match=r"\[link-void\]"):
        entrance.enter(late)


def test_a_session_ends_when_nobody_steps_and_at_the_end_of_the_day() -> None:
    clock = Clock()
    entrance = Door(clock)
    cookie = entrance.enter(entrance.link())
    for _ in range(3):  # a page that asks for itself again keeps nothing open
        clock.now += door.IDLE_S / 3
        entrance.session(cookie, step=False)
    clock.now += 1
    with pytest.raises(AuthError, match=r"\[signed-out\]"):
        entrance.session(cookie, step=True)
    cookie = entrance.enter(entrance.link())
    began = clock.now
    while clock.now - began < door.LONGEST_S:
        entrance.session(cookie, step=True)
        clock.now += door.IDLE_S
    with pytest.raises(AuthError, match=r"\[signed-out\]"):
        entrance.session(cookie, step=True)


def test_there_is_one_session_and_nothing_guessable_is_kept() -> None:
    entrance = Door(Clock())
    first = entrance.enter(entrance.link())
    code = entrance.link()
    second = entrance.enter(code)
    with pytest.raises(AuthError, match=r"\[signed-out\]"):
        entrance.session(first, step=True)
    entrance.session(second, step=True)
    kept = repr(vars(entrance))
    assert code not in kept and first not in kept and second not in kept
    entrance.leave()
    for cookie in (second, None, ""):
        with pytest.raises(AuthError, match=r"\[signed-out\]"):
            entrance.session(cookie, step=True)


def test_the_cookie_is_the_browsers_alone_and_signing_out_ends_it(site: Site) -> None:
    stranger = site.stranger()
    answer = stranger.post("/session", code=site.code())
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and "Domain" not in cookie
    assert cookie.startswith(f"accord-steward-{site.origin.rpartition(':')[2]}=")
    visitor = site.visitor()
    assert visitor.change("DELETE", "/session").status_code == 204
    assert visitor.http.get("/").status_code == 303


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.0.2.1", "localhost", "127.0.0.2", ""])
def test_no_other_address_is_bound(address: str) -> None:
    with pytest.raises(UsageError, match=r"\[not-loopback\]"):
        listen(address, 0)


def test_a_port_in_use_is_named() -> None:
    with listen("127.0.0.1", 0) as listening:
        with pytest.raises(UsageError, match=r"\[cannot-listen\]"):
            listen("127.0.0.1", listening.getsockname()[1])


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "localhost:1", "", "169.254.0.1"])
def test_another_name_for_this_address_is_refused(visitor: Visitor, host: str) -> None:
    answer = visitor.http.get("/", headers={"Host": host})
    assert answer.status_code == 403 and answer.json()["code"] == "wrong-host"
    assert "data-csrf" not in answer.text


def test_the_same_port_by_its_other_names_is_served(site: Site) -> None:
    port = site.origin.rpartition(":")[2]
    for name in ("localhost", "127.0.0.1", "[::1]"):
        answer = site.stranger().http.get("/enter", headers={"Host": f"{name}:{port}"})
        assert answer.status_code == 200


@pytest.mark.parametrize("origin", ["cross-site", "same-site"])
@pytest.mark.parametrize("path", ["/", "/live", "/enter", "/assets/x"])
def test_no_other_page_reads_this_one(visitor: Visitor, origin: str, path: str) -> None:
    answer = visitor.http.get(path, headers={"Sec-Fetch-Site": origin})
    assert answer.status_code == 403 and answer.json()["code"] == "cross-site"
    assert not any(name.startswith("access-control-") for name in answer.headers)


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Origin": "http://evil.example"}, "cross-site"),
        ({"Origin": "null"}, "cross-site"),
        ({"Origin": ""}, "cross-site"),
        ({"Sec-Fetch-Site": "same-site"}, "cross-site"),
        ({"Content-Type": "text/plain"}, "bad-request"),
        ({"Content-Type": "application/x-www-form-urlencoded"}, "bad-request"),
        ({"X-CSRF-Token": ""}, "bad-csrf-token"),
        ({"X-CSRF-Token": "x" * 43}, "bad-csrf-token"),
    ],
)
def test_no_other_page_changes_anything(
    visitor: Visitor, headers: dict[str, str], code: str
) -> None:
    with visitor.site.node.open() as stores:
        dataset, before = stores.datasets.all()[0].id, len(stores.ledger.rulings())
    body = {"epsilon": "1"}
    answer = visitor.change("PUT", f"/budgets/{dataset}/cap", json=body, headers=headers)
    assert answer.status_code in (400, 403) and answer.json()["code"] == code
    with visitor.site.node.open() as stores:
        assert len(stores.ledger.rulings()) == before


def test_a_body_is_bounded_and_decoded_strictly(visitor: Visitor) -> None:
    for body, code in (
        (b"x" * (MAX_BODY_BYTES + 1), "too-large"),
        (b"{", "bad-request"),
        (b'{"reason": "r", "passphrase": "secret words", "more": 1}', "bad-request"),
    ):
        answer = visitor.change("POST", f"/agreements/{'0' * 64}/suspend", content=body)
        assert answer.status_code == 400 and answer.json()["code"] == code
        assert "secret words" not in answer.text


def pieces() -> Iterator[bytes]:
    yield b"{}"


def test_a_body_without_a_length_is_refused(visitor: Visitor) -> None:
    answer = visitor.change("POST", "/session", content=pieces())
    assert answer.status_code == 400 and answer.json()["code"] == "too-large"


def test_the_kernel_says_whose_connection_it_is() -> None:
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with socket.create_server((address, 0), family=family) as server:
            here = server.getsockname()[:2]
            with socket.create_connection(here) as client:
                assert uid_of(client.getsockname()[:2], here) == os.getuid()
            assert uid_of((address, 1), here) is None


def test_who_became_this_user_by_sudo_may_ask_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUDO_UID", raising=False)
    assert own_uids() == {os.getuid()}
    monkeypatch.setenv("SUDO_UID", "4711")
    assert own_uids() == {os.getuid(), 4711}
    monkeypatch.setenv("SUDO_UID", "x")
    assert own_uids() == {os.getuid()}


@pytest.mark.parametrize(
    ("peer", "uid"), [("127.0.0.1", 4711), ("127.0.0.1", None), ("192.0.2.7", os.getuid())]
)
def test_another_user_or_machine_is_answered_nothing(
    site: Site, peer: str, uid: int | None
) -> None:
    guard: Guard = create_app(site.node, lambda *_: uid, own_uids())

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(guard, client=(peer, 50000))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:80") as http:
            return await http.get("/enter")

    answer = asyncio.run(ask())
    assert answer.status_code == 403 and answer.json()["code"] == "other-user"
    assert answer.headers["x-frame-options"] == "DENY"
