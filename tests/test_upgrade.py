"""What earlier releases left on disks is opened, brought forward and served by this one.

The archives are made by `tests/fixtures/make.py`, one a release, and never again.
"""

import asyncio
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from accord_client.outbox import FILE_NAME as OUTBOX
from accord_client.outbox import verify
from accord_client.stores import open_stores
from accord_common.fields import now
from accord_common.home import Home, Profile
from accord_common.identity import SigningKey
from accord_server.aggregator.checkpoints import Checkpoints
from accord_server.aggregator.journal import Journal, Note
from accord_server.ca import create_ca
from accord_server.certificates import issue
from accord_server.registry import settings as stored
from accord_server.registry.backup.restore import restore
from accord_server.registry.settings import Settings
from accord_server.registry.setup import migrate, rebuild_projections
from tests.server.registry.stack import opened
from tests.world import make_world

ARCHIVES = sorted((Path(__file__).parent / "fixtures").glob("release-*.tar.xz"))


@dataclass(frozen=True)
class Left:
    """An earlier release's folders, and what it said of them."""

    folder: Path
    expected: dict[str, Any]
    certificates: Path

    @property
    def registry(self) -> Settings:
        return stored.load(self.folder / "registry").model_copy(
            update={
                "home": self.folder / "registry",
                "certificate": self.certificates / "server.pem",
                "key": self.certificates / "server.key",
                "ca": self.certificates / "ca.pem",
            }
        )


@pytest.fixture(scope="module", params=ARCHIVES, ids=lambda path: path.name)
def left(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Left]:
    folder = tmp_path_factory.mktemp("left")
    with tarfile.open(request.param) as tar:
        tar.extractall(folder, filter="data")
    ca = folder / "ca"
    create_ca(ca, "Test CA", now())
    issue(ca, ["127.0.0.1"], ca / "server.pem", ca / "server.key", now())
    yield Left(folder, json.loads((folder / "expected.json").read_text()), ca)


def test_there_is_an_archive() -> None:
    assert ARCHIVES


def serves_what_it_served(settings: Settings, expected: dict[str, Any]) -> None:
    world = make_world()
    with opened(settings, "", world) as stack:
        stack.tokens[world.coordinator.id] = expected["token"]
        coordinator = stack.client(world.coordinator)
        records = coordinator.records()
        assert (len(records), records[-1].leaf) == (expected["records"], expected["head"])
        (run,) = coordinator.runs()
        shown = run.model_dump(mode="json")
        assert {name: shown[name] for name in expected["run"]} == expected["run"]
        budgets = [row.model_dump(mode="json") for row in coordinator.budgets()]
        told = [
            {name: row[name] for name in before}
            for row, before in zip(budgets, expected["budgets"], strict=True)
        ]
        assert told == expected["budgets"]


def test_a_registry_is_migrated_and_goes_on(left: Left) -> None:
    expected, settings = left.expected["registry"], left.registry
    asyncio.run(migrate(settings))
    serves_what_it_served(settings, expected)
    assert asyncio.run(rebuild_projections(settings)) == expected["records"]
    serves_what_it_served(settings, expected)


def test_an_earlier_releases_backup_is_restored(left: Left, tmp_path: Path) -> None:
    key = SigningKey.from_pem((left.folder / "registry" / "log.pem").read_bytes())
    settings = left.registry.model_copy(update={"home": tmp_path / "restored"})
    asyncio.run(restore(settings, left.folder / "backup.tar", key, lambda _: None))
    serves_what_it_served(settings, left.expected["registry"])


def test_a_node_finds_its_ledger_and_what_it_must_remember(left: Left) -> None:
    expected, path = left.expected["node"], left.folder / "node"
    path.chmod(0o700)
    home = Home(path, Profile.from_bytes((path / "profile.json").read_bytes()))
    with open_stores(home) as stores:
        assert stores.party == expected["party"]
        assert stores.ledger.verify([stores.key.public]) == expected["head"]
        assert stores.ledger.length == expected["entries"]
        assert stores.ledger.epsilon(expected["population"], "0.00001") == pytest.approx(
            expected["epsilon"], rel=1e-12
        )
        run = stores.state.run(expected["run"])
        assert run is not None and (run.decision, run.round, run.attempt) == ("accept", 1, 0)
        assert stores.state.queued() == expected["queued"]
        assert stores.rounds.kept(expected["run"]) == b"what the round must not forget"
        assert [item.id for item in stores.datasets.all()] == expected["datasets"]
        assert verify(path / OUTBOX, frozenset({stores.key.public})) == expected["entries"]


def test_an_aggregator_goes_on_from_its_journal_and_checkpoint(left: Left) -> None:
    expected, folder = left.expected["aggregator"], left.folder / "aggregator"
    with Journal(folder / "journal") as journal:
        assert [entry for entry, _ in journal.read()] == [
            Note(level="info", message=expected["line"])
        ]
    found = Checkpoints(folder / "checkpoints").load(expected["checkpoint"])
    assert found.model_hash == expected["model"]
