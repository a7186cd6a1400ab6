"""Files are whole or not there, whatever the disk does meanwhile."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from accord_common.errors import UsageError
from accord_common.files import make_folder, replace_file, write_secret

LARGE = bytes(100_000)


@contextmanager
def full_disk() -> Iterator[None]:
    """No file of this process may grow beyond 1,000 bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_secrets_are_private_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "key"
    old = os.umask(0)
    try:
        write_secret(path, b"one")
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(UsageError) as caught:
        write_secret(path, b"two")
    assert caught.value.code == "key-exists"
    assert path.read_bytes() == b"one"


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    replace_file(tmp_path / "state", b"old")
    with full_disk(), pytest.raises(OSError, match="File too large"):
        replace_file(tmp_path / "state", LARGE)
    with full_disk(), pytest.raises(OSError, match="File too large"):
        write_secret(tmp_path / "key", LARGE)
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
    assert (tmp_path / "state").read_bytes() == b"old"
    replace_file(tmp_path / "state", LARGE)
    assert (tmp_path / "state").read_bytes() == LARGE


def test_a_folder_is_made_whole_and_never_over_another(tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        write_secret(folder / "first", b"1")
        write_secret(folder / "second", LARGE)

    with full_disk(), pytest.raises(OSError, match="File too large"):
        make_folder(tmp_path / "home", fill)
    assert list(tmp_path.iterdir()) == []
    make_folder(tmp_path / "home", fill)
    assert (tmp_path / "home").stat().st_mode & 0o777 == 0o700
    with pytest.raises(OSError, match="not empty"):
        make_folder(tmp_path / "home", fill)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["first", "home", "second"]
