"""An OpenID provider over TLS, in a thread: it signs real tokens, and lies where a test says so."""

import base64
import hashlib
import json
import secrets
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import ECKey, KeySet

CLIENT_ID, CLIENT_SECRET = "accord-registry", "a secret between the two"
Claims = dict[str, Any]


@dataclass
class OpenIdProvider:
    """What the provider knows; `twist` changes what it says, `sign` how."""

    issuer: str
    redirect: str
    key: ECKey = field(default_factory=lambda: ECKey.generate_key("P-256", auto_kid=True))
    codes: dict[str, tuple[str, str, str]] = field(default_factory=dict)  # challenge, nonce, sub
    twist: Callable[[Claims], Claims] = lambda claims: claims
    sign: Callable[[Claims], str] | None = None
    description: dict[str, Any] = field(default_factory=dict)

    def consent(self, address: str, subject: str) -> dict[str, str]:
        """A person signs in at the address that the registry sent the browser to.

        Returns the query that the browser is sent back with.
        """
        parts = urlsplit(address)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        assert f"{parts.scheme}://{parts.netloc}{parts.path}" == f"{self.issuer}/authorize"
        assert query["response_type"] == "code" and query["scope"] == "openid"
        assert query["client_id"] == CLIENT_ID and query["redirect_uri"] == self.redirect
        assert query["code_challenge_method"] == "S256"
        code = secrets.token_urlsafe(16)
        self.codes[code] = (query["code_challenge"], query["nonce"], subject)
        return {"code": code, "state": query["state"], "iss": self.issuer}

    def token(self, form: dict[str, str], authorization: str) -> tuple[int, Claims]:
        """Answer the token endpoint as RFC 6749, 4.1.3 and RFC 7636, 4.6 say."""
        login = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        if authorization != f"Basic {login}":
            return 401, {"error": "invalid_client"}
        challenge, nonce, subject = self.codes.pop(form["code"], ("", "", ""))
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        proved = base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == challenge
        if not proved or form.get("redirect_uri") != self.redirect:
            return 400, {"error": "invalid_grant"}
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "sub": subject,
            "aud": CLIENT_ID,
            "iat": now,
            "exp": now + 300,
            "nonce": nonce,
            "email": "owner@example.org",
        }
        claims = self.twist(claims)
        signed = self.sign(claims) if self.sign else self.signed(claims)
        return 200, {"access_token": "unused", "token_type": "Bearer", "id_token": signed}

    def signed(self, claims: Claims, key: ECKey | None = None) -> str:
        """Sign claims, as a rule with the published key."""
        key = key or self.key
        return jwt.encode({"alg": "ES256", "kid": self.key.kid}, claims, key)

    def answer(self, method: str, path: str, body: str, authorization: str) -> tuple[int, Claims]:
        """Answer one request."""
        match method, path:
            case "GET", "/.well-known/openid-configuration":
                return 200, {
                    "issuer": self.issuer,
                    "authorization_endpoint": f"{self.issuer}/authorize",
                    "token_endpoint": f"{self.issuer}/token",
                    "jwks_uri": f"{self.issuer}/jwks",
                } | self.description
            case "GET", "/jwks":
                return 200, dict(KeySet([self.key]).as_dict(private=False))
            case "POST", "/token":
                form = {name: values[0] for name, values in parse_qs(body).items()}
                return self.token(form, authorization)
            case _:
                return 404, {}


@contextmanager
def serving_provider(certificates: Path, redirect: str) -> Iterator[OpenIdProvider]:
    """Serve a provider for the length of a block."""

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", "0"))).decode()
            status, told = provider.answer(
                self.command, self.path, body, self.headers.get("authorization", "")
            )
            data = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = handle_any

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    provider = OpenIdProvider(f"https://127.0.0.1:{server.server_port}", redirect)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def back(address: dict[str, str]) -> str:
    """The path that a browser comes back with."""
    return f"/v1/oidc/callback?{urlencode(address)}"
