"""A process on a disk of its own that can be filled, or under a clock that is wrong."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from accord_server.demo.processes import Actor

_SPARE_MIB = 384  # beside what lies there: more than node (64) and registry (256) ask to have left
_MOUNT = """
set -e
new=$(mktemp -d)
mount -t tmpfs -o "size=$2" accord "$new"
cp -a "$1/." "$new"
mount --bind "$new" "$1"
echo mounted
cat
umount "$1"
find "$1" -mindepth 1 -delete
cp -a "$new/." "$1"
umount "$new"
rmdir "$new"
"""


class SmallDisk:
    """A tmpfs over one folder, in a mount namespace of its own; afterwards the folder has it all.

    Needs root, or a kernel that lets anybody make user namespaces. Whoever uses the folder must be
    started by `within`, and be gone before the end.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        used = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        size = f"{(used >> 20) + _SPARE_MIB}m"
        own_user = [] if os.geteuid() == 0 else ["--map-root-user"]
        self._holder = subprocess.Popen(
            ["unshare", "--mount", *own_user, "sh", "-c", _MOUNT, "sh", folder, size],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self._holder.stdout is not None and self._holder.stderr is not None
        if self._holder.stdout.readline() != b"mounted\n":
            told = self._holder.stderr.read().decode()
            raise AssertionError(f"this machine lets nobody mount a small disk: {told}")
        self._filler = Path(f"/proc/{self._holder.pid}/root{folder}/filler")

    def within(self, actor: Actor) -> Actor:
        """The same actor, whose commands see the small disk."""
        user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
        enter = ["nsenter", "--mount", *user, f"--target={self._holder.pid}"]
        return replace(actor, wrap=lambda command: [*enter, *actor.wrap(command)])

    def fill(self) -> None:
        """Leave no byte free."""
        with self._filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(1 << 16))
            except OSError:
                return

    def free(self) -> None:
        """Make room again."""
        self._filler.unlink()

    def close(self) -> None:
        """Put everything where it was."""
        self._filler.unlink(missing_ok=True)
        _, told = self._holder.communicate()
        assert self._holder.returncode == 0, told.decode()


@contextmanager
def small_disk(folder: Path) -> Iterator[SmallDisk]:
    """A small disk over `folder`; see `SmallDisk`."""
    disk = SmallDisk(folder)
    try:
        yield disk
    finally:
        disk.close()


def ahead(actor: Actor, seconds: int, folder: Path) -> Actor:
    """The same actor, whose clock is so far ahead; `folder` takes what must be compiled."""
    library = folder / "clock_shim.so"
    source = Path(__file__).with_name("clock_shim.c")
    options = ["-O1", "-Wall", "-Werror", "-shared", "-fPIC"]
    subprocess.run(["cc", *options, "-o", library, source, "-ldl"], check=True)
    wrong = ["env", f"LD_PRELOAD={library}", f"CLOCK_AHEAD_S={seconds}"]
    return replace(actor, wrap=lambda command: [*wrong, *actor.wrap(command)])
