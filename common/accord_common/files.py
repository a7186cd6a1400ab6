"""Files that are there whole and durable, or not at all, and that only their owner reads.

Guarantees: what a function has written is on the disk when it returns, its name included; where it
raises, an older file stays as it was and nothing half written is left.
"""

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from accord_common.errors import UsageError


def write_secret(path: Path, data: bytes) -> None:
    """Create `path` with mode 0600 and `data`; refuse to overwrite.

    Raises:
        UsageError: `key-exists`.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise UsageError(
            "key-exists", f"{path} exists", hint="Move it away first if it is no longer needed."
        ) from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        sync(path.parent)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def replace_file(path: Path, data: bytes) -> None:
    """Write `path` with mode 0600, instead of what was there."""
    with replacing(path) as file:
        file.write(data)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Write `path` with mode 0600 piece by piece; it has its name, and is whole, at the end."""
    part = _beside(path)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(descriptor)
        put_in_place(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def put_in_place(part: Path, path: Path) -> None:
    """Give a file or folder that is synced its name, instead of what was there.

    A folder replaces an empty one, and refuses to replace a filled one.
    """
    os.replace(part, path)
    sync(path.parent)


def make_folder(path: Path, fill: Callable[[Path], None]) -> None:
    """Make `path` (mode 0700) with what `fill` puts into it; OSError where it holds something."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _beside(path)
    part.mkdir(mode=0o700)
    try:
        fill(part)
        sync(part)
        put_in_place(part, path)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def sync(path: Path) -> None:
    """Put a file's bytes, or a folder's names, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}")
