"""Whether a disk has room, in bytes and in names."""

import errno
import os
from pathlib import Path

import pytest

from accord_common.errors import ConflictError
from accord_common.room import require_room, require_writing


def test_a_disk_without_names_is_full_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.statvfs(tmp_path)
    fields = [*real]
    fields[5], fields[7] = 1000, 3  # f_files, f_favail
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(fields))
    with pytest.raises(ConflictError) as caught:
        require_room(tmp_path, 1)
    assert caught.value.code == "disk-full" and "3" in caught.value.message
    fields[5] = 0  # a file system that counts none
    require_room(tmp_path, 1)
    with pytest.raises(ConflictError):
        require_room(tmp_path, real.f_blocks * real.f_frsize + (1 << 20))


def test_a_folder_that_takes_no_file_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_writing(tmp_path)
    with pytest.raises(ConflictError, match="No such file"):
        require_writing(tmp_path / "nowhere")

    def beyond_quota(*_: object) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(os, "posix_fallocate", beyond_quota)
    with pytest.raises(ConflictError) as caught:
        require_writing(tmp_path)
    assert caught.value.code == "disk-unwritable" and "quota" in caught.value.message
    assert list(tmp_path.iterdir()) == []
