"""What a browser holds: CSRF, fixation, cookies, second factors; and what a token may."""

import re

import pytest
from argon2 import PasswordHasher

from accord_server.registry.access import factor
from accord_server.registry.access.credentials import COOKIE, CSRF_HEADER, DEVICE
from accord_server.registry.access.rates import Rates
from tests.server.registry.persons import (
    PASSWORD,
    Browser,
    app_code,
    invite,
    join,
    on_sqlite,
    token,
)
from tests.server.registry.stack import Stack
from tests.server.registry.tables import everything, execute

pytestmark = [on_sqlite, pytest.mark.usefixtures("quick_passwords")]


@pytest.fixture
def owner(stack: Stack) -> Browser:
    return join(stack, stack.world.hospitals[0], "owner", "olga")


def test_the_cookie_is_the_browsers_alone(stack: Stack) -> None:
    invited = invite(stack, stack.world.hospitals[0], "owner", "olga")
    stack.http.post("/v1/passwords", json={"code": invited["code"], "password": PASSWORD})
    answer = Browser(stack).call("POST", "/v1/sessions", {"login": "olga", "password": PASSWORD})
    lines = answer.headers.get_list("set-cookie")
    assert {line.partition("=")[0] for line in lines} == {COOKIE, DEVICE}
    for line in lines:
        parts = {part.strip().lower() for part in line.split(";")[1:]}
        assert {"httponly", "secure", "path=/", "samesite=lax"} <= parts
        assert not any(part.startswith("domain") for part in parts)  # __Host- allows none


def test_a_hash_of_an_older_cost_is_renewed_at_the_next_sign_in(
    stack: Stack, owner: Browser
) -> None:
    older = PasswordHasher(time_cost=2, memory_cost=16, parallelism=1).hash(PASSWORD)
    url = stack.settings.database
    execute(url, f"UPDATE people SET password = '{older}' WHERE login = 'olga'")
    body = {"login": "olga", "password": PASSWORD}
    assert Browser(stack).call("POST", "/v1/sessions", body | {"password": "no"}).status_code == 401
    assert older in everything(url)
    assert Browser(stack).call("POST", "/v1/sessions", body).status_code == 201
    assert older not in everything(url)
    assert Browser(stack).call("POST", "/v1/sessions", body).status_code == 201


def test_a_cookie_alone_changes_nothing(owner: Browser) -> None:
    """CSRF: another site's page has the browser send the cookie, and neither token nor origin."""
    body = {"name": "thief", "scopes": ["read"], "days": 1}
    other = {"Origin": "https://evil.example"}
    for headers, code in (
        (other, "wrong-origin"),
        ({"Origin": ""}, "wrong-origin"),
        ({"Origin": "null"}, "wrong-origin"),
        ({"Origin": "https://127.0.0.1:8443.evil.example"}, "wrong-origin"),
        ({CSRF_HEADER: ""}, "wrong-csrf-token"),
        ({CSRF_HEADER: "0" * 64}, "wrong-csrf-token"),
    ):
        told = owner.call("POST", "/v1/tokens", body, headers)
        assert (told.status_code, told.json()["code"]) == (403, code), headers
    session = owner.call("GET", "/v1/me").json()["session"]
    assert owner.call("DELETE", f"/v1/sessions/{session}", None, other).status_code == 403
    assert owner.call("GET", "/v1/tokens").json() == []
    assert owner.call("POST", "/v1/tokens", body).status_code == 201
    form = owner.stack.http.post(
        "/v1/sessions",
        data={"login": "olga", "password": PASSWORD},
        headers={"Origin": "https://evil.example"},
    )
    assert form.status_code in {403, 422}
    login = {"login": "olga", "password": PASSWORD}
    told = Browser(owner.stack).call("POST", "/v1/sessions", login, other)  # login CSRF
    assert told.json()["code"] == "wrong-origin"


def test_another_sessions_csrf_token_is_worth_nothing(owner: Browser) -> None:
    second = Browser(owner.stack)
    second.sign_in("olga")
    second.csrf, kept = owner.csrf, second.csrf
    body = {"name": "x", "scopes": ["read"], "days": 1}
    assert second.call("POST", "/v1/tokens", body).json()["code"] == "wrong-csrf-token"
    second.csrf = kept
    assert second.call("POST", "/v1/tokens", body).status_code == 201


def test_a_cookie_set_before_signing_in_is_not_the_session(stack: Stack) -> None:
    """Fixation: whoever planted a cookie, or has an earlier session's, does not get in with it."""
    owner = join(stack, stack.world.hospitals[0], "owner", "olga")
    planted = owner.cookies[COOKIE]
    owner.sign_in("olga")
    assert owner.cookies[COOKIE] != planted
    thief = Browser(stack, {COOKIE: planted})
    assert thief.call("GET", "/v1/me").status_code == 401
    victim = Browser(stack, {COOKIE: "A" * 43})
    victim.sign_in("olga")
    assert victim.cookies[COOKIE] != "A" * 43


def test_sessions_are_listed_and_ended_one_by_one(owner: Browser) -> None:
    second = Browser(owner.stack)
    second.sign_in("olga")
    listed = owner.call("GET", "/v1/sessions").json()
    assert [one["current"] for one in listed] == [True, False]
    assert second.call("DELETE", f"/v1/sessions/{listed[0]['id']}").status_code == 204
    assert owner.call("GET", "/v1/me").status_code == 401
    assert second.call("GET", "/v1/me").status_code == 200
    steward = join(owner.stack, owner.stack.world.hospitals[0], "steward", "stella")
    other = steward.call("DELETE", f"/v1/sessions/{listed[1]['id']}")
    assert other.json()["code"] == "unknown-session"
    assert second.call("DELETE", f"/v1/sessions/{listed[1]['id']}").status_code == 204
    assert COOKIE not in second.cookies and DEVICE in second.cookies


def test_a_bearer_token_makes_the_cookie_nothing(owner: Browser) -> None:
    bad = {"Authorization": "Bearer accord_person_made-up-made-up-made-up-made-up"}
    assert owner.call("GET", "/v1/me", None, bad).json()["code"] == "bad-token"


def test_a_token_may_what_its_scopes_and_its_person_may(owner: Browser) -> None:
    stack = owner.stack
    secret = token(owner, "read")
    headers = {"Authorization": f"Bearer {secret}"}
    me = stack.http.get("/v1/me", headers=headers).json()
    assert (me["scopes"], me["session"], me["csrf"]) == (["read"], None, None)
    assert stack.http.get("/v1/runs", headers=headers).json() == []
    for method, path in (
        ("GET", "/v1/access-events"),
        ("GET", "/v1/tokens"),
        ("POST", "/v1/people"),
        ("POST", "/v1/tokens"),
        ("GET", "/v1/sessions"),
        ("PUT", "/v1/me/password"),
    ):
        told = stack.http.request(method, path, headers=headers, json={})
        assert (told.status_code, told.json()["code"]) == (403, "wrong-scope"), path
    audit = {"Authorization": f"Bearer {token(owner, 'audit')}"}
    assert stack.http.get("/v1/access-events", headers=audit).status_code == 200
    people = {"Authorization": f"Bearer {token(owner, 'people', 'runs')}"}
    listed = stack.http.get("/v1/tokens", headers=people).json()
    assert [one["scopes"] for one in listed] == [["read"], ["audit"], ["people", "runs"]]
    assert stack.http.post(f"/v1/runs/{listed[0]['id']}/stop", headers=people).json()["code"] == (
        "wrong-role"
    )
    assert listed[0]["last_used"] is not None and secret not in str(listed)

    execute(stack.settings.database, "UPDATE person_tokens SET expires = 0 WHERE name = 'notebook'")
    assert stack.http.get("/v1/me", headers=headers).json()["code"] == "bad-token"
    for token_id in (one["id"] for one in listed):
        assert owner.call("DELETE", f"/v1/tokens/{token_id}").status_code == 204
    assert stack.http.get("/v1/access-events", headers=audit).json()["code"] == "bad-token"
    for days in (0, 367, None):
        body = {"name": "for ever", "scopes": ["read"], "days": days}
        assert owner.call("POST", "/v1/tokens", body).status_code == 422


def test_a_steward_sees_and_ends_only_the_own_tokens(owner: Browser) -> None:
    token(owner, "read")
    steward = join(owner.stack, owner.stack.world.hospitals[0], "steward", "stella")
    stranger = join(owner.stack, owner.stack.world.hospitals[1], "owner", "oscar")
    mine = owner.call("GET", "/v1/tokens").json()[0]["id"]
    for other in (steward, stranger):
        assert other.call("GET", "/v1/tokens").json() == []
        assert other.call("DELETE", f"/v1/tokens/{mine}").json()["code"] == "unknown-token"
    token(steward, "read")
    theirs = [one for one in owner.call("GET", "/v1/tokens").json() if one["login"] == "stella"]
    assert owner.call("DELETE", f"/v1/tokens/{theirs[0]['id']}").status_code == 204


def test_a_second_factor_from_setup_to_a_lost_phone(owner: Browser) -> None:
    stack = owner.stack
    began = owner.call("POST", "/v1/me/second-factor").json()
    assert re.fullmatch(r"otpauth://totp/Accord%20127\.0\.0\.1%3A8443%3Aolga\?.*", began["address"])
    assert began["secret"] not in everything(stack.settings.database)
    assert owner.sign_in("olga")["needs"] is None  # not in force before a code has come
    wrong = owner.call("PUT", "/v1/me/second-factor", {"factor": "000000"}).json()
    assert wrong["code"] == "wrong-factor"
    first = app_code(began["secret"])
    codes = owner.call("PUT", "/v1/me/second-factor", {"factor": first}).json()["codes"]
    assert len(set(codes)) == factor.RECOVERY_CODES
    assert owner.call("GET", "/v1/me").json()["person"]["second_factor"] is True

    other = Browser(stack)
    assert other.sign_in("olga")["code"] == "second-factor-required"
    assert other.sign_in("olga", factor=first)["code"] == "wrong-factor"  # a code is right once
    following = app_code(began["secret"], 1)
    assert other.sign_in("olga", factor=following)["needs"] is None
    assert other.sign_in("olga", "not the password", following)["code"] == "wrong-credentials"
    execute(stack.settings.database, "DELETE FROM attempts")

    lost = Browser(stack)
    assert lost.sign_in("olga", factor=codes[0].upper().replace("-", " "))["needs"] is None
    assert lost.sign_in("olga", factor=codes[0])["code"] == "wrong-factor"
    ended = lost.call("POST", "/v1/me/second-factor/end", {"factor": codes[1]})
    assert ended.status_code == 204
    assert Browser(stack).sign_in("olga")["needs"] is None
    kinds = [line["kind"] for line in lost.call("GET", "/v1/access-events").json()]
    for kind in ("second-factor-on", "recovery-code-used", "wrong-factor", "second-factor-off"):
        assert kind in kinds


def test_a_role_that_must_have_one_gets_no_further_without(stack: Stack) -> None:
    settings = stack.settings.model_copy(update={"second_factor": ("owner",)})
    object.__setattr__(stack.app.state.registry, "settings", settings)
    owner = join(stack, stack.world.hospitals[0], "owner", "olga")
    assert owner.call("GET", "/v1/me").json()["needs"] == "second-factor"
    for method, path in (("GET", "/v1/runs"), ("POST", "/v1/tokens"), ("PUT", "/v1/me/password")):
        assert owner.call(method, path, {}).json()["code"] == "second-factor-required"
    began = owner.call("POST", "/v1/me/second-factor").json()
    # Whoever knows the password alone must not pass by a factor that nobody will be asked for.
    code = {"factor": app_code(began["secret"])}
    unnoticed = owner.call("POST", "/v1/sessions/second-factor", code)
    assert unnoticed.json()["code"] == "no-second-factor"
    before = owner.cookies[COOKIE]
    done = owner.call("PUT", "/v1/me/second-factor", {"factor": app_code(began["secret"])})
    assert done.status_code == 200 and owner.cookies[COOKIE] != before
    owner.csrf = owner.call("GET", "/v1/me").json()["csrf"]
    assert owner.call("GET", "/v1/runs").status_code == 200
    refused = owner.call("POST", "/v1/me/second-factor/end", {"factor": "123456"})
    assert refused.json()["code"] == "second-factor-required"


def test_guessing_the_factor_is_slowed_down_too(owner: Browser) -> None:
    stack = owner.stack
    began = owner.call("POST", "/v1/me/second-factor").json()
    owner.call("PUT", "/v1/me/second-factor", {"factor": app_code(began["secret"])})
    thief = Browser(stack)
    told = []
    for guess in range(6):
        assert thief.sign_in("olga")["code"] in {"second-factor-required", "locked"}
        told.append(thief.sign_in("olga", factor=f"{guess:06}")["code"])
    assert told[-1] == "locked"


def test_one_address_may_not_try_for_ever(stack: Stack) -> None:
    object.__setattr__(stack.app.state.registry, "strangers", Rates(3))
    codes = [stack.http.get("/v1/runs").json()["code"] for _ in range(4)]
    assert codes == ["no-token"] * 3 + ["too-many-requests"]
    told = stack.http.post("/v1/enrolments", json={})
    assert (told.status_code, told.headers["content-type"]) == (429, "application/problem+json")
    assert int(told.headers["retry-after"]) >= 1
    assert stack.client(stack.world.coordinator).runs() == []  # whoever has a token goes on
    object.__setattr__(stack.app.state.registry, "callers", Rates(1))
    headers = {"Authorization": f"Bearer {stack.tokens[stack.world.coordinator.id]}"}
    assert stack.http.get("/v1/runs", headers=headers).status_code == 200
    assert stack.http.get("/v1/runs", headers=headers).json()["code"] == "too-many-requests"


def test_every_answer_carries_the_headers_that_keep_pages_apart(owner: Browser) -> None:
    for path in ("/v1/me", "/v1/nowhere", "/livez"):
        headers = owner.call("GET", path).headers
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-opener-policy"] == "same-origin"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["strict-transport-security"].startswith("max-age=")
        assert "access-control-allow-origin" not in headers
