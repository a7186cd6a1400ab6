"""`accord-node steward`: the node's own page."""

from __future__ import annotations

from typing import Annotated

import typer

from accord_client.cli.options import DEFAULT_HOME, HomeOption, open_home
from accord_common.cli import Format, FormatOption, emit

EXAMPLE = "Example: accord-node steward --open (Ctrl-C ends it)"
_NEEDED = ("babel", "jinja2", "markupsafe", "starlette", "uvicorn")


def steward(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 0,
    address: Annotated[str, typer.Option(help="127.0.0.1 or ::1; no other.")] = "127.0.0.1",
    open_: Annotated[bool, typer.Option("--open", help="Open the link in your browser.")] = False,
    home: HomeOption = DEFAULT_HOME,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Show the node in your browser: decide, sign, pause, withdraw, set your own cap.

    The page is made from the node's own files, with the daemon or without, and answers only you,
    on this machine. The link lets one browser in, once, within ten minutes; Enter prints another.
    After 15 minutes without a step the page asks for a new one. Signing asks for the passphrase
    each time.
    """
    _require_extra()
    import time
    import webbrowser

    from accord_client.steward.door import LINK_S, Door
    from accord_client.steward.node import Node
    from accord_client.steward.server import link_of, listen, on_enter, serve

    opened = open_home(home)
    node = Node.of(opened, Door(time.monotonic), DEFAULT_HOME)
    with listen(address, port) as listening:

        def tell() -> None:
            link = link_of(listening, node)
            emit(
                {"link": link, "valid_s": LINK_S},
                format_,
                f"{link}\nIt lets you in once, within {LINK_S / 60:.0f} minutes. "
                "Enter prints another, Ctrl-C ends the page.",
            )

        if open_:
            webbrowser.open(link_of(listening, node))
        else:
            tell()
        on_enter(tell)
        serve(node, listening)


def _require_extra() -> None:
    """Refuse where what serves pages is not installed; UsageError `no-steward-extra`."""
    from importlib.util import find_spec

    from accord_common.errors import UsageError

    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise UsageError(
            "no-steward-extra",
            f"the page needs {', '.join(missing)}, which is not installed",
            hint="Install accord[node,steward]; every other verb works without.",
        )
