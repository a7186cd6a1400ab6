"""`accord-node check`: what it says of aggregators; `tests/server/doctor` has the other rows."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from accord_client.health import examine
from accord_common.checks.check import Check
from accord_common.enrolment import OFFER, Offer
from accord_common.envelope import sign
from accord_common.fields import format_time, now
from accord_common.files import replace_file
from accord_common.home import Home
from accord_common.network.settings import NetworkFile
from tests.client.institutions import Institutions, make_institutions
from tests.fleet import HOST, Certificates
from tests.proxies import ConnectProxy
from tests.world import RunKeys

NAME = "aggregator.accord.test"


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Institutions:
    return make_institutions(tmp_path_factory.mktemp("three"))


@contextmanager
def serving(folder: Path) -> Iterator[tuple[Certificates, int]]:
    certificates = Certificates.make(folder)
    with certificates.listen() as listener:
        yield certificates, listener.port


def accepted(three: Institutions, certificates: Certificates, address: str, spki: str = "") -> Home:
    """A node that has accepted a run whose manifest names this address and these keys."""
    offer = Offer.from_bytes(three.keys.offer.payload).model_copy(
        update={"address": address, "tls_spki": spki or certificates.tls_spki}
    )
    three.keys = RunKeys(three.keys.receipt, sign(OFFER, offer, three.world.aggregator.node))
    home = three.homes[three.parties[0]]
    home.ca_path.write_bytes((certificates.folder / "ca.pem").read_bytes())
    with three.open(three.parties[0]) as stores:
        for run in stores.state.runs():
            stores.state.follow(run.id, "completed", now())
        three.accept(stores, three.manifest())
    return home


def last(home: Home) -> Check:
    return [check for check in examine(home) if check.name == "aggregator"][-1]


def test_an_aggregator_that_shows_the_manifests_key_is_well(
    three: Institutions, tmp_path: Path
) -> None:
    with serving(tmp_path) as (certificates, port):
        found = last(accepted(three, certificates, f"{HOST}:{port}"))
    assert found.ok and found.layer == "tls"


def test_an_aggregator_that_is_not_there_is_not_called_well(
    three: Institutions, tmp_path: Path
) -> None:
    with serving(tmp_path) as (certificates, port):
        pass
    found = last(accepted(three, certificates, f"{HOST}:{port}"))
    assert (found.layer, found.code) == ("tcp", "tcp-refused")


def test_an_aggregator_with_another_key_is_not_called_well(
    three: Institutions, tmp_path: Path
) -> None:
    with serving(tmp_path) as (certificates, port):
        found = last(accepted(three, certificates, f"{HOST}:{port}", "ab" * 32))
    assert (found.layer, found.code) == ("tls", "tls-key") and "coordinator" in found.remedy


def test_no_bundle_makes_another_authority_good_for_an_aggregator(
    three: Institutions, tmp_path: Path
) -> None:
    """What inspects TLS is named also where the folder trusts it for the registry."""
    genuine = Certificates.make(tmp_path / "genuine")
    with serving(tmp_path / "inspecting") as (inspecting, port):
        with ConnectProxy(names={HOST: (HOST, port), NAME: (HOST, port)}) as proxy:
            home = accepted(three, genuine, f"{NAME}:{port}", inspecting.tls_spki)
            NetworkFile(proxy=proxy.url, ca_bundle=str(inspecting.folder / "ca.pem")).save(
                home.path
            )
            found = last(home)
            (home.path / "network.json").unlink()
    assert (found.layer, found.ok) == ("tls", False) and "'authority'" in found.detail
    assert proxy.seen  # it went through it


def test_a_delegation_that_ends_is_told_of_before_and_after(tmp_path: Path) -> None:
    three = make_institutions(tmp_path)
    party = three.parties[0]
    home, actor = three.homes[party], three.actor(party)
    assert expiry(home) == []
    for days, ok in ((12, True), (-1, False)):
        until = format_time(now() + timedelta(days=days))
        begin = format_time(now() - timedelta(days=300))
        changed = actor.delegation(valid_from=begin, valid_until=until)
        replace_file(home.path / "delegation.json", changed.to_bytes())
        (found,) = expiry(home)
        assert (found.ok, found.remedy) == (ok, "accord-node renew")
        assert until in found.detail and actor.name in found.detail


def expiry(home: Home) -> list[Check]:
    return [check for check in examine(home) if check.name == "expiry"]
