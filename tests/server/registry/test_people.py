"""Accounts: how one begins, signs in, is slowed down, loses its rights, and what is kept of it."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from accord_common.fields import now
from accord_server.registry.access import lockout, passwords
from accord_server.registry.access.credentials import COOKIE, DEVICE
from accord_server.registry.access.tables import (
    AccessEventRow,
    AttemptRow,
    PersonRow,
    SessionRow,
)
from accord_server.registry.backup import copying
from accord_server.registry.db import Database
from accord_server.registry.engines import sqlite_url
from accord_server.registry.sessions import principals
from accord_server.registry.setup import using
from tests.server.registry.persons import PASSWORD, Browser, invite, join, on_sqlite, token
from tests.server.registry.stack import Stack
from tests.server.registry.tables import everything, execute, on, rows


def events(stack: Stack, browser: Browser) -> list[str]:
    return [line["kind"] for line in browser.call("GET", "/v1/access-events").json()]


def code_of(answer: object) -> str:
    assert isinstance(answer, dict)
    return str(answer.get("code"))


def test_an_account_begins_with_a_code_and_a_password_of_ones_own(
    stack: Stack, capfd: pytest.CaptureFixture[str]
) -> None:
    hospital = stack.world.hospitals[0]
    made = invite(stack, hospital, "owner", "olga@example.org")
    assert made["link"] == f"{stack.settings.url}/welcome#{made['code']}"
    assert made["person"]["status"] == "invited"
    browser = Browser(stack)
    assert code_of(browser.sign_in("olga@example.org")) == "wrong-credentials"
    for weak in ("short", "x" * 129, "olga@example.org", "Password1234!", "abcabcabcabcabc"):
        told = stack.http.post("/v1/passwords", json={"code": made["code"], "password": weak})
        assert (told.status_code, told.json()["code"]) == (400, "weak-password"), weak
        assert weak not in told.text
    body = {"code": made["code"], "password": PASSWORD}
    assert stack.http.post("/v1/passwords", json=body).status_code == 204
    again = stack.http.post("/v1/passwords", json=body)
    assert (again.status_code, again.json()["code"]) == (401, "bad-code")

    me = browser.sign_in("Olga@Example.org")
    assert (me["person"]["role"], me["party"], me["needs"]) == ("owner", hospital.id, None)
    assert browser.call("GET", "/v1/me").json() == me
    secret = token(browser, "read")
    kept, seen = everything(stack.settings.database), capfd.readouterr()
    for hidden in (made["code"], PASSWORD, secret, *browser.cookies.values(), me["csrf"]):
        assert hidden not in kept and hidden not in seen.out + seen.err
    assert "$argon2id$v=19$m=65536,t=3,p=4$" in kept  # RFC 9106, section 4, second choice


@on_sqlite
@pytest.mark.usefixtures("quick_passwords")
def test_an_invitation_of_a_person_expires(stack: Stack) -> None:
    made = invite(stack, stack.world.hospitals[0], "steward", "stella")
    execute(stack.settings.database, "UPDATE person_codes SET expires = 0")
    told = stack.http.post("/v1/passwords", json={"code": made["code"], "password": PASSWORD})
    assert told.json()["code"] == "bad-code"


@on_sqlite
@pytest.mark.usefixtures("quick_passwords")
def test_organisations_have_the_persons_that_fit_them(stack: Stack) -> None:
    world = stack.world
    headers = {"Authorization": f"Bearer {stack.tokens[world.hospitals[0].id]}"}
    for role in ("coordinator", "auditor"):  # they would read what other hospitals have
        body = {"login": "mallory", "name": "M", "role": role}
        told = stack.http.post("/v1/people", json=body, headers=headers)
        assert (told.status_code, told.json()["code"]) == (403, "wrong-role")
    invite(stack, world.hospitals[0], "steward", "stella")
    body = {"login": "stella", "name": "Another", "role": "owner"}
    headers = {"Authorization": f"Bearer {stack.tokens[world.hospitals[1].id]}"}
    assert stack.http.post("/v1/people", json=body, headers=headers).json()["code"] == "login-taken"


@on_sqlite
@pytest.mark.usefixtures("quick_passwords")
def test_owners_look_after_their_own_organisation_alone(stack: Stack) -> None:
    first, second = stack.world.hospitals[:2]
    owner = join(stack, first, "owner", "olga")
    steward = join(stack, first, "steward", "stella")
    stranger = join(stack, second, "owner", "oscar")
    other = steward.call("GET", "/v1/me").json()["person"]["id"]
    for method, path, body in (
        ("GET", f"/v1/people/{other}", None),
        ("PUT", f"/v1/people/{other}/role", {"role": "owner"}),
        ("POST", f"/v1/people/{other}/disable", None),
        ("POST", f"/v1/people/{other}/reset", {}),
    ):
        told = stranger.call(method, path, body)
        assert (told.status_code, told.json()["code"]) == (404, "unknown-person")
    assert {one["login"] for one in stranger.call("GET", "/v1/people").json()} == {"oscar"}
    assert code_of(steward.call("PUT", f"/v1/people/{other}/role", {"role": "owner"}).json()) == (
        "wrong-role"
    )
    mine = owner.call("GET", "/v1/me").json()["person"]["id"]
    for path in (f"/v1/people/{mine}/disable", f"/v1/people/{mine}/enable"):
        assert code_of(owner.call("POST", path).json()) == "own-account"

    secret = token(steward, "read")
    assert owner.call("PUT", f"/v1/people/{other}/role", {"role": "owner"}).status_code == 200
    assert code_of(steward.call("GET", "/v1/me").json()) == "bad-token"
    headers = {"Authorization": f"Bearer {secret}"}
    assert stack.http.get("/v1/me", headers=headers).json()["code"] == "bad-token"
    steward.sign_in("stella")
    assert owner.call("POST", f"/v1/people/{other}/disable").json()["status"] == "disabled"
    assert code_of(steward.call("GET", "/v1/me").json()) == "bad-token"
    assert code_of(steward.sign_in("stella")) == "wrong-credentials"
    assert owner.call("POST", f"/v1/people/{other}/enable").json()["status"] == "active"
    assert steward.sign_in("stella")["person"]["role"] == "owner"
    assert events(stack, owner)[-6:] == [
        "role-changed",
        "signed-in",
        "person-disabled",
        "sign-in-failed",
        "person-enabled",
        "signed-in",
    ]
    assert set(events(stack, stranger)) == {"person-invited", "password-set", "signed-in"}


@on_sqlite
@pytest.mark.usefixtures("quick_passwords")
def test_the_owner_of_the_coordinator_can_shut_anybody_out_but_speaks_for_nobody(
    stack: Stack,
) -> None:
    operator = join(stack, stack.world.coordinator, "owner", "oona")
    steward = join(stack, stack.world.hospitals[0], "steward", "stella")
    person = steward.call("GET", "/v1/me").json()["person"]["id"]
    assert len(operator.call("GET", "/v1/people").json()) == 2
    assert operator.call("POST", f"/v1/people/{person}/reset", {}).status_code == 404
    assert operator.call("PUT", f"/v1/people/{person}/role", {"role": "owner"}).status_code == 404
    assert operator.call("POST", f"/v1/people/{person}/disable").status_code == 200
    assert code_of(steward.call("GET", "/v1/runs").json()) == "bad-token"


@on_sqlite
@pytest.mark.usefixtures("quick_passwords")
def test_a_suspended_institutions_people_are_out_too(stack: Stack) -> None:
    hospital = stack.world.hospitals[0]
    steward = join(stack, hospital, "steward", "stella")
    stack.client(stack.world.coordinator).suspend(hospital.id, "server stolen")
    assert code_of(steward.call("GET", "/v1/runs").json()) == "party-suspended"
    assert steward.call("GET", "/v1/me").status_code == 200
    stack.client(stack.world.coordinator).readmit(hospital.id)
    assert steward.call("GET", "/v1/runs").status_code == 200


@on_sqlite
@pytest.mark.usefixtures("quick_passwords")
def test_guessing_is_slowed_down_and_shuts_nobody_out(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Strangers' failures make strangers wait; a device that was here before waits for nobody."""
    monkeypatch.setattr(passwords, "verified", quick_verified)
    hospital = stack.world.hospitals[0]
    known = join(stack, hospital, "owner", "olga")
    machine = {"Authorization": f"Bearer {stack.tokens[hospital.id]}"}
    person = known.call("GET", "/v1/me").json()["person"]["id"]
    stranger, nobody = Browser(stack), Browser(stack)
    tried = [code_of(stranger.sign_in("olga", "guess number one")) for _ in range(6)]
    assert tried == ["wrong-credentials"] * 5 + ["locked"]
    # A login that does not exist is answered the same way.
    assert [code_of(nobody.sign_in("nobody", "guess number one")) for _ in range(6)] == tried
    answer = stranger.call("POST", "/v1/sessions", {"login": "olga", "password": PASSWORD})
    assert (answer.status_code, answer.json()["code"]) == (429, "locked")
    assert int(answer.headers["retry-after"]) >= 1

    forged = Browser(stack, {DEVICE: "x" * 22 + "." + "0" * 64})
    assert code_of(forged.sign_in("olga")) == "locked"
    known.cookies.pop(COOKIE)
    assert known.sign_in("olga")["person"]["login"] == "olga"  # it has the device's cookie

    waits = []
    for _ in range(14):
        execute(stack.settings.database, "UPDATE attempts SET until = 0")
        assert code_of(stranger.sign_in("olga", "guess number two")) == "wrong-credentials"
        found = rows(stack.settings.database, [AttemptRow])["attempts"]
        waits.append(max(until - last for _, failures, last, until in found if failures > 5))
    assert all(later >= earlier for earlier, later in pairwise(waits))
    assert waits[-1] == lockout.LONGEST and waits[0] < timedelta(seconds=5)

    code = stack.http.post(f"/v1/people/{person}/reset", json={}, headers=machine).json()["code"]
    fresh = "violet anchor pillow 71"
    assert stack.http.post("/v1/passwords", json={"code": code, "password": fresh}).is_success
    assert stranger.sign_in("olga", fresh)["person"]["login"] == "olga"
    # The device's cookie was of the former password: it is a stranger's now.
    execute(stack.settings.database, "DELETE FROM attempts")
    for _ in range(5):
        known.sign_in("olga", "guess number three")
    assert code_of(known.sign_in("olga", fresh)) == "locked"


@pytest.mark.usefixtures("quick_passwords")
def test_a_login_that_no_database_takes_is_nobodys(stack: Stack) -> None:
    for login in ("\0", "a\0b", "' OR 1=1 --", "\U0001f600", "a" * 100):
        assert code_of(Browser(stack).sign_in(login)) == "wrong-credentials"
    told = stack.http.post(
        "/v1/sessions",
        content=b'{"login": "\\ud800", "password": "x"}',
        headers={"Content-Type": "application/json"},
    )
    assert told.status_code in {401, 422}


async def quick_verified(kept: str | None, password: str) -> bool:
    """Only how often is tried here, not how long it takes."""
    return kept is not None and password in {PASSWORD, "violet anchor pillow 71"}


@on_sqlite
@pytest.mark.usefixtures("quick_passwords")
def test_many_guesses_at_once_gain_nothing(stack: Stack) -> None:
    """A try is counted before it is judged: the sixth is not judged, however soon it comes."""
    invite(stack, stack.world.hospitals[0], "owner", "olga")
    body = {"login": "olga", "password": "guess number one"}
    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(lambda _: stack.http.post("/v1/sessions", json=body), range(10)))
    codes = sorted(answer.json()["code"] for answer in told)
    assert codes.count("wrong-credentials") == 5 and codes.count("locked") == 5


@on_sqlite
@pytest.mark.usefixtures("quick_passwords")
def test_who_is_not_there_costs_as_much_as_who_is(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    join(stack, stack.world.hospitals[0], "owner", "olga")
    judged: list[str | None] = []
    real = passwords._verify

    def counting(kept: str | None, password: str) -> bool:
        judged.append(kept)
        return real(kept, password)

    monkeypatch.setattr(passwords, "_verify", counting)
    answers = [Browser(stack).sign_in(login, "wrong wrong wrong") for login in ("olga", "nobody")]
    assert answers[0] == answers[1] and len(judged) == 2
    assert passwords._NOBODY.split("$")[2:4] == str(judged[0]).split("$")[2:4]  # same parameters


@on_sqlite
@pytest.mark.usefixtures("quick_passwords")
def test_a_session_ends_when_it_is_idle_or_old(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = join(stack, stack.world.hospitals[0], "owner", "olga")
    start = now()
    for after, alive in (
        (timedelta(minutes=59), True),
        (timedelta(minutes=118), True),
        (timedelta(minutes=179), False),
    ):
        monkeypatch.setattr(principals, "now", lambda after=after: start + after)
        assert (browser.call("GET", "/v1/me").status_code == 200) is alive, after
    monkeypatch.setattr(principals, "now", now)
    assert browser.call("GET", "/v1/me").status_code == 401  # it does not come back
    browser.sign_in("olga")
    for hours in range(1, 14):
        moment = start + timedelta(minutes=55 * hours)
        monkeypatch.setattr(principals, "now", lambda moment=moment: moment)
        last = browser.call("GET", "/v1/me").status_code
    assert last == 200
    moment = start + principals.LONGEST + timedelta(minutes=1)
    monkeypatch.setattr(principals, "now", lambda: moment)
    assert browser.call("GET", "/v1/me").status_code == 401


@on_sqlite
@pytest.mark.usefixtures("quick_passwords")
def test_passwords_are_changed_by_the_present_one_and_end_what_is_open(stack: Stack) -> None:
    here = join(stack, stack.world.hospitals[0], "owner", "olga")
    there = Browser(stack)
    there.sign_in("olga")
    fresh = "violet anchor pillow 71"
    wrong = here.call("PUT", "/v1/me/password", {"present": fresh, "password": fresh})
    assert code_of(wrong.json()) == "wrong-credentials"
    done = here.call("PUT", "/v1/me/password", {"present": PASSWORD, "password": fresh})
    assert done.status_code == 204
    assert here.call("GET", "/v1/me").status_code == 200
    assert there.call("GET", "/v1/me").status_code == 401
    assert code_of(there.sign_in("olga")) == "wrong-credentials"
    assert there.sign_in("olga", fresh)["person"]["login"] == "olga"


@on_sqlite
@pytest.mark.usefixtures("quick_passwords")
def test_an_account_is_in_a_backup_and_a_session_is_not(stack: Stack, tmp_path: Path) -> None:
    join(stack, stack.world.hospitals[0], "owner", "olga")
    url = sqlite_url(tmp_path / "copy.db")

    async def copy(source: Database) -> None:
        async with using(Database(url)) as target:
            await target.migrate()
            async with source.read() as before, target.write() as after:
                await copying.copy_rows(before, after)

    on(stack.settings.database, copy)
    tables = [PersonRow, AccessEventRow, SessionRow, AttemptRow]
    here, there = rows(stack.settings.database, tables), rows(url, tables)
    assert here["sessions"] and there["sessions"] == there["attempts"] == []
    assert here["people"] == there["people"] and here["access_events"] == there["access_events"]
