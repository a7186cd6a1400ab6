"""An aggregator is called at the address that its offers name, as a node would call it."""

import os
from collections.abc import Iterator

import pytest

from accord_common.checks.check import Check
from accord_common.home import Home
from accord_common.joining import enrol
from accord_server.aggregator.listener import Listener
from accord_server.aggregator.locking import lock
from accord_server.aggregator.offers import Endpoint, Offers
from accord_server.ca import spki_hash
from accord_server.doctor import examine
from tests.proxies import HOST
from tests.server.doctor.conftest import PASSPHRASE, Place
from tests.server.registry.stack import free_port


@pytest.fixture(scope="module")
def home(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Home:
    with place.home.registry() as coordinator:
        invited = coordinator.invite("aggregator", "Centre")
        made = Home.create(
            tmp_path_factory.mktemp("centre") / "home",
            name="Centre",
            role="aggregator",
            jurisdiction="DE",
            contact="x",
            passphrase=PASSPHRASE,
        )
        joined = enrol(made, invited.text, PASSPHRASE)
        coordinator.approve(joined.profile.party)
    return joined


@pytest.fixture(scope="module")
def listener(place: Place) -> Iterator[Listener]:
    certificate = place.certificate("aggregator", HOST)
    with Listener(
        HOST, 0, certificate=certificate, key=certificate.with_suffix(".key")
    ) as listening:
        yield listening


def called(home: Home) -> list[Check]:
    return [check for check in examine(home) if check.name in ("aggregator", "daemon")]


def test_one_that_does_not_run_is_not_called(home: Home) -> None:
    (daemon,) = called(home)
    assert daemon.ok and daemon.detail == "not running"


def test_one_that_runs_is_called_by_its_newest_offer(
    home: Home, place: Place, listener: Listener
) -> None:
    spki = spki_hash(place.certificate("aggregator", HOST).read_bytes())
    held = lock(home)
    try:
        assert [check.detail for check in called(home)][1:] == ["no offer has been made yet"]
        Offers(home).unused(Endpoint(f"{HOST}:{listener.port}", spki))
        assert [(check.layer, check.ok) for check in called(home)][1:] == [
            ("tcp", True),
            ("tls", True),
        ]
        clear(home)
        Offers(home).unused(Endpoint(f"{HOST}:{listener.port}", "ab" * 32))
        assert (called(home)[-1].code, called(home)[-1].ok) == ("tls-key", False)
        clear(home)
        Offers(home).unused(Endpoint(f"{HOST}:{free_port()}", spki))
        assert called(home)[-1].code == "tcp-refused"
    finally:
        os.close(held)


def clear(home: Home) -> None:
    """Forget the offers: two of the same second are equally new."""
    for path in sorted((home.path / "offers").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
