"""One aggregator a folder."""

import fcntl
import os

from accord_common.errors import ConflictError
from accord_common.home import Home


def lock(home: Home) -> int:
    """Hold a home for as long as this process lives; `already-running` where another has it."""
    descriptor = os.open(home.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise ConflictError(
            "already-running",
            f"another aggregator serves {home.path}",
            hint="Stop it first, or give this one a home of its own.",
        ) from error
    return descriptor
