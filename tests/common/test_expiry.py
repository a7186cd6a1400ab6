"""What ends by a date is told of thirty days ahead, once a day, with what renews it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from accord_common.enrolment import Delegation
from accord_common.errors import FormatError
from accord_common.expiry import Daily, Term, of_certificates, of_delegation
from accord_common.sentences import Sentence
from accord_server.ca import create_ca
from accord_server.certificates import issue
from accord_server.rotation import rotate_ca
from tests.world import make_actor

START = datetime(2026, 1, 31, 12, tzinfo=UTC)
TERM = Term("the delegation of Hospital", START + timedelta(days=100), "accord-node renew")


@pytest.mark.parametrize(
    ("days", "told"),
    [
        (70, None),
        (70.01, "ends in 29 days"),
        (99.5, "ends in 0 days"),
        (100, "ended at 2026-05-11T12:00:00Z"),
        (200, "ended at"),
    ],
)
def test_it_is_told_from_thirty_days_before_its_end_on(days: float, told: str | None) -> None:
    trouble = TERM.trouble(START + timedelta(days=days))
    assert (trouble is None) == (told is None)
    assert told is None or (told in trouble and TERM.what in trouble)  # type: ignore[operator]


def test_it_is_logged_once_a_day() -> None:
    daily = Daily()
    with capture_logs() as logs:
        for hour in range(24 * 40):  # the last 30 days, and 10 after
            daily.look(lambda: [TERM], START + timedelta(days=70, minutes=1, hours=hour))
    assert [entry["event"] for entry in logs] == ["expires-soon"] * 30 + ["expired"] * 10
    assert {entry["renew"] for entry in logs} == {"accord-node renew"}


def test_what_cannot_be_looked_at_is_told_too() -> None:
    def broken() -> list[Term]:
        raise FormatError("bad-certificate", "not PEM certificates")

    with capture_logs() as logs:
        Daily().look(broken, START)
    assert [entry["event"] for entry in logs] == ["expiry-not-known"]


def test_the_terms_of_certificates_and_delegations(tmp_path: Path) -> None:
    create_ca(tmp_path, "Test CA", START)
    issue(tmp_path, ["a.example"], tmp_path / "s.pem", tmp_path / "s.key", START)
    rotate_ca(tmp_path, START + timedelta(days=1))
    authorities = of_certificates(tmp_path / "ca.pem", Sentence.AUTHORITY, "x")
    assert [one.until for one in authorities] == [
        START + timedelta(days=3650),
        START + timedelta(days=3651),
    ]
    (server,) = of_certificates(tmp_path / "s.pem", Sentence.CERTIFICATE, "x")
    assert server.until == START + timedelta(days=397)
    actor = make_actor("Hospital", "data-holder")
    body = Delegation.from_bytes(actor.delegation(valid_until="2030-01-01T00:00:00Z").payload)
    term = of_delegation(body, "Hospital", "accord-node renew")
    assert term.until == datetime(2030, 1, 1, tzinfo=UTC) and "Hospital" in term.what
