"""Crashing nodes on demand, and looking at what they left: the test's side of crash_victim.py."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.client.crash_victim import Order

ROOT = Path(__file__).parents[2]
KILL, TEAR = 0, -1  # of `Order.how`; else errno, negative: from then on
UPDATE = 2  # what a node says third in an attempt is its update


def build_shim(folder: Path) -> Path:
    """Compile crash_shim.c with the machine's C compiler."""
    library = folder / "crash_shim.so"
    source = Path(__file__).with_name("crash_shim.c")
    options = ["-O1", "-Wall", "-Werror", "-shared", "-fPIC"]
    subprocess.run(["cc", *options, "-o", library, source, "-ldl"], check=True)
    return library


@dataclass(frozen=True, slots=True)
class Left:
    """What a life left: the folder, what arrived at the witness, what the child reported."""

    folder: Path
    frames: tuple[bytes, ...]  # whole or cut short, each the header and its chunks
    headers: tuple[bytes, ...]  # of whole frames
    report: dict[str, Any]

    @property
    def killed(self) -> bool:
        return bool(self.report["killed"])

    def heard(self, kind: int) -> int:
        """How many bytes of the answer number `kind` left the node."""
        return len(self.frames[kind]) if len(self.frames) > kind else 0


class Victims:
    """The running parent of victims; see crash_victim.py."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._lives = folder, 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        environment = os.environ | {
            "LD_PRELOAD": str(build_shim(folder)),
            "PYTHONPATH": os.pathsep.join(("common", "client", "server", ".")),
            "OMP_NUM_THREADS": "1",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.client.crash_victim", folder / "institutions"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.template = Path(self._told())

    def close(self) -> None:
        self._listener.close()
        with self._process as process:
            process.terminate()

    def live(self, action: str = "serve", **ordered: Any) -> Left:
        """One child's life, in a new folder unless `folder` names one."""
        self._lives += 1
        folder = ordered.pop("folder", self._folder / f"life-{self._lives}")
        order = Order(action, str(folder), self._listener.getsockname()[1], **ordered)
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asdict(order)) + "\n")
        self._process.stdin.flush()
        report = json.loads(self._told())
        frames, headers = _frames(self._heard())
        return Left(folder, frames, headers, report)

    def _told(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        assert line, "the victims' parent ended"
        return line

    def _heard(self) -> bytes:
        """What a child that has ended sent: all of it waits here, in the system's buffers."""
        try:
            connection, _ = self._listener.accept()
        except BlockingIOError:  # it did not get so far
            return b""
        with connection:
            connection.setblocking(True)
            return b"".join(iter(lambda: connection.recv(1 << 16), b""))


def _frames(heard: bytes) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    frames, headers, place = [], [], 0
    while place < len(heard):
        header, size = (int.from_bytes(heard[place + at : place + at + 4]) for at in (0, 4))
        frames.append(heard[place + 8 : place + 8 + size])
        if len(frames[-1]) == size > 0:
            headers.append(frames[-1][:header])
        place += 8 + max(size, 1)
    return tuple(frames), tuple(headers)
