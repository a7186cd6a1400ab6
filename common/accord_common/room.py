"""Whether a disk has room for what is about to be written, asked before anything rests on it.

Guarantees: what an unprivileged process may use is what counts; nothing is written to find out but
by `require_writing`, which removes it.

Not covered: what others write between the question and the writing; of `require_room`, quotas that
`statvfs` does not tell of. Whoever writes still names the failure.
"""

import errno
import os
import tempfile
from pathlib import Path

from accord_common.errors import ConflictError

NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})  # what writing then raises
_PROBE_BYTES = 4 << 20  # some thousand entries, lines and records
NAMES = 16  # databases' logs and indexes, and files on their way to a name


def require_room(folder: Path, size: int) -> None:
    """Refuse where the disk of `folder` cannot take `size` bytes more, or `NAMES` files.

    Raises:
        ConflictError: `disk-full`.
    """
    space = os.statvfs(folder)
    free = space.f_bavail * space.f_frsize
    if free < size:
        raise ConflictError(
            "disk-full",
            f"{folder} has {free >> 20} MiB left, {-(-size >> 20)} are needed",
            hint="Free disk space, then try again; nothing was written.",
        )
    if space.f_files and space.f_favail < NAMES:  # some file systems count none
        raise ConflictError(
            "disk-full",
            f"{folder} can take {space.f_favail} files more, {NAMES} are needed",
            hint="Remove files, then try again; nothing was written.",
        )


def require_writing(folder: Path) -> None:
    """Refuse where a folder takes no file: read-only, failing, another's, or beyond a quota.

    Raises:
        ConflictError: `disk-unwritable`.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            os.posix_fallocate(probe.fileno(), 0, _PROBE_BYTES)
            os.fsync(probe.fileno())
    except OSError as error:
        raise ConflictError(
            "disk-unwritable",
            f"{folder} takes no file: {error.strerror}",
            hint="Free space, check owner and mode, and that it is not mounted read-only.",
        ) from error
