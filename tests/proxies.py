"""Machines on the way, and at a wrong end of it: a CONNECT proxy with failure modes and slow lines,
a gateway that tells TLS servers apart by name, a server that is not the one that was wanted.

Each runs in a thread of its own and remembers what it was asked for.
"""

import asyncio
import contextlib
import socket
import ssl
import threading
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Self

HOST = "127.0.0.1"
_READ_BYTES = 16 << 10

Place = tuple[str, int]


@dataclass(kw_only=True)
class Line:
    """How bytes travel: all connections of one direction share its rate.

    Attributes:
        rate: bytes a second each way, or None for what the machine does.
        delay_s: from one end to the other.
    """

    rate: float | None = None
    delay_s: float = 0.0
    _free_at: dict[str, float] = field(default_factory=dict)

    async def carry(
        self, way: str, source: asyncio.StreamReader, sink: asyncio.StreamWriter
    ) -> None:
        """Pass on until the source ends. The delay holds up what comes, not what follows it."""
        loop = asyncio.get_running_loop()
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def deliver() -> None:
            while True:
                due, data = await under_way.get()
                await asyncio.sleep(max(0.0, due - loop.time()))
                if not data:
                    return
                sink.write(data)
                await sink.drain()

        delivering = asyncio.ensure_future(deliver())
        with contextlib.suppress(OSError):
            while data := await source.read(_READ_BYTES):
                if self.rate is not None:
                    begin = max(loop.time(), self._free_at.get(way, 0.0))
                    self._free_at[way] = begin + len(data) / self.rate
                    await asyncio.sleep(self._free_at[way] - loop.time())
                under_way.put_nowait((loop.time() + self.delay_s, data))
        under_way.put_nowait((0.0, b""))
        with contextlib.suppress(OSError):
            await delivering
        sink.close()


class Machine:
    """Listens on a free port of the loopback, in a thread; a context manager."""

    def __init__(self, address: str = HOST) -> None:
        self._listening = socket.create_server((address, 0))
        self.port: int = self._listening.getsockname()[1]
        self.seen: list[str] = []
        self.heads: list[str] = []  # what they were asked with, in lower case
        self.tls: ssl.SSLContext | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        raise NotImplementedError

    async def _run(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._guarded, sock=self._listening, ssl=self.tls)
        self._ready.set()
        await self._stop.wait()
        server.close()

    async def _guarded(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await self.serve(reader, writer)
        writer.close()


async def join(
    line: Line, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, place: Place
) -> None:
    """Pass on both ways between a connection and a place."""
    there, back = await asyncio.open_connection(*place)
    try:
        await asyncio.gather(line.carry("up", reader, back), line.carry("down", there, writer))
    finally:
        back.close()


class ConnectProxy(Machine):
    """Speaks CONNECT.

    Args:
        login: user and password that it wants.
        answer: bytes that it says to every CONNECT instead of doing it; empty for silence.
        names: the machine that a host name leads to, which nobody else need know; with a port
            where it is not the one that was asked for.
        line: how it carries.
        address: where it listens.
    """

    def __init__(
        self,
        *,
        login: tuple[str, str] | None = None,
        answer: bytes | None = None,
        names: Mapping[str, str | Place] | None = None,
        line: Line | None = None,
        address: str = HOST,
    ) -> None:
        super().__init__(address)
        self._address = address
        self._login = login
        self._answer = answer
        self._names = names or {}
        self._line = line or Line()

    @property
    def url(self) -> str:
        """Its address, without a login."""
        return f"http://{self._address}:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        text = (await reader.readuntil(b"\r\n\r\n")).decode("ascii")
        self.heads.append(text.lower())
        head = text.split("\r\n")
        method, target, _ = head[0].split(" ")
        assert method == "CONNECT"
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        if self._answer is not None:
            self.seen.append(target)
            writer.write(self._answer)
            if not self._answer:
                await reader.read()
            return
        if self._login is not None:
            wanted = "basic " + b64encode(":".join(self._login).encode()).decode()
            if headers.get("proxy-authorization") != wanted.lower():
                writer.write(status(407, "Proxy Authentication Required"))
                return
        self.seen.append(target)
        host, _, port = target.rpartition(":")
        found = self._names.get(host, host.strip("[]"))
        place = (found, int(port)) if isinstance(found, str) else found
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await join(self._line, reader, writer, place)


def status(number: int, reason: str) -> bytes:
    """An HTTP answer without a body."""
    return f"HTTP/1.1 {number} {reason}\r\nContent-Length: 0\r\n\r\n".encode()


class SniGateway(Machine):
    """One port for several TLS servers: passes on by the name in the ClientHello, unopened.

    What nginx does with `stream` and `ssl_preread`.
    """

    def __init__(self, servers: Mapping[str, Callable[[], Place]]) -> None:
        super().__init__()
        self._servers = servers

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        record = await reader.readexactly(5)
        hello = await reader.readexactly(int.from_bytes(record[3:5], "big"))
        name = server_name(hello)
        self.seen.append(name)
        there, back = await asyncio.open_connection(*self._servers[name]())
        back.write(record + hello)
        line = Line()
        try:
            await asyncio.gather(line.carry("up", reader, back), line.carry("down", there, writer))
        finally:
            back.close()


def server_name(hello: bytes) -> str:
    """The host name in a ClientHello (RFC 8446, 4.1.2; RFC 6066, 3)."""
    at = 4 + 2 + 32  # handshake header, version, random
    at += 1 + hello[at]  # session id
    at += 2 + int.from_bytes(hello[at : at + 2], "big")  # cipher suites
    at += 1 + hello[at]  # compression
    at += 2
    while at < len(hello):
        kind, size = hello[at : at + 2], int.from_bytes(hello[at + 2 : at + 4], "big")
        if kind == b"\0\0":
            return hello[at + 9 : at + 4 + size].decode("ascii")
        at += 4 + size
    raise ValueError("no server name")


class TlsServer(Machine):
    """A TLS server that gives the same answer to every request.

    Args:
        certificate: its PEM file, with the key beside it (`.key`).
        answers: what to say for a path, `{"/livez": b"HTTP/1.1 200 ..."}`; else it hangs up.
    """

    def __init__(self, certificate: Path, answers: Mapping[str, bytes] | None = None) -> None:
        super().__init__()
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(certificate, certificate.with_suffix(".key"))
        self._answers = answers or {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            self.heads.append(head.decode("ascii").lower())
            path = head.decode("ascii").split(" ")[1]
            self.seen.append(path)
            if path not in self._answers:
                return
            writer.write(self._answers[path])
            await writer.drain()


def say(body: str, *, number: int = 200, date: datetime | None = None) -> bytes:
    """An HTTP answer with a body."""
    when = format_datetime(date or datetime.now(UTC), usegmt=True)
    head = f"HTTP/1.1 {number} X\r\nDate: {when}\r\nContent-Length: {len(body)}\r\n\r\n"
    return (head + body).encode()
