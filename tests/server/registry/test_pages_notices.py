"""What people tell each other on pages: text always, and for whom it concerns."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from accord_server.registry.notices import service
from accord_server.registry.setup import initialise
from tests.server.registry.persons import Browser, join
from tests.server.registry.stack import Stack, opened, settings_in
from tests.server.registry.test_pages import HTML, text_of
from tests.world import make_actor, make_world

HOSTILE = '<script>alert(1)</script> <img src=x onerror=alert(1)> {{ 7*7 }} "quoted"'
ESCAPED = "&lt;script&gt;alert(1)&lt;/script&gt; &lt;img src=x onerror=alert(1)&gt; {{ 7*7 }}"


@pytest.fixture(scope="module")
def stack(
    tmp_path_factory: pytest.TempPathFactory, certificates: Path, quick_accounts: None
) -> Iterator[Stack]:
    settings = settings_in(tmp_path_factory.mktemp("notice-pages") / "registry", certificates)
    invitation = asyncio.run(initialise(settings)).text
    with opened(settings, invitation, make_world(log_key=settings.read_log_key())) as stack:
        stack.join_all()
        stack.register_datasets()
        stack.sign_agreement()
        stack.start(stack.offer())
        yield stack


@pytest.fixture(scope="module")
def people(stack: Stack) -> dict[str, Browser]:
    """A coordinator, a steward, an auditor, and a steward of a party outside the agreement."""
    world, guest = stack.world, make_actor("outsiders", "data-holder")
    code = stack.client(world.coordinator).invite("data-holder", guest.name).code
    stack.join(guest, code)
    return {
        "coordinator": join(stack, world.coordinator, "coordinator", "carla"),
        "steward": join(stack, world.hospitals[0], "steward", "stella"),
        "auditor": join(stack, world.coordinator, "auditor", "audrey"),
        "outsider": join(stack, guest, "steward", "otto"),
    }


def subjects(stack: Stack) -> list[tuple[str, str]]:
    """Addresses of the API and of the page of a run and of its agreement."""
    run = stack.client(stack.world.coordinator).runs()[0]
    return [
        (f"/v1/runs/{run.id}/comments", f"/runs/{run.id}"),
        (f"/v1/agreements/{run.agreement}/comments", f"/agreements/{run.agreement}"),
    ]


def test_a_comment_is_text_whatever_is_in_it(stack: Stack, people: dict[str, Browser]) -> None:
    for address, page in subjects(stack):
        assert people["steward"].call("POST", address, {"body": HOSTILE}).status_code == 201
        for where in (page, "/feed"):
            html = people["coordinator"].call("GET", where, headers=HTML).text
            assert ESCAPED in html and "<script>alert" not in html and "<img" not in html


def test_comments_are_for_whoever_may_read_what_they_are_on(
    stack: Stack, people: dict[str, Browser]
) -> None:
    for address, page in subjects(stack):
        said = people["coordinator"].call("POST", address, {"body": "Please look at round two."})
        assert said.status_code == 201 and said.json()["author"] == "Carla"
        assert "Please look at round two." in text_of(people["steward"], page)
        assert "Please look at round two." in text_of(people["auditor"], page)
        outsider = people["outsider"]
        assert outsider.call("GET", address).status_code == 404
        assert outsider.call("POST", address, {"body": "hello"}).status_code == 404
        assert "round two" not in text_of(outsider, "/feed")
        refused = people["auditor"].call("POST", address, {"body": "hello"})
        assert refused.json()["code"] == "wrong-role"
        name = f"/v1/comments/{said.json()['id']}"
        assert people["steward"].call("DELETE", name).status_code == 404  # another's
        assert people["coordinator"].call("DELETE", name).status_code == 204
        assert "Please look at round two." not in text_of(people["steward"], page)


@pytest.mark.parametrize("body", ["", "   \n ", "bell \x07", "x" * 2001])
def test_a_comment_has_bounds(stack: Stack, people: dict[str, Browser], body: str) -> None:
    for address, _ in subjects(stack):
        answer = people["steward"].call("POST", address, {"body": body})
        assert answer.status_code == 422 and answer.json()["code"] == "bad-request"


def test_nobody_floods_the_others(
    stack: Stack, people: dict[str, Browser], monkeypatch: pytest.MonkeyPatch
) -> None:
    (address, _), *_ = subjects(stack)
    monkeypatch.setattr(service, "MOST_COMMENTS", 0)
    answer = people["steward"].call("POST", address, {"body": "again"})
    assert answer.status_code == 429 and answer.json()["code"] == "too-many-comments"
    monkeypatch.setattr(service, "MOST_COMMENTS", 60)
    monkeypatch.setattr(service, "MOST_ON_ONE", 0)
    assert people["steward"].call("POST", address, {"body": "x"}).json()["code"] == "comments-full"
    monkeypatch.setattr(service, "MOST_ANNOUNCEMENTS", 0)
    told = people["coordinator"].call("POST", "/v1/announcements", {"title": "t", "body": "b"})
    assert told.json()["code"] == "too-many-announcements"


def test_the_coordinator_announces_to_every_member(
    stack: Stack, people: dict[str, Browser]
) -> None:
    body = {"title": "Maintenance <b>tonight</b>", "body": HOSTILE}
    told = people["coordinator"].call("POST", "/v1/announcements", body)
    assert told.status_code == 201
    for browser in people.values():
        for page in ("/", "/feed"):
            html = browser.call("GET", page, headers=HTML).text
            assert "Maintenance &lt;b&gt;tonight" in html and ESCAPED in html
    refused = people["steward"].call("POST", "/v1/announcements", body)
    assert refused.json()["code"] == "wrong-role"
    assert (
        'data-api="POST /v1/announcements"'
        not in people["steward"].call("GET", "/feed", headers=HTML).text
    )
    name = f"/v1/announcements/{told.json()['id']}"
    assert people["coordinator"].call("DELETE", name).status_code == 204
    assert "Maintenance" not in text_of(people["steward"], "/")


def test_activity_tells_what_was_signed_and_is_paged(
    stack: Stack, people: dict[str, Browser]
) -> None:
    page = text_of(people["auditor"], "/feed")
    assert "run manifest" in page and "agreement" in page
    assert "run manifest" not in text_of(people["outsider"], "/feed")
    past = text_of(people["auditor"], "/feed?before=2020-01-01T00:00:00Z")
    assert "Nothing yet." in past and "Newest" in past
