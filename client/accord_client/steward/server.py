"""Serving the page on this machine alone, and printing links to it.

Guarantees: only a loopback address is bound, whatever is asked for; no request, link or cookie is
logged; a link is written where the person who started the process reads, and nowhere else.
"""

import sys
import threading
from collections.abc import Callable
from ipaddress import ip_address
from socket import AF_INET, AF_INET6, create_server, socket
from types import FrameType

import uvicorn

from accord_client.steward.app import create_app
from accord_client.steward.node import Node
from accord_client.steward.peers import own_uids, uid_of
from accord_client.steward.visit import ENTER
from accord_common.errors import UsageError

ADDRESSES = ("127.0.0.1", "::1")
_DRAIN_S = 5  # a request in flight may be signing


class Server(uvicorn.Server):
    """Uvicorn on a socket that is bound already; a signal ends open event streams too."""

    def __init__(self, node: Node) -> None:
        config = uvicorn.Config(
            create_app(node, uid_of, own_uids()),
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="none",
            lifespan="off",
            timeout_graceful_shutdown=_DRAIN_S,
        )
        super().__init__(config)
        self._node = node

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop; the process ends with exit code 0."""
        self.end()

    def end(self) -> None:
        """Stop, from any thread."""
        self._node.closing.set()
        self.should_exit = True


def listen(address: str, port: int) -> socket:
    """Bind a port of this machine's own; 0 takes a free one.

    Raises:
        UsageError: `not-loopback` for any other address, `cannot-listen`.
    """
    if address not in ADDRESSES:
        raise UsageError(
            "not-loopback",
            f"{address} is not one of {' and '.join(ADDRESSES)}; the page answers nobody else",
            hint="From another machine: ssh -L 8470:127.0.0.1:8470 NODE, with --port 8470 here.",
        )
    family = AF_INET6 if ip_address(address).version == 6 else AF_INET
    try:
        return create_server((address, port), family=family)
    except (OSError, OverflowError) as error:
        raise UsageError(
            "cannot-listen",
            f"cannot listen on {address}:{port}: {error}",
            hint="Another process may use the port; 0 takes a free one.",
        ) from error


def origin_of(listening: socket) -> str:
    """What the address bar shows."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def link_of(listening: socket, node: Node) -> str:
    """A fresh link; the one before is void. Its code follows #, which browsers send to nobody."""
    return f"{origin_of(listening)}{ENTER}#{node.door.link()}"


def on_enter(again: Callable[[], None]) -> None:
    """Call `again` whenever somebody presses Enter, if there is a terminal to do so."""

    def read() -> None:
        for _ in sys.stdin:
            again()

    if sys.stdin.isatty():
        threading.Thread(target=read, name="links", daemon=True).start()


def serve(node: Node, listening: socket) -> None:
    """Serve until a signal; what goes on beside the pages begins and ends here."""
    node.board.start()
    node.proofs.start()
    try:
        Server(node).run(sockets=[listening])
    finally:
        node.closing.set()
        node.board.stop()
        node.proofs.stop()
