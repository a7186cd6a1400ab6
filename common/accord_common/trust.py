"""Keeping up with the registry's certificate authorities while they are exchanged.

Guarantees: what is taken over is `authorities.follow`'s choice; the registry is told what this
party trusts, so that nobody retires an authority that somebody still needs.
"""

from datetime import datetime, timedelta
from pathlib import Path

import structlog

from accord_common.api.client import RegistryClient
from accord_common.authorities import fingerprint_of, follow, read_bundle
from accord_common.errors import AccordError
from accord_common.files import replace_file

REFRESH_EVERY = timedelta(hours=1)  # of a daemon; exchanging authorities takes days
STALE_AFTER = timedelta(days=1)  # of a folder that only people's commands open

log = structlog.get_logger(__name__)


def is_stale(ca_path: Path, moment: datetime) -> bool:
    """Whether nobody has looked for a day what the registry offers."""
    try:
        return moment.timestamp() - ca_path.stat().st_mtime > STALE_AFTER.total_seconds()
    except FileNotFoundError:
        return False


def refresh(
    ca_path: Path, registry: RegistryClient, moment: datetime, *, tell: bool = True
) -> bool:
    """Take over what the registry offers, and tell it; True where something changed.

    A person's folder tells nothing: its party's own speaks for the party. The client's open
    connections trust it at once. Nothing is raised: the next time may do.
    """
    try:
        trusted = ca_path.read_bytes()
        bundle = follow(trusted, registry.ca_bundle(), moment)
        changed = bundle != trusted
        if changed:
            registry.trust(bundle)
            names = [fingerprint_of(c)[:16] for c in read_bundle(bundle)]
            log.info("authorities-changed", trusted=names)
        replace_file(ca_path, bundle)  # its time says when this was looked at
        if tell:
            registry.tell_trust([fingerprint_of(c) for c in read_bundle(bundle)])
    except AccordError as error:
        log.warning("authorities-not-refreshed", code=error.code, detail=error.message)
        return False
    except OSError as error:
        log.warning("authorities-not-kept", detail=str(error))
        return False
    return changed
