"""Crashing nodes on demand, and looking at what they left: the test's side of crash_victim.py."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.client.crash_victim import Order

ROOT = Path(__file__).parents[2]
KILL, TEAR = 0, -1  # of `Order.how`; else errno, negative: from then on
UPDATE = 2  # what a node says third in an attempt is its update
_STARTS_WITHIN_S = 120
_ANSWERS_WITHIN_S = 60


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
        with self._witness(action) as heard:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(asdict(order)) + "\n")
            self._process.stdin.flush()
            report = json.loads(self._told())
        frames, headers = _frames(bytes(heard))
        return Left(folder, frames, headers, report)

    def _told(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    @contextmanager
    def _witness(self, action: str) -> Iterator[bytearray]:
        heard = bytearray()
        if action == "create":
            yield heard
            return

        def read() -> None:
            self._listener.settimeout(_ANSWERS_WITHIN_S)
            connection, _ = self._listener.accept()
            with connection:
                while part := connection.recv(1 << 16):
                    heard.extend(part)

        thread = threading.Thread(target=read)
        thread.start()
        yield heard
        thread.join()


def _frames(heard: bytes) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    frames, headers, place = [], [], 0
    while place < len(heard):
        header, size = (int.from_bytes(heard[place + at : place + at + 4]) for at in (0, 4))
        frames.append(heard[place + 8 : place + 8 + size])
        if len(frames[-1]) == size > 0:
            headers.append(frames[-1][:header])
        place += 8 + max(size, 1)
    return tuple(frames), tuple(headers)
