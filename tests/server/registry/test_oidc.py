"""Signing in with an OpenID provider that is really asked, over TLS; and ways to cheat."""

import base64
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey

from accord_server.registry.access.credentials import COOKIE
from accord_server.registry.oidc.endpoints import CALLBACK
from accord_server.registry.oidc.provider import Provider
from accord_server.registry.settings import Oidc
from tests.server.registry.persons import Browser, app_code, invite, join, on_sqlite
from tests.server.registry.provider import (
    CLIENT_ID,
    CLIENT_SECRET,
    Claims,
    OpenIdProvider,
    back,
    serving_provider,
)
from tests.server.registry.stack import Stack
from tests.server.registry.tables import everything, execute

pytestmark = [on_sqlite, pytest.mark.usefixtures("quick_passwords")]


@pytest.fixture
def provider(stack: Stack, certificates: Path, tmp_path: Path) -> Iterator[OpenIdProvider]:
    """The provider, which the registry's settings name."""
    secret = tmp_path / "secret"
    secret.write_text(CLIENT_SECRET + "\n")
    with serving_provider(certificates, stack.settings.url + CALLBACK) as served:
        oidc = Oidc(
            name="University",
            issuer=served.issuer,
            client_id=CLIENT_ID,
            client_secret=secret,
            ca=certificates / "ca.pem",
        )
        registry = stack.app.state.registry
        settings = stack.settings.model_copy(update={"oidc": oidc})
        object.__setattr__(registry, "settings", settings)
        object.__setattr__(registry, "provider", Provider(oidc, settings.url + CALLBACK))
        yield served


def begin(browser: Browser, code: str | None = None) -> str:
    answer = browser.call("POST", "/v1/oidc/logins", {"code": code})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["url"])


def linked(stack: Stack, provider: OpenIdProvider, subject: str = "olga-7") -> Browser:
    """A person who was invited, and signed in with the provider."""
    made = invite(stack, stack.world.hospitals[0], "owner", "olga")
    browser = Browser(stack)
    answer = browser.call("GET", back(provider.consent(begin(browser, made["code"]), subject)))
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/html")
    assert 'url=/"' in answer.text and subject not in answer.text
    return browser


def refused(browser: Browser, query: dict[str, str], code: str = "provider-refused") -> None:
    answer = browser.call("GET", back(query))
    assert (answer.status_code, answer.json()["code"]) == (401, code)
    assert COOKIE not in browser.cookies


def test_an_invitation_links_the_account_there_and_it_signs_in(
    stack: Stack, provider: OpenIdProvider
) -> None:
    assert stack.http.get("/v1/oidc").json() == {"name": "University"}
    first = linked(stack, provider)
    me = first.call("GET", "/v1/me").json()
    assert (me["person"]["login"], me["person"]["provider"], me["needs"]) == ("olga", True, None)
    again = Browser(stack)
    assert again.call("GET", back(provider.consent(begin(again), "olga-7"))).status_code == 200
    assert again.call("GET", "/v1/me").json()["person"]["status"] == "active"
    kinds = [line["kind"] for line in again.call("GET", "/v1/access-events").json()]
    assert kinds == ["person-invited", "provider-linked", "signed-in", "signed-in"]
    assert CLIENT_SECRET not in everything(stack.settings.database)


def test_an_account_there_that_nobody_invited_is_nobodys_here(
    stack: Stack, provider: OpenIdProvider
) -> None:
    """The same e-mail address, whatever the provider says of it, links nothing."""
    owner = join(stack, stack.world.hospitals[0], "owner", "owner@example.org")
    stranger = Browser(stack)
    refused(stranger, provider.consent(begin(stranger), "stranger"), "not-linked")
    led = stranger.call("GET", back({"state": "x", "error": "no"}), headers={"Accept": "text/html"})
    assert led.status_code == 401 and "provider-refused" in led.text and "<html" in led.text
    linked(stack, provider, "olga-7")
    made = invite(stack, stack.world.hospitals[1], "owner", "oscar")
    thief = Browser(stack)
    answer = thief.call("GET", back(provider.consent(begin(thief, made["code"]), "olga-7")))
    assert (answer.status_code, answer.json()["code"]) == (409, "already-linked")
    assert owner.call("GET", "/v1/me").json()["person"]["provider"] is False
    bad = Browser(stack).call("POST", "/v1/oidc/logins", {"code": "x" * 43})
    assert (bad.status_code, bad.json()["code"]) == (401, "bad-code")


def test_a_disabled_person_does_not_get_in_through_the_provider(
    stack: Stack, provider: OpenIdProvider
) -> None:
    person = linked(stack, provider).call("GET", "/v1/me").json()["person"]["id"]
    headers = {"Authorization": f"Bearer {stack.tokens[stack.world.hospitals[0].id]}"}
    assert stack.http.post(f"/v1/people/{person}/disable", headers=headers).is_success
    browser = Browser(stack)
    refused(browser, provider.consent(begin(browser), "olga-7"), "not-linked")


def unsigned(claims: Claims) -> str:
    parts = [{"alg": "none", "typ": "JWT"}, claims]
    coded = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in parts]
    return b".".join([*coded, b""]).decode()


def with_the_secret(claims: Claims) -> str:
    key = OctKey.import_key(CLIENT_SECRET.ljust(32))
    return jwt.encode({"alg": "HS256"}, claims, key, algorithms=["HS256"])


TWISTS: dict[str, Callable[[Claims], Claims]] = {
    "another nonce": lambda claims: claims | {"nonce": "0" * 64},
    "no nonce": lambda claims: {key: claims[key] for key in claims if key != "nonce"},
    "another audience": lambda claims: claims | {"aud": "another-client"},
    "several audiences, authorised for another": lambda claims: (
        claims | {"aud": [CLIENT_ID, "another"], "azp": "another"}
    ),
    "another issuer": lambda claims: claims | {"iss": "https://evil.example"},
    "expired": lambda claims: claims | {"exp": int(time.time()) - 120, "iat": 0},
    "no expiry": lambda claims: {key: claims[key] for key in claims if key != "exp"},
    "from the future": lambda claims: claims | {"iat": int(time.time()) + 3600},
    "no subject": lambda claims: {key: claims[key] for key in claims if key != "sub"},
    "a subject that is no text": lambda claims: claims | {"sub": ["olga-7"]},
    "an endless subject": lambda claims: claims | {"sub": "x" * 256},
}


def test_what_a_token_says_is_checked(stack: Stack, provider: OpenIdProvider) -> None:
    linked(stack, provider)
    for name, twist in TWISTS.items():
        provider.twist = twist
        browser = Browser(stack)
        answer = browser.call("GET", back(provider.consent(begin(browser), "olga-7")))
        assert (answer.status_code, answer.json()["code"]) == (401, "provider-refused"), name
        assert COOKIE not in browser.cookies
    provider.twist = lambda claims: claims
    other = ECKey.generate_key("P-256", auto_kid=True)
    signers: dict[str, Callable[[Claims], str]] = {
        "alg none": unsigned,
        "the client's secret as a key": with_the_secret,
        "another key under the same id": lambda claims: provider.signed(claims, other),
        "no token": lambda _: "",
        "another shape": lambda _: "a.b.c",
    }
    for name, sign in signers.items():
        provider.sign = sign
        browser = Browser(stack)
        answer = browser.call("GET", back(provider.consent(begin(browser), "olga-7")))
        assert (answer.status_code, answer.json()["code"]) == (401, "provider-refused"), name
    provider.sign = None
    provider.key = other  # it exchanges its key: the registry asks for the new ones
    browser = Browser(stack)
    assert browser.call("GET", back(provider.consent(begin(browser), "olga-7"))).is_success


def test_what_comes_back_counts_once_and_in_the_browser_that_went(
    stack: Stack, provider: OpenIdProvider
) -> None:
    linked(stack, provider)
    victim, thief = Browser(stack), Browser(stack)
    stolen = provider.consent(begin(victim), "olga-7")
    begin(thief)
    refused(thief, stolen)  # a stolen code and state, in another browser
    refused(victim, stolen)  # and now they are used up

    mine, his = begin(victim), begin(thief)
    swapped = provider.consent(mine, "olga-7") | {"state": provider.consent(his, "eve")["state"]}
    refused(victim, swapped)  # login CSRF: the thief's state
    code_of_another = provider.consent(his, "eve")["code"]
    refused(victim, provider.consent(mine, "olga-7") | {"code": code_of_another})  # PKCE
    victim = Browser(stack)
    late = provider.consent(begin(victim), "olga-7")
    execute(stack.settings.database, "UPDATE oidc_states SET expires = 0")
    refused(victim, late)
    for wrong in (
        {"state": "made up", "code": "made up"},
        provider.consent(begin(victim), "olga-7") | {"iss": "https://evil.example"},  # mix-up
        {"state": "made up", "error": "access_denied"},
    ):
        refused(victim, wrong)


def test_a_used_or_reset_invitation_links_nobody(stack: Stack, provider: OpenIdProvider) -> None:
    made = invite(stack, stack.world.hospitals[0], "owner", "olga")
    slow, quick = Browser(stack), Browser(stack)
    address = begin(slow, made["code"])
    assert quick.call(
        "GET", back(provider.consent(begin(quick, made["code"]), "olga-7"))
    ).is_success
    refused(slow, provider.consent(address, "eve"), "bad-code")


def test_the_second_factor_is_the_providers_or_the_registrys(
    stack: Stack, provider: OpenIdProvider
) -> None:
    browser = linked(stack, provider)
    browser.csrf = browser.call("GET", "/v1/me").json()["csrf"]
    secret = browser.call("POST", "/v1/me/second-factor").json()["secret"]
    assert browser.call("PUT", "/v1/me/second-factor", {"factor": app_code(secret)}).is_success
    half = Browser(stack)
    assert half.call("GET", back(provider.consent(begin(half), "olga-7"))).is_success
    me = half.call("GET", "/v1/me").json()
    assert me["needs"] == "second-factor"
    assert half.call("GET", "/v1/runs").json()["code"] == "second-factor-required"
    # Half in is not enough to make a second factor of one's own.
    half.csrf = me["csrf"]
    assert half.call("POST", "/v1/me/second-factor").json()["code"] == "has-second-factor"
    before = half.cookies[COOKIE]
    told = half.call("POST", "/v1/sessions/second-factor", {"factor": app_code(secret, 1)})
    assert told.json()["needs"] is None and half.cookies[COOKIE] != before
    assert half.call("GET", "/v1/runs").status_code == 200
    provider.twist = lambda claims: claims | {"amr": ["pwd", "mfa"]}
    strong = Browser(stack)
    assert strong.call("GET", back(provider.consent(begin(strong), "olga-7"))).is_success
    assert strong.call("GET", "/v1/me").json()["needs"] is None


@pytest.mark.parametrize(
    "description",
    [
        {"issuer": "https://evil.example"},
        {"token_endpoint": "http://127.0.0.1/token"},
        {"jwks_uri": None},
    ],
)
def test_a_provider_that_describes_another_is_not_asked(
    stack: Stack, provider: OpenIdProvider, description: dict[str, Any]
) -> None:
    provider.description = description
    answer = Browser(stack).call("POST", "/v1/oidc/logins", {})
    assert (answer.status_code, answer.json()["code"]) == (503, "wrong-provider")


def test_a_provider_that_is_away_is_told(stack: Stack, provider: OpenIdProvider) -> None:
    oidc = stack.app.state.registry.settings.oidc
    nowhere = Path("/nowhere")
    for changed in (
        {"ca": None},  # not trusted
        {"issuer": "https://127.0.0.1:9"},  # not there
        {"ca": nowhere},
        {"client_secret": nowhere},
    ):
        away = Provider(oidc.model_copy(update=changed), stack.settings.url + CALLBACK)
        object.__setattr__(stack.app.state.registry, "provider", away)
        answer = Browser(stack).call("POST", "/v1/oidc/logins", {})
        assert (answer.status_code, answer.json()["code"]) == (503, "provider-unreachable")


def test_without_a_provider_there_is_none(stack: Stack) -> None:
    assert stack.http.get("/v1/oidc").json() == {"name": None}
    answer = stack.http.post("/v1/oidc/logins", json={})
    assert (answer.status_code, answer.json()["code"]) == (404, "no-provider")
