"""Persons of a test's registry: in a browser, with a token, with an app for the second factor."""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from typing import Any

import httpx
import pytest
from argon2 import PasswordHasher
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP

from accord_common.api.access_schemas import PersonRole
from accord_common.fields import now
from accord_server.registry.access import passwords
from accord_server.registry.access.credentials import CSRF_HEADER
from tests.server.registry.stack import Stack
from tests.world import Actor

PASSWORD = "plum harbour kettle 94"
# No query differs. Indirect: a parameter that only shadowed the fixture would leave its databases
# to those that ask for PostgreSQL next.
on_sqlite = pytest.mark.parametrize("engine", ["sqlite"], indirect=True, scope="session")


@contextmanager
def quick_hashes() -> Iterator[None]:
    """Argon2 with little memory: what is tested is not how long guessing takes."""
    little = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "_hasher", little)
        patch.setattr(passwords, "_NOBODY", little.hash("nobody has this password"))
        yield


@dataclass
class Browser:
    """A browser at the registry: its cookies, and the CSRF token that its page would hold."""

    stack: Stack
    cookies: dict[str, str] = field(default_factory=dict)
    csrf: str = ""

    def call(
        self,
        method: str,
        path: str,
        json: Any = None,
        headers: dict[str, str] | None = None,
        content: bytes | None = None,
    ) -> httpx.Response:
        """Send what the registry's own page would; an empty header of `headers` is left out."""
        sent = {"Origin": self.stack.settings.url, CSRF_HEADER: self.csrf} | (headers or {})
        sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        self.stack.http.cookies.clear()  # the test client keeps none of its own
        answer: httpx.Response = self.stack.http.request(
            method,
            path,
            json=json,
            content=content,
            headers={name: value for name, value in sent.items() if value},
        )
        for line in answer.headers.get_list("set-cookie"):
            for name, cookie in SimpleCookie(line).items():
                self.cookies.pop(name, None)
                if cookie.value:
                    self.cookies[name] = cookie.value
        self.stack.http.cookies.clear()
        return answer

    def send(self, path: str, data: bytes, headers: dict[str, str]) -> httpx.Response:
        """Post bytes that are not JSON."""
        return self.call("POST", path, headers=headers, content=data)

    def sign_in(self, login: str, password: str = PASSWORD, factor: str | None = None) -> Any:
        """Sign in; returns the answer's JSON, a problem where it failed."""
        body = {"login": login, "password": password, "factor": factor}
        told = self.call("POST", "/v1/sessions", body).json()
        self.csrf = told.get("csrf") or self.csrf
        return told


def invite(stack: Stack, actor: Actor, role: PersonRole, login: str) -> Any:
    """Have an organisation's machine invite a person; returns the invitation."""
    headers = {"Authorization": f"Bearer {stack.tokens[actor.id]}"}
    body = {"login": login, "name": login.title(), "role": role}
    answer = stack.http.post("/v1/people", json=body, headers=headers)
    assert answer.status_code == 201, answer.text
    return answer.json()


def join(stack: Stack, actor: Actor, role: PersonRole, login: str) -> Browser:
    """Have a person invited and signed in."""
    code = invite(stack, actor, role, login)["code"]
    answer = stack.http.post("/v1/passwords", json={"code": code, "password": PASSWORD})
    assert answer.status_code == 204, answer.text
    browser = Browser(stack)
    assert browser.sign_in(login)["person"]["login"] == login
    return browser


def token(browser: Browser, *scopes: str) -> str:
    """Have a person make a token."""
    body = {"name": "notebook", "scopes": scopes, "days": 30}
    answer = browser.call("POST", "/v1/tokens", body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["secret"])


def app_code(secret: str, later_steps: int = 0) -> str:
    """What a person's app shows now, or some steps later."""
    totp = TOTP(base64.b32decode(secret), 6, SHA1(), 30)
    return totp.generate(int(now().timestamp()) + 30 * later_steps).decode()
