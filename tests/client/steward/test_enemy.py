"""What somebody tries on the page who is not its steward, and what a steward does twice."""

import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.routing import Route

import accord_client.steward
import accord_common.web
from accord_client import outbox
from accord_client.agreements import Agreements
from accord_client.steward.app import create_app
from accord_client.steward.peers import own_uids, uid_of
from accord_common.api.client import RegistryClient
from accord_common.errors import TransportError
from accord_common.fields import new_id
from accord_common.home import Home
from accord_common.receipts import CONSENT, Consent
from tests.client.institutions import PASSPHRASE, Institutions
from tests.client.steward.conftest import HTML, Site, Visitor, served, start
from tests.server.registry.stack import Stack

HOSTILE = "<img src=x onerror=alert(1)>{{ 7 * 7 }}"
ELSEWHERE = ("//evil.example", "https://evil.example/", "/\\evil.example", "javascript:alert(1)")


def at_once(*acts: Callable[[], httpx.Response]) -> list[httpx.Response]:
    """Two tabs, or an impatient finger."""
    answers: list[httpx.Response] = []
    threads = [threading.Thread(target=lambda act=act: answers.append(act())) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def outcomes(answers: list[httpx.Response]) -> list[str]:
    return sorted("done" if one.status_code == 204 else one.json()["code"] for one in answers)


def shown_manifest(steward: Visitor, run: str) -> str:
    page = steward.read(f"/decisions/{run}")
    return page.partition('name="manifest" value="')[2].partition('"')[0]


def sent(home: Home, kind: str) -> int:
    return sum(line.kind == kind for line in outbox.lines(home.path / outbox.FILE_NAME))


def test_a_link_or_a_cookie_is_nothing_twice_nor_at_the_next_process(
    three: Institutions,
) -> None:
    home = three.homes[three.parties[2]]
    with served(home) as first:
        code, unused = first.code(), first.code()
        answers = at_once(*(lambda: first.stranger().post("/session", code=unused),) * 2)
        assert sorted(one.status_code for one in answers) == [200, 401]
        (lost,) = (one for one in answers if one.status_code == 401)
        assert lost.json()["code"] == "link-void" and "set-cookie" not in lost.headers
        assert first.stranger().post("/session", code=code).json()["code"] == "link-void"
        (held,) = (one.cookies for one in answers if one.status_code == 200)
        assert len(held) == 1
        remaining = first.code()
        (name, cookie), origin = *held.items(), first.origin
    with pytest.raises(httpx.ConnectError):
        httpx.get(origin)
    with served(home) as second:
        stranger = second.stranger()
        assert stranger.post("/session", code=remaining).json()["code"] == "link-void"
        port = second.origin.rpartition(":")[2]
        stranger.http.cookies.set(re.sub(r"\d+$", port, name), cookie, domain="127.0.0.1")
        answer = stranger.http.get("/")
        assert (answer.status_code, answer.headers["location"]) == (303, "/enter")


def test_every_change_asks_for_session_and_token(site: Site) -> None:
    app = create_app(site.node, uid_of, own_uids())._app
    routes = [route for route in getattr(app, "routes", []) if isinstance(route, Route)]
    asked = {
        (method, re.sub(r"{[a-z]+}", "x", route.path))
        for route in routes
        for method in (route.methods or set()) - {"GET", "HEAD"}
    } - {("POST", "/session")}  # which the code of a link opens
    assert len(asked) >= 8
    stranger = site.stranger()
    for method, path in sorted(asked):
        answer = stranger.change(method, path, json={}, headers={"X-CSRF-Token": "x" * 43})
        assert (answer.status_code, answer.json()["code"]) == (401, "signed-out"), path
    visitor = site.visitor()
    for method, path in sorted(asked):
        answer = visitor.change(method, path, json={}, headers={"X-CSRF-Token": "x" * 43})
        assert (answer.status_code, answer.json()["code"]) == (403, "bad-csrf-token"), path
    assert visitor.http.get("/").status_code == 200  # nor did any of them sign out


@pytest.mark.parametrize("where", ELSEWHERE)
def test_no_address_leads_elsewhere(site: Site, where: str) -> None:
    stranger = site.stranger().http
    for path in ("/", "/decisions", "/budgets"):
        answer = stranger.get(path, params={"next": where, "then": where, "language": where})
        assert (answer.status_code, answer.headers["location"]) == (303, "/enter")
    entrance = stranger.get("/enter", params={"next": where, "then": where, "language": where})
    assert 'data-then="/"' in entrance.text and where not in entrance.text
    again = stranger.get("/", params={"next": where}, headers={"HX-Request": "true"})
    assert again.headers["hx-redirect"] == "/enter"


def test_what_the_coordinator_wrote_is_text(
    joined: tuple[Stack, Institutions], steward: Visitor
) -> None:
    stack, three = joined
    tasks = [one.model_dump() | {"objective": HOSTILE} for one in three.world.agreement.tasks]
    coming = three.world.next_version(title=HOSTILE, tasks=tasks)
    coordinator = stack.client(three.world.coordinator)
    coordinator.propose(coming.partly_signed(three.world.coordinator))
    run = start(joined, title=HOSTILE)
    steward.site.node.board.once()
    agreement = f"/agreements/{coming.agreement_hash}"
    for path in ("/", "/decisions", f"/decisions/{run.id}", "/agreements", agreement):
        for language in ("en", "zh-CN"):
            page = steward.read(path, language)
            assert "&lt;img src=x onerror=alert(1)&gt;{{ 7 * 7 }}" in page, path
            assert "<img" not in page
    manifest = shown_manifest(steward, run.id)
    assert steward.post(f"/runs/{run.id}/refuse", manifest=manifest, reason=HOSTILE).is_success
    page = steward.read("/decisions")
    assert page.count("&lt;img") >= 2 and "<img" not in page


def test_no_template_says_that_its_words_are_markup() -> None:
    for package in (accord_client.steward, accord_common.web):
        for path in Path(*package.__path__).rglob("*.html"):
            assert not re.search(r"\|\s*safe\b|autoescape|Markup", path.read_text()), path


def test_a_run_is_answered_once_however_often_and_from_however_many_tabs(
    joined: tuple[Stack, Institutions], steward: Visitor
) -> None:
    stack, three = joined
    home, before = steward.site.home, sent(steward.site.home, "consent")
    for number, others in enumerate(("approve", "refuse")):
        run = start(joined)
        manifest = shown_manifest(steward, run.id)
        reason = {"reason": "not now"} if others == "refuse" else {}

        def answer(word: str, run: str = run.id, **form: Any) -> Callable[[], httpx.Response]:
            return lambda: steward.post(f"/runs/{run}/{word}", **form)

        answers = at_once(
            answer("approve", manifest=manifest), answer(others, manifest=manifest, **reason)
        )
        late, done = outcomes(answers)
        assert (late in ("already-decided", "base-busy"), done) == (True, "done")
        assert outcomes([answer("refuse", manifest=manifest, reason="x")()]) == ["already-decided"]
        records = stack.client(three.actor(home.profile.party)).records(kind=CONSENT, run=run.id)
        (consent,) = (Consent.from_bytes(one.envelope.payload) for one in records)
        with three.open(home.profile.party) as stores:
            known = stores.state.run(run.id)
        assert known is not None and consent.decision == known.decision
        assert sent(home, "consent") == before + number + 1
        if known.decision == "accept":
            stack.client(three.world.coordinator).stop(run.id, "enough")


def test_a_signature_that_was_cut_off_is_asked_for_again_and_given_once(
    joined: tuple[Stack, Institutions], steward: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack, three = joined
    home = steward.site.home
    coming = three.world.next_version(retention_days=three.world.agreement.retention_days + 9)
    coordinator = stack.client(three.world.coordinator)
    coordinator.propose(coming.partly_signed(three.world.coordinator))
    at, hash_ = f"/agreements/{coming.agreement_hash}", coming.agreement_hash
    form = {"hash": hash_, "passphrase": PASSPHRASE}

    def cut(*_: object) -> None:
        raise TransportError("unreachable", "cut off")

    with monkeypatch.context() as patch:
        patch.setattr(RegistryClient, "sign_agreement", cut)
        assert steward.post(f"{at}/sign", **form).json()["code"] == "unreachable"
    assert hash_ in Agreements.of(home).signed()  # the steward's word holds here
    steward.site.node.board.once()
    assert "signed here, not yet at the registry" in steward.read("/")
    shown = steward.read(at)
    assert "It was signed here, but the registry has no such signature" in shown

    def sign() -> httpx.Response:
        return steward.post(f"{at}/sign", **form)

    assert outcomes(at_once(sign, sign)) == ["done", "done"]
    view = coordinator.agreement(hash_)
    assert home.profile.party not in view.missing
    assert view.envelope.signers == {
        three.actor(home.profile.party).identity.public,
        three.world.coordinator.identity.public,
    }
    steward.site.node.board.once()
    assert "not yet at the registry" not in steward.read("/")
    assert f"{at}/sign" not in steward.read(at)


def test_an_agreement_that_nobody_proposed_is_not_signed(
    joined: tuple[Stack, Institutions], steward: Visitor
) -> None:
    for hash_ in ("0" * 64, new_id(), "../../etc/passwd", "%2e%2e%2fidentity.key"):
        answer = steward.post(
            f"/agreements/{hash_}/sign", hash=hash_.ljust(64, "0")[:64], passphrase=PASSPHRASE
        )
        assert answer.status_code in (400, 404), hash_
    shown = steward.http.get("/assets/../../profile.json", headers=HTML)
    assert shown.status_code == 404
