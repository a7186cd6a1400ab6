"""What is asked about every party's folder and its registry, whoever the party is.

Guarantees: nothing is changed, signed or charged; a probe file is written and removed. What rests
on a layer that failed is not asked.
"""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from accord_common.api.client import RegistryClient
from accord_common.api.schemas import Info
from accord_common.checks.check import Check, ask, failed
from accord_common.checks.connection import walk
from accord_common.delegating import check_not_revoked
from accord_common.enrolment import Delegation
from accord_common.errors import (
    AccordError,
    AuthError,
    ConflictError,
    PolicyError,
    UsageError,
)
from accord_common.fields import CLOCK_TOLERANCE_S, now, parse_time
from accord_common.home import Home
from accord_common.protocols import require_protocol
from accord_common.room import require_writing

SECRETS = ("identity.key", "node.pem", "flower.pem", "token")
NEEDED_BYTES = 200 << 20  # a daemon's logs take 60 MB at most; the rest is room for its databases
_HTTPS = 443


def folder_checks(home: Home) -> Iterator[Check]:
    """Keys, delegation and disk."""
    yield ask("keys", "key", lambda: private([home.path / name for name in SECRETS]))
    yield ask("delegation", "key", lambda: _delegation(home))
    yield ask("disk", "disk", lambda: disk(home.path))


def registry_checks(home: Home) -> Iterator[Check]:
    """The way to the registry, layer by layer, then protocol, clock and membership."""
    try:
        with home.untried_registry() as registry:
            for check in _walk(home, registry.url):
                yield check
                if not check.ok:
                    return
            told: list[Info] = []
            answers = ask("registry", "http", partial(_answers, registry, told))
            yield answers
            if not answers.ok:
                return
            yield ask("registry", "version", partial(_protocol, told[0]))
            yield ask("clock", "clock", partial(_clock, registry))
            yield ask("membership", "key", partial(_membership, home, registry))
    except (AccordError, OSError) as error:
        yield failed("registry", "setting", error)


def private(paths: list[Path]) -> str:
    """Whether those of the files that are there are their owner's alone; `exposed-key`."""
    there = [path for path in paths if path.exists()]
    for path in there:
        if mode := path.stat().st_mode & 0o077:
            raise UsageError(
                "exposed-key",
                f"{path} is open to others (mode ..{mode:02o})",
                hint=f"chmod 600 {path}; if others use this machine, have the key replaced.",
            )
    return f"{', '.join(path.name for path in there)}: their owner's alone"


def disk(folder: Path) -> str:
    """Whether a folder takes a file, and its disk enough of them.

    Raises:
        ConflictError: `disk-unwritable`, `disk-space`.
    """
    require_writing(folder)
    found = os.statvfs(folder)
    free = found.f_bavail * found.f_frsize
    if free < NEEDED_BYTES:
        raise ConflictError(
            "disk-space",
            f"{free >> 20} MiB are free for {folder}, the bound is {NEEDED_BYTES >> 20}",
            hint="Free space before a run begins.",
        )
    return f"{folder} takes files; {free >> 20} MiB are free"


def _walk(home: Home, url: str) -> Iterator[Check]:
    parts = urlsplit(url)
    host, port, network = parts.hostname or "", parts.port or _HTTPS, home.network()
    trusted = network.trusting_registry(home.ca_path.read_bytes())
    yield from walk("registry", host, port, network.route(host, port), trusted, now())


def _answers(registry: RegistryClient, told: list[Info]) -> str:
    told.append(registry.info())
    return f"{registry.url} is a registry"


def _protocol(info: Info) -> str:
    require_protocol(info)
    return f"release {info.version}, protocol {info.protocol}"


def _clock(registry: RegistryClient) -> str:
    drift_s = (now() - registry.moment()).total_seconds()
    if abs(drift_s) > CLOCK_TOLERANCE_S:
        raise UsageError(
            "clock-skew",
            f"this clock is {drift_s:+.0f} s from the registry's, the bound is {CLOCK_TOLERANCE_S}",
            hint="Set the clock, best by NTP.",
        )
    return f"{drift_s:+.0f} s from the registry's"


def _membership(home: Home, registry: RegistryClient) -> str:
    try:
        partner = registry.partner(home.profile.party)
    except AuthError as error:
        raise AuthError(
            error.code,
            f"the registry does not know this folder's token: {error.message}",
            hint="Ask the coordinator for a new invitation and run enroll again.",
        ) from error
    if partner.identity_key != home.profile.identity_key:
        raise AuthError(
            "identity-exchanged",
            "the registry lists this party with another key",
            hint="Ask the coordinator; sign nothing before it is explained.",
        )
    if partner.status != "approved":
        raise PolicyError(
            "not-approved",
            f"{partner.name} is {partner.status}",
            hint="The coordinator must run: accord partner approve, or readmit",
        )
    return f"{partner.name} is {partner.status}"


def _delegation(home: Home) -> str:
    check_not_revoked(home)
    delegation = Delegation.from_bytes(home.delegation().payload)
    delegation.check_valid_at(now())
    if delegation.node_key != home.node_key().public:
        raise UsageError(
            "node-key-exchanged",
            "node.pem is not the key that was delegated",
            hint="Restore node.pem and delegation.json from the same backup.",
        )
    days = (parse_time(delegation.valid_until) - now()).days
    return f"the daemon's keys may act until {delegation.valid_until} ({days} days)"
