"""Opening the aggregator: what is refused before anything listens."""

import resource
from contextlib import ExitStack
from pathlib import Path

import pytest

from accord_common.errors import AccordError
from accord_common.fields import now
from accord_common.home import Home
from accord_server.aggregator.process import open_service
from accord_server.ca import create_ca, spki_hash


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home.create(
        tmp_path / "home",
        name="Computing centre",
        role="aggregator",
        jurisdiction="DE",
        contact="it",
        passphrase="a passphrase for tests",
    )
    return made.joined("https://127.0.0.1:1", b"", "token-token-token")


def opened(home: Home, certificates: Path, stack: ExitStack, **changes: str) -> str:
    """Open with the session's certificate and return where it listens and with which key."""
    home.ca_path.write_bytes((certificates / "ca.pem").read_bytes())
    value = {"listen": "127.0.0.1:0", "ca": str(home.ca_path), "address": ""} | changes
    service = stack.enter_context(
        open_service(
            home,
            value["listen"],
            certificate=certificates / "server.pem",
            key=certificates / "server.key",
            ca=Path(value["ca"]),
            address=value["address"],
        )
    )
    assert service.endpoint.tls_spki == spki_hash((certificates / "server.pem").read_bytes())
    return service.endpoint.address


def test_it_listens_where_it_says_and_once(home: Home, certificates: Path) -> None:
    with ExitStack() as stack:
        address = opened(home, certificates, stack)
        assert address.startswith("127.0.0.1:") and not address.endswith(":0")
        with pytest.raises(AccordError, match="already-running"):
            opened(home, certificates, stack)
    with ExitStack() as stack:  # the lock and the port went with it
        assert opened(home, certificates, stack, listen=address) == address


def test_it_may_open_as_many_files_as_the_system_lets_it(home: Home, certificates: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, hard - 1), hard))
    try:
        with ExitStack() as stack:
            opened(home, certificates, stack)
            assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_an_address_may_be_another_than_it_listens_on(home: Home, certificates: Path) -> None:
    with ExitStack() as stack:
        found = opened(home, certificates, stack, listen="0.0.0.0:0", address="agg.example.org:9")
        assert found == "agg.example.org:9"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"listen": "9092"}, "bad-listen"),
        ({"listen": "127.0.0.1:70000"}, "bad-listen"),
        ({"listen": "0.0.0.0:0"}, "no-address"),
        ({"ca": "/nowhere/ca.pem"}, "unreadable-file"),
    ],
)
def test_what_nodes_could_not_reach_is_refused(
    home: Home, certificates: Path, changes: dict[str, str], code: str
) -> None:
    with ExitStack() as stack, pytest.raises(AccordError, match=code):
        opened(home, certificates, stack, **changes)


def test_a_certificate_that_nodes_would_refuse_is_refused(
    home: Home, certificates: Path, tmp_path: Path
) -> None:
    other = create_ca(tmp_path / "other", "Other CA", now())
    with ExitStack() as stack, pytest.raises(AccordError, match="wrong-certificate"):
        opened(home, certificates, stack, ca=str(other.certificate))
