"""Installed as `sitecustomize`: keeps what this process sends and hears, without TLS around it.

Two files for each connection, `<when>-<pid>-<port>.sent` and `.heard`, and one line for each other
way out in `<pid>.events`: where it connects, what it resolves, bytes that go out without TLS,
programs it starts. It changes nothing. Not covered: sockets that C code opens by itself.
"""

import os
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

_FOLDER = os.path.dirname(os.path.abspath(__file__))
_LOCK = threading.Lock()
_EVENTS: dict[str, Callable[[Any], str]] = {
    "socket.connect": lambda args: repr(args[1]),
    "socket.sendto": lambda args: repr(args[1]),
    "socket.sendmsg": lambda args: repr(args[1]),
    "socket.getaddrinfo": lambda args: repr(args[0]),
    "socket.gethostbyname": lambda args: repr(args[0]),
    "subprocess.Popen": lambda args: repr(args[0]),
    "os.system": lambda args: repr(args[0]),
    "os.exec": lambda args: repr(args[0]),
    "os.posix_spawn": lambda args: repr(args[0]),
    "os.fork": lambda args: "",
}


def _note(event: str, what: str) -> None:
    with _LOCK, open(f"{_FOLDER}/{os.getpid()}.events", "a") as file:
        file.write(f"{event} {what}\n")


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if event in _EVENTS:
        _note(event, _EVENTS[event](args))


def _keep(connection: Any, ending: str, data: Any) -> None:
    if not hasattr(connection, "kept_at"):
        port = connection.getpeername()[1]
        connection.kept_at = f"{_FOLDER}/{time.time_ns():020}-{os.getpid()}-{port}"
    with open(connection.kept_at + ending, "ab") as file:
        file.write(data)


_tls_send, _tls_write, _tls_read = ssl.SSLSocket.send, ssl.SSLSocket.write, ssl.SSLSocket.read


def _send(self: ssl.SSLSocket, data: Any, flags: int = 0) -> int:
    sent = _tls_send(self, data, flags)  # `sendall` sends the rest by further calls
    _keep(self, ".sent", memoryview(data).cast("B")[:sent])
    return sent


def _write(self: ssl.SSLSocket, data: Any) -> int:
    sent = _tls_write(self, data)
    _keep(self, ".sent", memoryview(data).cast("B")[:sent])
    return sent


def _read(self: ssl.SSLSocket, length: int = 1024, buffer: Any = None) -> Any:
    found: Any = _tls_read(self, length, buffer)  # `recv` and `recv_into` come here
    _keep(self, ".heard", found if buffer is None else memoryview(buffer).cast("B")[:found])
    return found


def _plain(name: str) -> None:
    """Note plaintext to another machine; SSLSocket overrides these and calls none of them."""
    original = getattr(socket.socket, name)

    def send(self: socket.socket, *args: Any) -> Any:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            _note(f"plain.{name}", repr(args[0])[:200])
        return original(self, *args)

    setattr(socket.socket, name, send)


ssl.SSLSocket.send = _send  # type: ignore[method-assign]  # this is what a recorder is
ssl.SSLSocket.write = _write  # type: ignore[method-assign]
ssl.SSLSocket.read = _read  # type: ignore[method-assign, assignment]
for _name in ("send", "sendall", "sendto", "sendmsg"):
    _plain(_name)
sys.addaudithook(_audit)
