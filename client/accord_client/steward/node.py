"""What all requests share: the node's folder, the door, and what is done beside the pages.

Guarantees: stores are opened for one request and closed again, as a verb of the console does, so a
key that was renewed meanwhile, and whatever other processes wrote, is seen by the next.
"""

import shlex
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from accord_client import outbox, state, stores
from accord_client.lock import running_pid
from accord_client.steward import board, proofs
from accord_client.steward.board import Board, read_board
from accord_client.steward.door import Door
from accord_client.steward.errands import Errand
from accord_client.steward.proofs import Proofs
from accord_client.steward.sent import Sent
from accord_client.stores import Stores, open_stores
from accord_common.home import Home

_FILES = (stores.LEDGER_FILE, state.FILE_NAME, outbox.FILE_NAME)
_FOLDERS = ("agreements", "withdrawals", "suspensions", "leaving", "datasets")


@dataclass(slots=True)
class Node:
    """See the module.

    Attributes:
        given: `--home ...` as commands on pages need it; empty for the default.
        closing: set when the process ends, so that open event streams do too.
    """

    path: Path
    door: Door
    given: str
    board: Errand[Board]
    proofs: Errand[Proofs]
    sent: Sent
    closing: threading.Event = field(default_factory=threading.Event)

    @classmethod
    def of(cls, home: Home, door: Door, default: Path) -> "Node":
        """A node's folder, with nothing begun."""
        same = home.path == default.expanduser()
        return cls(
            path=home.path,
            door=door,
            given="" if same else f" --home {shlex.quote(str(home.path))}",
            board=Errand(
                "board", lambda: read_board(Home.open(home.path)), Board(), board.PERIOD_S
            ),
            proofs=Errand(
                "proofs", lambda: proofs.walk(Home.open(home.path)), Proofs(), proofs.PERIOD_S
            ),
            sent=Sent(home.path / outbox.FILE_NAME),
        )

    @contextmanager
    def open(self) -> Iterator[Stores]:
        """Open the stores for one request."""
        with open_stores(Home.open(self.path)) as opened:
            yield opened

    def hurry(self) -> None:
        """Something was changed here: look again."""
        self.board.hurry()
        self.proofs.hurry()

    def mark(self) -> tuple[object, ...]:
        """A value that differs once anything that pages show has changed."""
        return (
            *(_mark(self.path / name) for name in _FILES),
            *(_mark(self.path / f"{name}-wal") for name in _FILES[:2]),
            *(_mark(self.path / name) for name in _FOLDERS),
            running_pid(self.path),
            self.board.found.count,
            self.proofs.found.count,
        )


def _mark(path: Path) -> tuple[int, int] | None:
    """When a file or folder was changed; an empty write-ahead log comes and goes with readers."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return (found.st_mtime_ns, found.st_size) if found.st_size else None
