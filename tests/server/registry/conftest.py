"""Registries to test: empty, or with all parties joined and the agreement signed."""

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from accord_common.fields import now
from accord_server.ca import create_ca
from accord_server.certificates import issue
from accord_server.registry.setup import initialise
from tests.server.registry.stack import Stack, opened, settings_in
from tests.world import World, make_world


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ca")
    create_ca(folder, "Test CA", now())
    issue(folder, ["127.0.0.1", "localhost"], folder / "server.pem", folder / "server.key", now())
    return folder


@pytest.fixture
def empty(tmp_path: Path, certificates: Path) -> Iterator[Stack]:
    """A registry that nobody has joined."""
    settings = settings_in(tmp_path / "registry", certificates)
    invitation = asyncio.run(initialise(settings))
    with opened(settings, invitation.text, make_world(log_key=settings.read_log_key())) as stack:
        yield stack


@pytest.fixture(scope="session")
def template(
    tmp_path_factory: pytest.TempPathFactory, certificates: Path
) -> tuple[Path, World, dict[str, str]]:
    """A registry's folder with all parties, datasets and the active agreement."""
    home = tmp_path_factory.mktemp("template") / "registry"
    settings = settings_in(home, certificates)
    invitation = asyncio.run(initialise(settings))
    world = make_world(log_key=settings.read_log_key())
    with opened(settings, invitation.text, world) as stack:
        stack.join_all()
        stack.register_datasets()
        stack.sign_agreement()
        return home, world, stack.tokens


@pytest.fixture
def stack(
    tmp_path: Path, certificates: Path, template: tuple[Path, World, dict[str, str]]
) -> Iterator[Stack]:
    """A registry whose parties have joined and signed."""
    home, world, tokens = template
    shutil.copytree(home, tmp_path / "registry")
    settings = settings_in(tmp_path / "registry", certificates)
    with opened(settings, "", world) as found:
        found.tokens = dict(tokens)
        yield found
