"""An institution's network: a name space with one line out, to a proxy, where the machine allows.

What is inside has no route to anything but the proxy. Where name spaces may not be made (no root),
the same processes run on this machine's own network, and only names that nobody but the proxy
resolves keep them from a direct way; `Network.apart` says which it is.
"""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
LOGIN = ("anna", "p w:d")
_CONNECT = re.compile(r"CONNECT (\S+) - ")


@dataclass(frozen=True)
class Network:
    """Where commands run, and where the proxy listens.

    Attributes:
        name: the name space; empty where there is none.
        gate: this machine's address on the line.
        shaped: whether the kernel keeps the line to its rate.
    """

    name: str
    gate: str
    shaped: bool = False

    @property
    def apart(self) -> bool:
        """Whether no direct way exists."""
        return bool(self.name)

    def wrap(self, command: list[str], *environment: str) -> list[str]:
        """The command as it runs inside."""
        inside = ["ip", "netns", "exec", self.name] if self.name else []
        return [*inside, "env", *environment, *command]


@contextmanager
def network(kbit: int | None = None) -> Iterator[Network]:
    """Make the name space, with a line of so many kbit/s each way; gone at the end."""
    name, line = f"accord-{os.getpid()}", f"ac{os.getpid()}"
    two = f"10.213.{os.getpid() % 256}"  # a net of two addresses; another run has another
    gate = f"{two}.1"
    if not _ip("netns", "add", name):
        yield Network("", "127.0.0.1")
        return
    try:
        made = (
            _ip("link", "add", line, "type", "veth", "peer", "name", "out", "netns", name)
            and _ip("addr", "add", f"{gate}/30", "dev", line)
            and _ip("link", "set", line, "up")
            and _ip("-n", name, "addr", "add", f"{two}.2/30", "dev", "out")
            and _ip("-n", name, "link", "set", "out", "up")
            and _ip("-n", name, "link", "set", "lo", "up")
        )
        if made:
            yield Network(name, gate, kbit is not None and _shape(name, line, kbit))
        else:
            yield Network("", "127.0.0.1")
    finally:
        _ip("netns", "del", name)  # the line goes with it


def _shape(name: str, line: str, kbit: int) -> bool:
    """Let the kernel send no faster, behind a queue of 8 s at 256 kbit/s, as cheap routers have."""
    rate = ("root", "tbf", "rate", f"{kbit}kbit", "burst", "16kb", "limit", "256kb")
    return _run("tc", "qdisc", "add", "dev", line, *rate) and _run(
        "tc", "-n", name, "qdisc", "add", "dev", "out", *rate
    )


def _ip(*arguments: str) -> bool:
    return _run("ip", *arguments)


def _run(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


class RealProxy:
    """proxy.py in a process of its own, with a login."""

    def __init__(self, address: str, log: Path) -> None:
        self._log = log
        with log.open("wb") as said:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "proxy", "--hostname", address, "--port", "0"),
                    *("--port-file", str(log.with_suffix(".port")), "--timeout", "300"),
                    *("--num-acceptors", "1", "--num-workers", "1"),
                    *("--basic-auth", ":".join(LOGIN), "--plugins", "tests.proxy_names.Names"),
                ],
                stdout=said,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
            )
        wait(lambda: self._port_file.exists() and self._port_file.read_text().strip() != "")
        self.url = f"http://{address}:{int(self._port_file.read_text().split()[0])}"

    @property
    def _port_file(self) -> Path:
        return self._log.with_suffix(".port")

    def connects(self) -> list[str]:
        """Where each connection that has ended was let through to."""
        return _CONNECT.findall(self._log.read_text(errors="replace"))

    def said(self) -> str:
        """All that it logged."""
        return self._log.read_text(errors="replace")

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def wait(true: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait for something that another process does."""
    turn = threading.Event()
    for _ in range(int(seconds / 0.02)):
        if true():
            return
        turn.wait(0.02)
    raise AssertionError("waited in vain")
