"""The systemd units without an init: what they say, and a sandbox that does most of it.

`Sandbox` starts a process as its unit would have it, by unshare, mount, chroot and setpriv: a root
that is read-only but for its state folder and an empty /tmp, six devices, no /home, another user,
no capability and none to gain, no core dump, no memory that is both written and executed where the
unit says so; strace notes each system call. Not done: a seccomp filter (the calls noted are held
against it), PrivateUsers, ProtectProc, the kernel's address families and namespaces.
"""

import shlex
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from accord_server.demo.separation import Separation

FOLDER = Path(__file__).parents[2] / "deploy" / "systemd"
NAMES = ("accord-registry", "accord-aggregator", "accord-node")
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_SYSTEM = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "etc")
# prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN): Linux 6.3; it stays over fork and exec.
_NO_NEW_CODE = (
    "import ctypes, os, sys\n"
    "assert ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) == 0\n"
    "os.execv(sys.argv[1], sys.argv[1:])"
)


def settings(name: str) -> dict[str, list[str]]:
    """A unit's settings, in order; one may be given several times."""
    found: dict[str, list[str]] = {}
    for line in (FOLDER / f"{name}.service").read_text().splitlines():
        if line and line[0] not in "#[":
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def allowed_calls(name: str) -> set[str]:
    """System calls that a unit's filter lets through."""
    allowed = _calls("@default")
    for value in settings(name)["SystemCallFilter"]:
        if value.startswith("~"):
            allowed -= _calls(value[1:])
        else:
            allowed |= _calls(value)
    return allowed


def _calls(group: str) -> set[str]:
    answer = subprocess.run(
        ["systemd-analyze", "syscall-filter", group], capture_output=True, text=True, check=True
    ).stdout
    found = set()
    for line in answer.splitlines()[1:]:
        word = line.strip()
        if word.startswith("@"):
            found |= _calls(word)
        elif word and not word.startswith("#"):
            found.add(word)
    return found


@dataclass(frozen=True, slots=True)
class Sandbox(Separation):
    """Runs services of one user each in a root of their own."""

    units: dict[int, str] = field(default_factory=dict)
    homes: dict[int, Path] = field(default_factory=dict)

    def own(self, folder: Path, uid: int) -> None:
        """Give a state folder to its user."""
        self.homes[uid] = folder
        super(Sandbox, self).own(folder, uid)

    def wrap(self, command: list[str], uid: int) -> list[str]:
        """Return the command that runs `command` in its sandbox; `start` as the unit says it."""
        home, started = self.homes[uid], "start" in command
        if started:
            command = exec_start(self.units[uid], home)
            calls = home / "calls.txt"
            command = ["strace", "-f", "-qq", "-e", "signal=none", "-o", str(calls), *command]
        if started and "MemoryDenyWriteExecute" in settings(self.units[uid]):
            command = ["/usr/bin/env", *command]
            command = [sys.executable, "-c", _NO_NEW_CODE, *command]
        return ["unshare", "--mount", "--", "sh", "-ec", _root(home, uid), "sh", *command]


def _root(home: Path, uid: int) -> str:
    """Shell: build the root and run "$@" in it."""
    lines = ["umask 022", "ulimit -c 0", "mount --make-rprivate /", "R=$(mktemp -d)"]
    lines += ['mount -t tmpfs -o mode=755 tmpfs "$R"', 'mkdir "$R/proc" "$R/dev"']
    lines += ['mkdir -m 1777 "$R/tmp"', 'mount --rbind /proc "$R/proc"']
    for name in _SYSTEM:
        lines.append(
            f'if [ -L /{name} ]; then cp -P /{name} "$R/{name}"; elif [ -d /{name} ]; then '
            f'mkdir "$R/{name}"; {_bind(f"/{name}")}; fi'
        )
    for name in _DEVICES:
        lines.append(f'touch "$R/dev/{name}"; mount --bind /dev/{name} "$R/dev/{name}"')
    lines.append('mount -t tmpfs -o mode=1777 tmpfs "$R/tmp"')
    for path in _interpreter():
        lines.append(f'mkdir -p "$R{path}"; {_bind(str(path))}')
    at = shlex.quote(str(home))
    lines.append(f'mkdir -p "$R"{at}; mount --bind {at} "$R"{at}')
    lines.append('mount -o remount,ro "$R"; umask 077')
    lines.append(
        f'exec chroot "$R" setpriv --reuid={uid} --regid={uid} --clear-groups --no-new-privs '
        f'--bounding-set=-all --inh-caps=-all -- sh -ec \'cd {at}; exec "$@"\' sh "$@"'
    )
    return "\n".join(lines)


def _bind(path: str) -> str:
    return f'mount --bind {path} "$R{path}"; mount -o remount,bind,ro "$R{path}"'


def _interpreter() -> list[Path]:
    """Where Python, its libraries and this installation lie, outermost folders only."""
    wanted = [sys.prefix, sys.base_prefix, *sys.path]
    found = sorted({Path(path).resolve() for path in wanted if path and Path(path).is_dir()})
    system = tuple(Path("/", name) for name in _SYSTEM)
    return [
        path
        for path in found
        if not any(path != other and path.is_relative_to(other) for other in found)
        and not any(path.is_relative_to(place) for place in system)
    ]


def exec_start(name: str, home: Path) -> list[str]:
    """The unit's command line, its folders moved to `home`, its addresses on this machine."""
    (line,) = settings(name)["ExecStart"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    within = "registry" if name == "accord-registry" else "accord"
    for said, meant in (
        ("/opt/accord/bin", str(Path(sys.executable).parent)),
        (f"/var/lib/{name}/home", str(home / within)),
        (f"/var/lib/{name}", str(home)),
        ("${ACCORD_LISTEN}", address),
        ("${ACCORD_ADDRESS}", address),
    ):
        line = line.replace(said, meant)
    return line.split()


def called(calls: Path) -> set[str]:
    """Names of the system calls in strace's notes."""
    found = set()
    for line in calls.read_text(errors="replace").splitlines():
        call = line.partition(" ")[2].strip()
        if call.startswith("<... "):
            found.add(call.split()[1])
        elif "(" in call and call[0].isalpha():
            found.add(call.partition("(")[0])
    return found
