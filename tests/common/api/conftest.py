"""A registry that really serves over TLS, with the parties of a small world."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from accord_common.api.client import RegistryClient
from accord_common.fields import now
from accord_common.joining import parse_invitation
from accord_server.ca import create_ca
from accord_server.certificates import issue
from accord_server.registry.settings import Settings
from accord_server.registry.setup import initialise
from tests.server.registry.stack import free_port, serving, settings_in
from tests.world import World, make_world


@dataclass(frozen=True)
class Live:
    settings: Settings
    world: World
    coordinator: RegistryClient
    token: str

    @property
    def ca_pem(self) -> bytes:
        return self.settings.ca.read_bytes()


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder: Path = tmp_path_factory.mktemp("live")
    create_ca(folder, "Test CA", now())
    issue(folder, ["127.0.0.1"], folder / "server.pem", folder / "server.key", now())
    settings = settings_in(folder / "registry", folder, free_port())
    invitation = parse_invitation(asyncio.run(initialise(settings)).text)
    world = make_world(log_key=settings.read_log_key())
    ca_pem = settings.ca.read_bytes()
    with serving(settings):
        with RegistryClient(settings.url, ca_pem) as anybody:
            token = anybody.enrol(invitation.code, world.coordinator.enrolment()).token
        with RegistryClient(settings.url, ca_pem, token) as coordinator:
            yield Live(settings, world, coordinator, token)
