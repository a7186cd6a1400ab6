"""One OpenID provider: where people sign in, and whether what it says of them holds.

Guarantees: TLS to the provider, and its configuration's issuer is the one that was set; of a token,
signature (asymmetric algorithms alone, by a key that the provider publishes), issuer, audience,
expiry and nonce are checked (OpenID Connect Core 1.0, 3.1.3.7); the code is worth nothing without
the verifier (PKCE S256, RFC 7636). authlib and joserfc do it.

Not covered: signing out at the provider, and what it says later of an account that is signed in.
"""

import importlib
import ssl
import time
import warnings
from dataclasses import dataclass
from typing import Any

import httpx
import structlog
from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet

from accord_common.errors import AuthError, TransportError
from accord_server.registry.settings import Oidc

with warnings.catch_warnings():  # authlib would rather have httpx2, which flwr does not allow
    importlib.import_module("authlib.deprecate")  # puts a filter of its own before all others
    warnings.simplefilter("ignore")
    from authlib.common.errors import AuthlibBaseError
    from authlib.integrations.httpx_client import AsyncOAuth2Client
    from authlib.oidc.core import CodeIDToken

_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "Ed25519"]
_TIMEOUT_S = 10.0
_LEEWAY_S = 60  # of the provider's clock
_KEPT_S = 3600.0  # configuration and keys; an unknown key is asked for at once
_log = structlog.get_logger("accord.registry")


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom the provider names; `several` is its word that more than one factor was asked for."""

    issuer: str
    subject: str
    several: bool


class Provider:
    """The registry's dealings with its provider; every failure is an AccordError.

    Args:
        settings: how it is reached.
        redirect: the registry's own address to which it sends browsers back.
    """

    def __init__(self, settings: Oidc, redirect: str) -> None:
        self._settings = settings
        self._redirect = redirect
        self._known: dict[str, Any] = {}
        self._known_at = 0.0

    async def address(self, state: str, nonce: str, verifier: str) -> str:
        """Where a browser goes; TransportError `provider-unreachable`."""
        async with self._client() as client:
            configuration = await self._configuration(client)
            url, _ = client.create_authorization_url(
                configuration["authorization_endpoint"],
                state=state,
                nonce=nonce,
                code_verifier=verifier,
            )
            return str(url)

    async def identity(self, code: str, nonce: str, verifier: str) -> Identity:
        """Whom a code that came back stands for.

        Raises:
            AuthError: `provider-refused` where the code, or the token for it, does not hold.
            TransportError: `provider-unreachable`.
        """
        async with self._client() as client:
            configuration = await self._configuration(client)
            try:
                answer = await client.fetch_token(
                    configuration["token_endpoint"], code=code, code_verifier=verifier
                )
                token = str(answer["id_token"])
                claims = await self._claims(client, token)
                checked = CodeIDToken(
                    claims.claims,
                    claims.header,
                    options={
                        "iss": {"essential": True, "value": self._settings.issuer},
                        "aud": {"essential": True, "value": self._settings.client_id},
                    },
                    params={
                        "nonce": nonce,
                        "client_id": self._settings.client_id,
                        "access_token": answer.get("access_token"),
                    },
                )
                checked.validate(now=int(time.time()), leeway=_LEEWAY_S)
            except httpx.HTTPError as error:
                raise _unreachable(self._settings, error) from error
            except (AuthlibBaseError, JoseError, KeyError, TypeError, ValueError) as error:
                _log.warning("provider-refused", why=type(error).__name__)
                raise refused("its answer does not hold") from error
        subject = checked["sub"]
        if not isinstance(subject, str) or not 0 < len(subject) <= 255:
            raise refused("it names nobody")
        methods = checked.get("amr") or []
        return Identity(self._settings.issuer, subject, "mfa" in methods)  # RFC 8176

    async def _claims(self, client: Any, token: str) -> jwt.Token:
        try:
            keys = KeySet.import_key_set(self._known["keys"])
            return jwt.decode(token, keys, algorithms=_ALGORITHMS)
        except (InvalidKeyIdError, KeyError):  # keys are exchanged, or not asked for yet
            address = (await self._configuration(client))["jwks_uri"]
            self._known["keys"] = await _json(client, address, self._settings)
            keys = KeySet.import_key_set(self._known["keys"])
            return jwt.decode(token, keys, algorithms=_ALGORITHMS)

    async def _configuration(self, client: Any) -> dict[str, str]:
        if time.monotonic() - self._known_at > _KEPT_S or "configuration" not in self._known:
            base = self._settings.issuer.rstrip("/")
            found = await _json(client, f"{base}/.well-known/openid-configuration", self._settings)
            wanted = ("authorization_endpoint", "token_endpoint", "jwks_uri")
            if found.get("issuer") != self._settings.issuer or not all(
                str(found.get(name, "")).startswith("https://") for name in wanted
            ):
                raise TransportError(
                    "wrong-provider",
                    f"{base} does not describe the issuer {self._settings.issuer} over https",
                    hint="Compare `oidc.issuer` in registry.json, to the last character.",
                )
            self._known, self._known_at = {"configuration": found}, time.monotonic()
        configuration: dict[str, str] = self._known["configuration"]
        return configuration

    def _client(self) -> Any:
        ca = self._settings.ca
        try:
            secret = self._settings.client_secret.read_text(encoding="utf-8").strip()
            context = ssl.create_default_context(cafile=None if ca is None else str(ca))
        except OSError as error:  # a file that is gone, or is no PEM
            raise _unreachable(self._settings, error) from error
        return AsyncOAuth2Client(
            self._settings.client_id,
            secret,
            redirect_uri=self._redirect,
            scope="openid",
            code_challenge_method="S256",
            verify=context,
            trust_env=False,
            timeout=_TIMEOUT_S,
        )


def refused(why: str) -> AuthError:
    """What is said where a provider's sign-in does not hold."""
    return AuthError(
        "provider-refused", f"signing in with the provider failed: {why}", hint="Begin again."
    )


async def _json(client: Any, address: str, settings: Oidc) -> dict[str, Any]:
    try:
        answer = await client.request("GET", address, withhold_token=True)
        answer.raise_for_status()
        found = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        raise _unreachable(settings, error) from error
    if not isinstance(found, dict):
        raise _unreachable(settings, None)
    return found


def _unreachable(settings: Oidc, error: Exception | None) -> TransportError:
    _log.warning("provider-unreachable", why=type(error).__name__)
    return TransportError(
        "provider-unreachable",
        f"{settings.name} does not answer as an OpenID provider",
        hint="Sign in with a password meanwhile; `oidc` in registry.json says where it is.",
    )
