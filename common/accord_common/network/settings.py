"""What a party's folder, or else the environment, says about the way out: `network.json`.

    proxy       http://HOST:PORT, or `direct`; else $HTTPS_PROXY
    login_file  file of mode 0600 with the proxy's user:password; else $ACCORD_PROXY_LOGIN
    no_proxy    hosts that need none; else $NO_PROXY
    ca_bundle   PEM file, or `system`: who else may have signed the registry's certificate

Guarantees: a field of the folder outweighs the environment; no password is written into the file.
The registry's authority that an invitation pinned is trusted always, another only where the folder
names it: $SSL_CERT_FILE moves the system's store and counts only with `system`. The aggregator is
known by its key, whatever this says.

In the environment lower case outweighs upper case, as curl has it; $ALL_PROXY is not read.
"""

import json
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from accord_common.errors import FormatError, UsageError
from accord_common.fields import Record, Text
from accord_common.files import replace_file
from accord_common.network.route import Proxy, is_direct, parse_proxy
from accord_common.tls import trusting

FILE_NAME = "network.json"
DIRECT = "direct"
SYSTEM = "system"
LOGIN_VARIABLE = "ACCORD_PROXY_LOGIN"


class NetworkFile(Record):
    """The file's fields; null where the environment or the default holds."""

    proxy: Text | None = None
    login_file: Text | None = None
    no_proxy: tuple[Text, ...] | None = None
    ca_bundle: Text | None = None

    def save(self, folder: Path) -> None:
        """Check, and write into a party's folder.

        Raises:
            UsageError: `bad-proxy`, `proxy-password-in-setting`, `bad-proxy-login`,
                `bad-ca-bundle`.
        """
        if self.proxy not in (None, DIRECT):
            if parse_proxy(str(self.proxy), "--proxy").login is not None:
                raise UsageError(
                    "proxy-password-in-setting",
                    "the proxy's address holds a login, which would be kept in plain sight",
                    hint=f"Put user:password into a file of mode 0600, or into ${LOGIN_VARIABLE}.",
                )
        Network.made(self, os.environ)
        if self.ca_bundle not in (None, SYSTEM):
            _add(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), str(self.ca_bundle))
        replace_file(
            folder / FILE_NAME, json.dumps(self.to_json(), indent=2).encode("utf-8") + b"\n"
        )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a folder's file; nothing is set where there is none; FormatError `bad-network`."""
        path = folder / FILE_NAME
        try:
            return cls.from_json(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return cls()
        except (OSError, ValueError, FormatError) as error:
            raise FormatError("bad-network", f"{path}: {error}", hint="Set it anew.") from error


@dataclass(frozen=True, slots=True)
class Network:
    """How this party goes out.

    Attributes:
        proxy: the proxy, if any.
        no_proxy: who is reached without it.
        ca_bundle: PEM file of those trusted for the registry beside the pinned one, or `system`.
    """

    proxy: Proxy | None = None
    no_proxy: tuple[str, ...] = ()
    ca_bundle: str | None = None

    @classmethod
    def of(cls, folder: Path, environment: Mapping[str, str] = os.environ) -> Self:
        """What a party's folder says, and the environment where it says nothing.

        Raises:
            UsageError: `bad-proxy`, `bad-proxy-login`.
            FormatError: `bad-network`.
        """
        return cls.made(NetworkFile.load(folder), environment)

    @classmethod
    def made(cls, file: NetworkFile, environment: Mapping[str, str] = os.environ) -> Self:
        """See `of`."""
        proxy = _proxy(file, environment)
        no_proxy = file.no_proxy
        if no_proxy is None:
            no_proxy = tuple(entry for entry in _value(environment, "no_proxy").split(",") if entry)
        return cls(proxy, no_proxy, file.ca_bundle)

    def route(self, host: str, port: int) -> Proxy | None:
        """The proxy on the way to a host, or None: the one place that decides."""
        return None if is_direct(host, port, self.no_proxy) else self.proxy

    def trusting_registry(self, pinned: bytes) -> ssl.SSLContext:
        """A context for the registry: its pinned authority, and those that the folder adds.

        Raises:
            UsageError: `bad-ca-bundle`.
        """
        context = trusting(pinned)
        if self.ca_bundle == SYSTEM:
            context.set_default_verify_paths()
        elif self.ca_bundle is not None:
            _add(context, self.ca_bundle)
        return context


def _proxy(file: NetworkFile, environment: Mapping[str, str]) -> Proxy | None:
    text, source = file.proxy, FILE_NAME
    if text is None:
        text, source = _value(environment, "https_proxy"), "$HTTPS_PROXY"
    if text in ("", DIRECT):
        return None
    proxy = parse_proxy(text, source)
    login = proxy.login
    if file.login_file is not None:
        login = _login(_secret(Path(file.login_file)), file.login_file)
    elif login is None and (told := environment.get(LOGIN_VARIABLE)):
        login = _login(told, f"${LOGIN_VARIABLE}")
    return Proxy(proxy.host, proxy.port, login, source)


def _value(environment: Mapping[str, str], name: str) -> str:
    return environment.get(name) or environment.get(name.upper()) or ""


def _login(text: str, source: str) -> tuple[str, str]:
    user, colon, password = text.strip("\r\n").partition(":")
    if not (user and colon) or "\n" in password:
        raise UsageError("bad-proxy-login", f"{source} is not one line user:password")
    return user, password


def _secret(path: Path) -> str:
    try:
        mode, text = path.stat().st_mode, path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError("bad-proxy-login", f"{path}: {error}") from error
    if mode & 0o077:
        raise UsageError(
            "bad-proxy-login",
            f"{path} has mode {mode & 0o777:o}, others can read it",
            hint=f"chmod 600 {path}",
        )
    return text


def _add(context: ssl.SSLContext, bundle: str) -> None:
    try:
        context.load_verify_locations(cafile=bundle)  # unlike cadata, with comments of any kind
    except OSError as error:  # of which SSLError is one
        raise UsageError(
            "bad-ca-bundle",
            f"{bundle}: {error.strerror or error}",
            hint=f"A PEM file of certificates is needed, or the word {SYSTEM}.",
        ) from error
