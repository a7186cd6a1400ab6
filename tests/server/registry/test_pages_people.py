"""The pages of people and of the own account, and what their forms would send."""

import asyncio
import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import pytest

from accord_server.registry.settings import Oidc
from accord_server.registry.setup import initialise
from tests.server.registry.persons import Browser, invite, join
from tests.server.registry.stack import Stack, opened, settings_in
from tests.server.registry.test_pages import HTML, text_of
from tests.world import make_world


@pytest.fixture(scope="module")
def stack(
    tmp_path_factory: pytest.TempPathFactory, certificates: Path, quick_accounts: None
) -> Iterator[Stack]:
    settings = settings_in(tmp_path_factory.mktemp("people-pages") / "registry", certificates)
    invitation = asyncio.run(initialise(settings)).text
    with opened(settings, invitation, make_world(log_key=settings.read_log_key())) as stack:
        stack.join_all()
        yield stack


@pytest.fixture(scope="module")
def owner(stack: Stack) -> Browser:
    return join(stack, stack.world.hospitals[0], "owner", "olga")


@pytest.fixture(scope="module")
def steward(stack: Stack) -> Browser:
    return join(stack, stack.world.hospitals[0], "steward", "stella")


def forms(browser: Browser, path: str) -> list[str]:
    """Method and address of each form of a page."""
    html = browser.call("GET", path, headers=HTML).text
    return [unescape(found) for found in re.findall(r'data-api="([^"]+)"', html)]


def test_an_owner_looks_after_the_own_organisation_alone(
    stack: Stack, owner: Browser, steward: Browser
) -> None:
    join(stack, stack.world.hospitals[1], "steward", "other")
    page = text_of(owner, "/people")
    assert "stella" in page and "other" not in page
    person = owner.call("GET", "/v1/people").json()
    (stella,) = [one["id"] for one in person if one["login"] == "stella"]
    found = forms(owner, "/people")
    assert "POST /v1/people" in found and f"PUT /v1/people/{stella}/role" in found
    assert f"POST /v1/people/{stella}/reset" in found
    assert not any(own["id"] in form for own in person if own["login"] == "olga" for form in found)
    assert not [form for form in forms(steward, "/people") if "/v1/people" in form]


def test_what_a_form_offers_is_what_the_route_takes(stack: Stack, owner: Browser) -> None:
    """Every form that a role is shown is one that its API lets it send."""
    newcomer = invite(stack, stack.world.hospitals[0], "steward", "newcomer")["person"]["id"]
    for body in ({"role": "owner"}, {"role": "steward"}):
        assert owner.call("PUT", f"/v1/people/{newcomer}/role", body).is_success
    assert owner.call("POST", f"/v1/people/{newcomer}/reset", {"second_factor": True}).is_success
    assert owner.call("POST", f"/v1/people/{newcomer}/disable").is_success
    assert f"POST /v1/people/{newcomer}/enable" in forms(owner, "/people")
    assert "role-changed" in text_of(owner, "/people")


def test_who_acted_has_a_name_whatever_organisation_it_is(stack: Stack, owner: Browser) -> None:
    office, other = stack.world.coordinator, stack.world.hospitals[1]
    auditor = join(stack, office, "auditor", "audrey")
    join(stack, other, "steward", "far-away")  # let in by its organisation's machine
    html = auditor.call("GET", "/people", headers=HTML).text
    events = html[html.index('id="happened"') :]
    assert f"by {other.name}" in events and "Far-Away" in events
    people = auditor.call("GET", "/v1/people").json()
    for known in (office.id, other.id, *(one["id"] for one in people)):
        assert known not in events


def test_everybody_has_an_account_with_tokens_and_browsers(steward: Browser) -> None:
    assert {"PUT /v1/me/password", "POST /v1/me/second-factor", "POST /v1/tokens"} <= set(
        forms(steward, "/account")
    )
    html = steward.call("GET", "/account", headers=HTML).text
    assert set(re.findall(r'name="scopes" value="(\w+)"', html)) == {
        "read",
        "people",
    }  # what a steward can use
    made = steward.call(
        "POST", "/v1/tokens", {"name": "<i>notebook</i>", "scopes": ["read"], "days": 9}
    )
    page = steward.call("GET", "/account", headers=HTML).text
    assert "&lt;i&gt;notebook" in page and made.json()["secret"] not in page
    assert f"DELETE /v1/tokens/{made.json()['token']['id']}" in forms(steward, "/account")
    assert "this browser" in page


def test_a_provider_is_offered_where_there_is_one(stack: Stack, tmp_path: Path) -> None:
    stranger = Browser(stack)
    assert "/v1/oidc" not in stranger.call("GET", "/sign-in", headers=HTML).text
    registry, kept = stack.app.state.registry, stack.settings
    secret = tmp_path / "secret"
    secret.write_text("s" * 20)
    oidc = Oidc(name="<U>", issuer="https://id.example", client_id="a", client_secret=secret)
    object.__setattr__(registry, "settings", kept.model_copy(update={"oidc": oidc}))
    try:
        for path in ("/sign-in", "/welcome"):
            html = stranger.call("GET", path, headers=HTML).text
            assert 'data-api="POST /v1/oidc/logins" data-go="url"' in html and "&lt;U&gt;" in html
    finally:
        object.__setattr__(registry, "settings", kept)
