"""The log file: bounded, rotated by us or by others, never in the way of what it tells."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from accord_common import logs
from accord_common.logs import LogFile


@pytest.fixture(autouse=True)
def aside() -> Iterator[None]:
    handlers, level, hangup = logging.root.handlers[:], logging.root.level, signal.getsignal(1)
    yield
    for handler in logging.root.handlers:
        handler.close()
    signal.signal(signal.SIGHUP, hangup)
    structlog.reset_defaults()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


def tell(number: int, **fields: object) -> None:
    structlog.get_logger("accord_client.node").info("told", number=number, **fields)


def numbers(*paths: Path) -> list[int]:
    return [json.loads(line)["number"] for path in paths for line in path.read_text().splitlines()]


def test_the_disk_that_a_log_takes_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    logs.configure(LogFile(path, mib=1, backups=2))
    for number in range(50):
        tell(number, padding="x" * 100_000)
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["a.jsonl", "a.jsonl.1", "a.jsonl.2"]
    assert all(file.stat().st_size <= 1 << 20 for file in files)
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in files)
    kept = numbers(*reversed(files))
    assert kept == list(range(kept[0], 50)) and 20 <= len(kept) <= 30


@pytest.mark.parametrize("how", ["moved", "removed", "replaced"])
def test_a_file_that_others_rotate_is_opened_anew(tmp_path: Path, how: str) -> None:
    path, aside = tmp_path / "a.jsonl", tmp_path / "old"
    logs.configure(LogFile(path))
    tell(1)
    if how == "removed":
        path.unlink()
    else:
        path.rename(aside)
    if how == "replaced":
        path.touch()
    tell(2)
    tell(3)
    assert numbers(path) == [2, 3]
    assert how == "removed" or numbers(aside) == [1]


def test_sighup_opens_the_file_anew(tmp_path: Path) -> None:
    """Where the name leads elsewhere and the file's own identity says nothing: a new mount, say."""
    path, target = tmp_path / "a.jsonl", tmp_path / "first"
    target.touch()
    path.symlink_to(target)
    logs.configure(LogFile(path))
    (handler,) = (one for one in logging.root.handlers if isinstance(one, logging.FileHandler))
    tell(1)
    opened = handler.stream
    os.kill(os.getpid(), signal.SIGHUP)
    tell(2)
    assert handler.stream is not opened and numbers(target) == [1, 2]


def test_a_place_that_cannot_be_written_is_told_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no-such"):
        logs.configure(LogFile(tmp_path / "no-such" / "a.jsonl"))


def test_a_log_that_fails_ends_no_work_and_goes_on_when_it_can(tmp_path: Path) -> None:
    """A folder that is gone, then back; nothing is raised and nothing printed about it."""
    folder = tmp_path / "logs"
    folder.mkdir()
    path = folder / "a.jsonl"
    logs.configure(LogFile(path))
    tell(1)
    path.unlink()
    folder.rmdir()
    tell(2)
    folder.mkdir()
    tell(3)
    assert numbers(path) == [3]


_FULL = """
import os
from pathlib import Path
from accord_common import logs
import structlog, sys
disk = Path(sys.argv[1])
logs.configure(logs.LogFile(disk / "a.jsonl", mib=1, backups=1))
told = structlog.get_logger("accord_client.node")
filler = (disk / "filler").open("wb")
space = os.statvfs(disk)
os.posix_fallocate(filler.fileno(), 0, space.f_bavail * space.f_frsize)
for number in range(30):
    told.info("told", number=number, padding="x" * 100_000)
os.ftruncate(filler.fileno(), 0)
told.info("told", number=99)
print("went on", '"number": 99' in (disk / "a.jsonl").read_text().splitlines()[-1])
"""


def test_a_full_disk_stops_no_work(tmp_path: Path) -> None:
    """A real one: a tmpfs in a mount namespace of its own."""
    mount = f'mount -t tmpfs -o size=2m none {tmp_path} && exec "$0" -c "$1" {tmp_path}'
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", mount, sys.executable, _FULL],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("went on True") and "Traceback" not in done.stderr


def test_libraries_below_warnings_are_silent_at_debug_too(tmp_path: Path) -> None:
    """They log headers, and with them tokens."""
    path = tmp_path / "a.jsonl"
    logs.configure(LogFile(path), debug=True)
    for name in ("httpcore.http11", "httpx", "sqlalchemy.engine", "flwr", "own_task"):
        logging.getLogger(name).debug("Bearer secret")
        logging.getLogger(name).info("Bearer secret")
    structlog.get_logger("accord_client.node").debug("step", number=1)
    logging.getLogger("httpx").warning("a warning")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["event"] for line in lines] == ["step", "a warning"]


def test_causes_are_told_by_place_and_number(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    logs.configure(LogFile(path))
    try:
        try:
            os.stat(tmp_path / "row-17")
        except OSError as error:
            raise ValueError("row 17") from error
    except ValueError as error:
        structlog.get_logger("accord_client.node").error("failed", exc_info=error)
    text = path.read_text()
    first, second = json.loads(text)["exception"]
    assert (first["type"], second["type"], second["errno"]) == (
        "ValueError",
        "FileNotFoundError",
        2,
    )
    assert first["at"][0].endswith("in test_causes_are_told_by_place_and_number")
    assert "row-17" not in text and "row 17" not in text


def test_from_a_thread_the_signal_is_left_alone(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGHUP)
    thread = threading.Thread(target=logs.configure, args=(LogFile(tmp_path / "a"),))
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGHUP) is before
