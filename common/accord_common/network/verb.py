"""`network` of both console scripts: show or set how a party goes out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from accord_common.cli import Format, emit
from accord_common.network.settings import DIRECT, SYSTEM, NetworkFile

if TYPE_CHECKING:
    from accord_common.home import Home

ProxyOption = Annotated[
    str | None,
    typer.Option(
        "--proxy",
        help=f"http://HOST:PORT of the proxy for registry and aggregator, or {DIRECT}; "
        "'' for what $HTTPS_PROXY says.",
    ),
]
LoginOption = Annotated[
    str | None,
    typer.Option(
        "--proxy-login-file",
        help="File of mode 0600 with the proxy's user:password; '' for none. Else "
        "$ACCORD_PROXY_LOGIN.",
    ),
]
ExceptionsOption = Annotated[
    str | None,
    typer.Option(
        "--no-proxy",
        help="Who needs no proxy: hosts, .suffixes, addresses and ranges, by commas; '' for what "
        "$NO_PROXY says.",
    ),
]
BundleOption = Annotated[
    str | None,
    typer.Option(
        "--ca-bundle",
        help="PEM file of authorities that may also have signed the registry's certificate, or "
        f"{SYSTEM} for this machine's; '' for the invitation's alone.",
    ),
]


def show_or_set(
    home: Home,
    *,
    proxy: str | None,
    login_file: str | None,
    no_proxy: str | None,
    ca_bundle: str | None,
    format_: Format,
) -> None:
    """Change the fields that are given, in `network.json`, and tell what holds now."""
    given: dict[str, Any] = {
        "proxy": proxy,
        "login_file": _path(login_file),
        "no_proxy": None if no_proxy is None else _split(no_proxy),
        "ca_bundle": ca_bundle if ca_bundle == SYSTEM else _path(ca_bundle),
    }
    changes = {name: value or None for name, value in given.items() if value is not None}
    file = NetworkFile.load(home.path)
    if changes:
        file = file.model_copy(update=changes)
        file.save(home.path)
    network = home.network()
    proxied, way = network.proxy, DIRECT
    if proxied is not None:
        login = "without login" if proxied.login is None else f"as {proxied.login[0]}"
        way = f"{proxied.address} {login}, from {proxied.source}"
    answer = {
        "proxy": None if proxied is None else proxied.address,
        "source": None if proxied is None else proxied.source,
        "login": proxied is not None and proxied.login is not None,
        "no_proxy": list(network.no_proxy),
        "ca_bundle": network.ca_bundle,
    }
    lines = [
        f"proxy      {way}",
        f"no proxy   {', '.join(network.no_proxy) or '-'}",
        f"authority  the invitation's{f' and {network.ca_bundle}' if network.ca_bundle else ''}",
    ]
    emit(answer, format_, "\n".join(lines))


def _path(text: str | None) -> str | None:
    return str(Path(text).expanduser().absolute()) if text else text


def _split(text: str) -> tuple[str, ...]:
    return tuple(entry.strip() for entry in text.split(",") if entry.strip())
