"""The folder of a coordinator, an auditor or an aggregator.

Guarantees: see `checks.party`. An aggregator that runs is called at the address that its offers
name, by their key, as a node would call it.
"""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from accord_common.checks.check import Check, failed
from accord_common.checks.connection import walk
from accord_common.checks.party import folder_checks, registry_checks
from accord_common.enrolment import Offer
from accord_common.envelope import Envelope
from accord_common.errors import AccordError
from accord_common.fields import now
from accord_common.home import Home
from accord_common.tls import trusting

_LOCK = "lock"  # as `aggregator.service` holds it


def examine(home: Home) -> Iterator[Check]:
    """Ask every question of a party's folder."""
    yield from registry_checks(home)
    yield from folder_checks(home)
    if home.profile.role == "aggregator":
        runs = _running(home.path)
        yield Check("daemon", "lock", True, "running" if runs else "not running")
        if runs:
            yield from _advertised(home)


def _running(folder: Path) -> bool:
    try:
        descriptor = os.open(folder / _LOCK, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _advertised(home: Home) -> Iterator[Check]:
    """Call the newest offer's address; each offer names the address that its start was given."""
    paths = list((home.path / "offers").glob("[0-9a-f]*/offer.json"))
    if not paths:
        yield Check("aggregator", "state", True, "no offer has been made yet")
        return
    try:
        offers = [
            Offer.from_bytes(Envelope.from_bytes(path.read_bytes()).payload) for path in paths
        ]
        offer = max(offers, key=lambda offer: offer.created)
        host, _, number = offer.address.rpartition(":")
        way = home.network().route(host, int(number))
        trusted = trusting(home.ca_path.read_bytes())
    except (AccordError, OSError) as error:
        yield failed("aggregator", "setting", error)
        return
    yield from walk("aggregator", host, int(number), way, trusted, now(), offer.tls_spki)
