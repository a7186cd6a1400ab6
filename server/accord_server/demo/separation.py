"""Give each institution its own operating-system user, where this machine allows it.

Guarantees: a command that `wrap` wraps runs under a user id of its own, without supplementary
groups, and its folder (mode 0700, `own`) opens to no other institution's user. `find` proves that
an interpreter starts that way before it promises anything.

A user id needs no entry in the password file. Where Python lies below a folder that other users may
not enter (root's home, often), a private mount namespace covers that folder with an empty one that
shows nothing but the interpreter and this installation.

Not covered: machines where this process is not root, or may not make mount namespaces: `find` says
so and the demonstration runs under one user.
"""

import os
import pwd
import shlex
import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import accord_server

FIRST_UID = 52_001  # above ordinary users, below Debian's reserved range


@dataclass(frozen=True, slots=True)
class Separation:
    """How to run as somebody else; `reason` says why not, where it is not possible."""

    uids: tuple[int, ...]
    covered: tuple[Path, ...]
    kept: tuple[Path, ...]
    reason: str = ""

    @classmethod
    def none(cls, reason: str = "") -> "Separation":
        """Everybody runs as the user who asked."""
        return cls((), (), (), reason)

    def wrap(self, command: list[str], uid: int) -> list[str]:
        """Return the command that runs `command` as `uid`."""
        switch = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--", *command]
        if not self.covered:
            return switch
        return ["unshare", "--mount", "--", "sh", "-ec", self._cover(), "sh", *switch]

    def own(self, folder: Path, uid: int) -> None:
        """Give a folder and all in it to `uid` alone."""
        folder.chmod(0o700)
        for path in (folder, *folder.rglob("*")):
            os.chown(path, uid, uid, follow_symlinks=False)

    def _cover(self) -> str:
        """Shell: hide each closed folder behind an empty one, with the kept ones bound into it."""
        lines = ["mount --make-rprivate /", "T=$(mktemp -d)", 'mount -t tmpfs tmpfs "$T"']
        for index, path in enumerate(self.kept):
            lines += [f'mkdir "$T/{index}"', f'mount --bind {shlex.quote(str(path))} "$T/{index}"']
        for path in self.covered:
            lines.append(f"mount -t tmpfs -o mode=755 tmpfs {shlex.quote(str(path))}")
        for index, path in enumerate(self.kept):
            quoted = shlex.quote(str(path))
            lines += [f"mkdir -p {quoted}", f'mount --move "$T/{index}" {quoted}']
        lines += ['umount "$T"', 'rmdir "$T"', 'exec "$@"']
        return "\n".join(lines)


def find(count: int, *needed: Path) -> Separation:
    """Find out how to run `count` institutions under users of their own.

    Args:
        count: how many users.
        needed: folders that the commands must reach, beside interpreter and installation.
    """
    if os.geteuid() != 0:
        return Separation.none("not started as root")
    if shutil.which("setpriv") is None:
        return Separation.none("setpriv is not installed")
    uids = _free_uids(count)
    kept = _outermost([Path(sys.base_prefix), Path(sys.prefix), *_installation(), *needed])
    covered = _outermost([parent for path in kept for parent in path.parents if _closed(parent)])
    inside = tuple(path for path in kept if any(path.is_relative_to(top) for top in covered))
    found = Separation(uids, tuple(covered), inside)
    probe = found.wrap([sys.executable, "-c", "import accord_server"], uids[0])
    result = subprocess.run(probe, cwd="/", capture_output=True, text=True, check=False)
    if result.returncode:
        return Separation.none(result.stderr.strip().rsplit("\n", 1)[-1] or "the probe failed")
    return found


def _installation() -> list[Path]:
    """Folders of the three packages: an editable installation lies outside the environment."""
    root = Path(accord_server.__file__).resolve().parents[2]
    return [root] if (root / "pyproject.toml").exists() else []


def _closed(folder: Path) -> bool:
    return not folder.stat().st_mode & stat.S_IXOTH


def _outermost(paths: list[Path]) -> list[Path]:
    resolved = sorted({path.resolve() for path in paths})
    return [
        path
        for path in resolved
        if not any(path != other and path.is_relative_to(other) for other in resolved)
    ]


def _free_uids(count: int) -> tuple[int, ...]:
    taken = {entry.pw_uid for entry in pwd.getpwall()}
    free = (uid for uid in range(FIRST_UID, FIRST_UID + 1000) if uid not in taken)
    return tuple(next(free) for _ in range(count))
