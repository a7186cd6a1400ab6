"""`accord-node check`: what it says is so was looked at."""

from datetime import timedelta
from pathlib import Path

from accord_client.health import Check, examine
from accord_common.enrolment import OFFER, Offer
from accord_common.envelope import sign
from accord_common.fields import format_time, now
from accord_common.files import replace_file
from accord_common.home import Home
from tests.client.institutions import Institutions, make_institutions
from tests.fleet import HOST, Certificates
from tests.world import RunKeys


def checked(three: Institutions, port: int, certificates: Certificates) -> Check:
    """What is said of a run's aggregator whose manifest names this port and these keys."""
    offer = Offer.from_bytes(three.keys.offer.payload).model_copy(
        update={"address": f"{HOST}:{port}", "tls_spki": certificates.tls_spki}
    )
    three.keys = RunKeys(three.keys.receipt, sign(OFFER, offer, three.world.aggregator.node))
    home = three.homes[three.parties[0]]
    home.ca_path.write_bytes((certificates.folder / "ca.pem").read_bytes())
    with three.open(three.parties[0]) as stores:
        three.accept(stores, three.manifest())
    (found,) = [check for check in examine(home) if check.name == "aggregator"]
    return found


def test_an_aggregator_that_shows_the_manifests_key_is_well(tmp_path: Path) -> None:
    certificates = Certificates.make(tmp_path / "tls")
    with certificates.listen() as listener:
        assert checked(make_institutions(tmp_path), listener.port, certificates).ok


def test_an_aggregator_that_is_not_there_is_not_called_well(tmp_path: Path) -> None:
    certificates = Certificates.make(tmp_path / "tls")
    with certificates.listen() as listener:
        free = listener.port
    found = checked(make_institutions(tmp_path), free, certificates)
    assert not found.ok and "[aggregator-unreachable]" in found.detail


def test_an_aggregator_with_another_key_is_not_called_well(tmp_path: Path) -> None:
    certificates = Certificates.make(tmp_path / "tls")
    with certificates.listen() as listener:
        other = Certificates(certificates.folder, "ab" * 32)
        found = checked(make_institutions(tmp_path), listener.port, other)
    assert not found.ok and "[aggregator-spki-mismatch]" in found.detail


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
