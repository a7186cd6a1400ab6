"""No log line holds a secret: by its field's name, by its shape, in whatever text it stands."""

import base64
import json
import secrets
from typing import Any

import pytest

from accord_common.api.membership import Invitation
from accord_common.identity import SigningKey
from accord_common.redaction import GONE, redact, redact_text


def line(**fields: Any) -> dict[str, Any]:
    return dict(redact(None, "info", {"event": "something", **fields}))


@pytest.mark.parametrize(
    "name",
    [
        "token", "access_token", "password", "PGPASSWORD_password", "passphrase", "client_secret",
        "Authorization", "set-cookie", "invitation", "key", "signing_key", "privateKey", "ca_pem",
        "shares", "seed", "token_value",
    ],
)  # fmt: skip
def test_what_stands_under_a_secrets_name_is_gone(name: str) -> None:
    assert line(**{name: "correct horse"}) == {"event": "something", name: GONE}
    nested = line(request={"headers": [{name: ["correct horse", 1]}]})
    assert nested["request"] == {"headers": [{name: GONE}]}
    assert line(**{name: None})[name] is None


def test_what_a_log_is_read_for_stays() -> None:
    fields = {
        "run": "0197a0a0-0000-7000-8000-000000000001",
        "hash": secrets.token_hex(32),
        "identity_key": SigningKey.generate().public,
        "code": "bad-token",
        "status": 401,
        "seconds": 0.25,
        "path": "/v1/enrolments",
        "why": "the registry does not know this folder's token: no such token [bad-token]",
        "database": "postgresql://accord@db.example.org:5432/accord",
        "party": None,
        "stage": "share",
    }
    assert line(**fields) == {"event": "something", **fields}
    assert line(code="")["code"] == ""


def test_an_invitations_code_is_no_errors() -> None:
    assert line(code=secrets.token_urlsafe(32))["code"] == GONE
    assert line(code={"a": 1})["code"] == GONE


def shapes() -> list[tuple[str, str]]:
    """Texts, and the secret in each."""
    word, token = "hunter2-and-more", "accord_" + secrets.token_urlsafe(32)
    bare = secrets.token_urlsafe(30)[:40] + "aB3"
    pem = SigningKey.generate().to_pem().decode()
    body = pem.splitlines()[1]
    encoded = base64.b64encode(word.encode()).decode()
    text = Invitation(code=bare, text=_invitation(bare), expires="2026-01-31T12:00:00Z").text
    return [
        (f"GET /v1/runs Authorization: Bearer {token}", token),
        (f"[(b'authorization', b'Bearer {token}')]", token),
        (f"proxy says: Proxy-Authorization: Basic {encoded} refused", encoded),
        (f"no invitation: {text}.", text.partition(":")[2]),
        (f"unknown token {token}", token),
        (f"what is {bare}?", bare),
        (f"could not load:\n{pem}", body),
        (repr(pem), body),
        (pem[: len(pem) // 2], body[:20]),
        (f"postgresql+asyncpg://accord:{word}@db.example.org/accord", word),
        (f"http://user:{word}@proxy.example.org:3128", word),
        (f"http://user:1@{word}@proxy.example.org:3128", word),
        (f"connect(host=db password={word} sslmode=verify-full)", word),
        (f"?user=a&password={word}&sslmode=x", word),
        (f"password: {word}", word),
        (json.dumps({"token": word}), word),
        (json.dumps(json.dumps({"secret": word})), word),
        (repr({"passphrase": word}), word),
        (f"input_value={{'private_key': '{word}'}}", word),
    ]


def _invitation(code: str) -> str:
    body = json.dumps({"ca": "0" * 64, "code": code, "url": "https://registry.example.org"})
    return "accord-invite:" + base64.urlsafe_b64encode(body.encode()).decode().rstrip("=")


def test_a_secrets_shape_is_found_in_any_text() -> None:
    for text, secret in shapes():
        assert secret in text
        shown = redact_text(text)
        assert secret not in shown and GONE in shown, shown
        assert secret not in json.dumps(line(exception=text, nested=[{"a": (text,)}]), default=str)
        assert redact_text(shown) == shown


def test_what_is_no_text_is_looked_at_too() -> None:
    class Client:
        def __repr__(self) -> str:
            return "Client(token='correct horse')"

    assert line(client=Client())["client"] == f"Client(token={GONE})"
    assert line(body=b"accord-invite:abc")["body"] == "17 bytes"
    assert line(**{"_record": Client}) == {"event": "something", "_record": Client}
