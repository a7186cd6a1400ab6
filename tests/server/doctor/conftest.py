"""A registry that serves, with the folder of its coordinator, for tests to spoil copies of."""

import asyncio
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from accord_common.fields import now
from accord_common.home import Home
from accord_common.joining import enrol
from accord_server.ca import create_ca
from accord_server.certificates import issue
from accord_server.registry.settings import Settings
from accord_server.registry.setup import initialise
from tests.proxies import HOST
from tests.server.registry.stack import free_port, serving, settings_in

PASSPHRASE = "a long passphrase"
NAME = "registry.accord.test"  # nobody resolves it but a proxy that is told so


@dataclass(frozen=True)
class Place:
    """A registry that serves, and the folder of its coordinator, for all rows to copy."""

    folder: Path
    settings: Settings
    home: Home

    def certificate(self, name: str, *hosts: str, days: int = 0, ca: str = "ca") -> Path:
        """A certificate made `days` from now."""
        path = self.folder / f"{name}.pem"
        if not path.exists():
            moment = now() + timedelta(days=days)
            issue(self.folder / ca, list(hosts), path, path.with_suffix(".key"), moment)
        return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("place")
    create_ca(folder / "ca", "Accord CA", now() - timedelta(days=700))
    create_ca(folder / "inspecting", "Hospital TLS inspection", now())
    issue(folder / "ca", [HOST, NAME], folder / "server.pem", folder / "server.key", now())
    shutil.copy(folder / "ca" / "ca.pem", folder / "ca.pem")
    settings = settings_in(folder / "registry", folder, free_port())
    invitation = asyncio.run(initialise(settings)).text
    with serving(settings):
        home = Home.create(
            folder / "home",
            name="Trial office",
            role="coordinator",
            jurisdiction="DE",
            contact="x",
            passphrase=PASSPHRASE,
        )
        yield Place(folder, settings, enrol(home, invitation, PASSPHRASE))
