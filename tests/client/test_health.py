"""`accord-node check`: what it says is so was looked at."""

from pathlib import Path

from accord_client.health import Check, examine
from accord_common.enrolment import OFFER, Offer
from accord_common.envelope import sign
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
