"""Registries to test: empty, or with all parties joined and the agreement signed.

Every test that asks for one runs on SQLite and on PostgreSQL.
"""

import asyncio
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

import pytest

from accord_common.fields import now
from accord_server.ca import create_ca
from accord_server.certificates import issue
from accord_server.registry.setup import initialise
from tests.postgres import Postgres
from tests.server.registry.persons import quick_hashes
from tests.server.registry.stack import Stack, opened, settings_in
from tests.world import make_world


class Databases(Protocol):
    """Gives the address of a new database, like the one at `template`, for a block's length."""

    def __call__(self, template: str = "") -> AbstractContextManager[str]: ...


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    server = Postgres()
    yield server
    server.close()


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def databases(engine: str, request: pytest.FixtureRequest) -> Databases:
    """Databases of the engine; on SQLite they are files in the registries' folders."""
    if engine == "sqlite":

        @contextmanager
        def in_folder(template: str = "") -> Iterator[str]:
            yield ""

        return in_folder
    server: Postgres = request.getfixturevalue("postgres")

    @contextmanager
    def on_server(template: str = "") -> Iterator[str]:
        source = server.name_of(template) if template else "template1"
        with server.database(source) as name:
            yield server.url(name)

    return on_server


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ca")
    create_ca(folder, "Test CA", now())
    issue(folder, ["127.0.0.1", "localhost"], folder / "server.pem", folder / "server.key", now())
    return folder


@pytest.fixture
def empty(tmp_path: Path, certificates: Path, databases: Databases, engine: str) -> Iterator[Stack]:
    """A registry that nobody has joined."""
    with databases() as url:
        assert bool(url) == (engine == "postgresql"), "a database of another engine"
        settings = settings_in(tmp_path / "registry", certificates, database_url=url)
        invitation = asyncio.run(initialise(settings)).text
        with opened(settings, invitation, make_world(log_key=settings.read_log_key())) as stack:
            yield stack


@pytest.fixture(scope="session")
def template(
    tmp_path_factory: pytest.TempPathFactory, certificates: Path, databases: Databases
) -> Iterator[Stack]:
    """A closed registry with all parties, datasets and the active agreement."""
    home = tmp_path_factory.mktemp("template") / "registry"
    with databases() as url:
        settings = settings_in(home, certificates, database_url=url)
        invitation = asyncio.run(initialise(settings)).text
        with opened(settings, invitation, make_world(log_key=settings.read_log_key())) as stack:
            stack.join_all()
            stack.register_datasets()
            stack.sign_agreement()
        yield stack


@pytest.fixture
def stack(
    tmp_path: Path, certificates: Path, template: Stack, databases: Databases, engine: str
) -> Iterator[Stack]:
    """A registry whose parties have joined and signed."""
    home = tmp_path / "registry"
    shutil.copytree(template.settings.home, home)
    with databases(template.settings.database_url) as url:
        assert bool(url) == (engine == "postgresql"), "a database of another engine"
        settings = settings_in(home, certificates, database_url=url)
        settings.save()
        with opened(settings, "", template.world) as found:
            found.tokens = dict(template.tokens)
            yield found


@pytest.fixture
def quick_passwords() -> Iterator[None]:
    """Who gets in is tested, with hashes that cost little."""
    with quick_hashes():
        yield


@pytest.fixture(scope="module")
def quick_accounts() -> Iterator[None]:
    """The same, for all of a module's people."""
    with quick_hashes():
        yield
