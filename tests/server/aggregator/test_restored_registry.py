"""The registry comes back from last night's backup: the aggregator gives it what it lacks."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from accord_common.api.client import RegistryClient
from accord_common.chain import fetch_result, fetch_run
from accord_common.envelope import Envelope
from accord_common.receipts import AGGREGATOR_RECEIPT
from accord_server.aggregator import registry_client
from accord_server.registry.backup.restore import restore
from accord_server.registry.backup.take import back_up
from tests.server.aggregator.test_leasing import Hanging
from tests.server.aggregator.test_leasing import hanging as hanging
from tests.server.aggregator.test_service import Site
from tests.server.aggregator.test_service import site as site
from tests.server.registry.stack import InProcess, Stack, opened

_LOOKS = 60  # of 2 s at the most


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_client, "WAIT_S", 0.3)
    monkeypatch.setattr(registry_client, "MAX_PAUSE_S", 0.5)


class Night:
    """A backup of the site's registry, and the registry that is made of it."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.site, self.folder = site, folder
        self.file = folder / "backup.tar"
        asyncio.run(back_up(site.stack.settings, self.file, lambda _: None))

    @contextmanager
    def back(self) -> Iterator[Stack]:
        """From here on the aggregator's line ends at the restored registry."""
        stack = self.site.stack
        settings = stack.settings.model_copy(update={"home": self.folder / "restored"})
        asyncio.run(restore(settings, self.file, stack.settings.read_log_key(), lambda _: None))
        with opened(settings, "", stack.world) as restored:
            restored.tokens = dict(stack.tokens)
            self.site.line.inner = InProcess(restored.http)
            self.site.stack = restored
            try:
                yield restored
            finally:
                self.site.line.cut()


def receipts(stack: Stack, run: str) -> list[str]:
    client = stack.client(stack.world.coordinator)
    return [item.hash for item in client.records(kind=AGGREGATOR_RECEIPT, run=run)]


def verified(client: RegistryClient, manifest: Envelope) -> str:
    fetched = fetch_run(client.record, manifest.hash)
    (item,) = client.records(kind="result", run=fetched.manifest.id)
    return fetch_result(client.record, item.hash, fetched).result.status


def test_a_result_and_its_receipts_come_back_and_so_does_the_offer(
    site: Site, tmp_path: Path
) -> None:
    """The backup is from before the aggregator began; it has long ended, and goes on running."""
    with site.serving():
        site.line.down.set()  # it hears of the run after the backup
        manifest = site.start()
        night = Night(site, tmp_path)
        site.line.down.clear()
        run = site.finished(manifest, _LOOKS).id
        had = receipts(site.stack, run)
        (offer,) = site.stack.client(site.stack.world.coordinator).offers()
        with night.back() as restored:
            assert site.finished(manifest, _LOOKS).state == "completed"
            assert receipts(restored, run) == had
            again = restored.client(restored.world.coordinator)
            assert verified(again, manifest) == "completed"
            newest = again.offers()[0]
            assert newest.envelope.hash == offer.envelope.hash
            second = site.start()  # and so the next run has keys
            assert site.finished(second, _LOOKS).state == "completed"


def test_a_run_under_way_goes_on_behind_the_lost_rounds(
    site: Site, hanging: Hanging, tmp_path: Path
) -> None:
    """Round 0 is over, round 1 under way, and the registry knows of neither, nor of the lease."""
    with site.serving():
        site.line.down.set()
        manifest = site.start()
        night = Night(site, tmp_path)
        site.line.down.clear()
        assert hanging.begun.wait(60)
        with night.back():
            view = site.finished(manifest, _LOOKS)
            assert (view.state, view.round) == ("completed", 2)
            assert len(receipts(site.stack, view.id)) >= 2


def test_a_run_that_the_registry_forgot_ends_here_and_the_next_begins(
    site: Site, hanging: Hanging, tmp_path: Path
) -> None:
    with site.serving():
        night = Night(site, tmp_path)
        site.start()
        assert hanging.begun.wait(60)
        with night.back():
            site.faults.clear()
            hanging.left.wait(60)
            assert site.finished(site.start(), _LOOKS).state == "completed"
