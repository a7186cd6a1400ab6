"""One daemon a folder: a POSIX lock on `node.lock`, gone with the process that holds it.

Guarantees: asking who holds the lock never gets in the way of taking it. Linux only.
"""

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from accord_common.errors import ConflictError

LOCK_FILE = "node.lock"
_FLOCK = "hhqqi"  # struct flock of 64-bit Linux: type, whence, start, length, pid


@contextmanager
def only_daemon(folder: Path) -> Iterator[None]:
    """Hold the folder's lock.

    Raises:
        ConflictError: `already-running` where another process holds it.
    """
    descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            raise ConflictError(
                "already-running",
                f"a node runs already in {folder}",
                hint="accord-node status shows it.",
            ) from error
        yield
    finally:
        os.close(descriptor)


def running_pid(folder: Path) -> int | None:
    """The process that holds the folder's lock, or None."""
    try:
        descriptor = os.open(folder / LOCK_FILE, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        told = fcntl.fcntl(descriptor, fcntl.F_GETLK, asked)
    finally:
        os.close(descriptor)
    kind, _, _, _, pid = struct.unpack(_FLOCK, told)
    return None if kind == fcntl.F_UNLCK else int(pid)
