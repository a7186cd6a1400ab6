"""A node that dies on demand: `python -m tests.client.crash_victim FOLDER`, crash_shim.c preloaded.

Makes three institutions in FOLDER, accepts a run at one of them, and prints where that node's
folder is. Then each line on stdin, an `Order`, is carried out by a forked child on a fresh copy of
that folder (or on one that is there), and answered by a line: how the child ended, and what it
reported if it lived.

What the node answers to the aggregator goes through a TCP connection to `port`, whose far end is
the witness: what is read there has left the node, whatever became of it.
"""

import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from accord_client import ledger
from accord_client.ledger import Ledger
from accord_client.ledger_store import Store
from accord_client.outbox import Outbox
from accord_client.rounds import Rounds
from accord_client.secagg import NodeSecAgg
from accord_client.session import Session
from accord_client.state import State
from accord_client.stores import open_stores
from accord_client.trainer import Trainer, warm_up
from accord_common import wire
from accord_common.errors import AccordError
from accord_common.home import Home
from tests.client.institutions import Aggregator, Refused, make_institutions
from tests.client.test_node_session import Bench

_PR_SET_PTRACER = 0x59616D61  # linux/prctl.h
SENDING = ("before sending", "half sent", "after sending")
_SPOTS: dict[str, tuple[Any, str]] = {
    "the attempt is begun": (State, "begin"),
    "BEGIN": (Store, "writing"),
    "INSERT": (ledger, "append"),
    "the charge": (Ledger, "charge"),
    "training": (Trainer, "update"),
    "masking": (NodeSecAgg, "mask"),
    "the round is kept": (Rounds, "keep"),
    "the receipt": (State, "report"),
    "the outbox line": (Outbox, "append"),
}


@dataclass(frozen=True, slots=True)
class Order:
    """One child's life.

    Attributes:
        action: `serve` a whole attempt; serve it `again` after a crash; `create` a ledger.
        folder: the node's folder; made from the template unless it exists.
        port: of the witness.
        point: where to die, by name; None.
        at: which change of a file is the last, -1 none; `how` as in crash_shim.c.
        log: where the shim writes what it sees, or None.
        strace: what strace injects into the child's system calls, or None.
    """

    action: str
    folder: str
    port: int = 0
    point: str | None = None
    at: int = -1
    how: int = 0
    log: str | None = None
    strace: str | None = None


class Witnessed(Aggregator):
    """An aggregator beyond a socket: 4 bytes the header's length, 4 that of all, all."""

    link: socket.socket
    point: str | None = None
    sent = 0

    def ask(
        self, session: Session, request: wire.Request, bulk: tuple[bytes, ...] = ()
    ) -> tuple[wire.Reply, tuple[bytes, ...]]:
        header, chunks = session.answer(wire.encode(request), bulk)
        reply, data = wire.decode_reply(header), b"".join((header, *chunks))
        fatal = self.point if isinstance(reply, wire.UpdateReply) else None
        if fatal == "before sending":
            die()
        _SHIM.crash_mark(self.sent)
        self.sent += 1
        data = len(header).to_bytes(4) + len(data).to_bytes(4) + data
        self.link.sendall(data[: len(data) // 2])
        if fatal == "half sent":
            die()
        self.link.sendall(data[len(data) // 2 :])
        if fatal == "after sending":
            die()
        if isinstance(reply, wire.Refusal):
            raise Refused("", reply)
        return reply, chunks


class Victim:
    """The parent of all children; it holds no file open that they use."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        three = make_institutions(folder)
        self.template = three.homes[three.parties[1]]
        with three.open(three.parties[1]) as stores:
            self._bench = Bench(three, stores, three.manifest())
        warm_up()

    def obey(self, order: Order) -> dict[str, Any]:
        """Let a child live and die as ordered."""
        if not Path(order.folder).exists():
            shutil.copytree(self.template.path, order.folder)
        reading, writing = os.pipe()
        assert threading.active_count() == 1  # of which a fork would leave one behind
        child = os.fork()
        if child == 0:
            try:
                os.write(writing, json.dumps(self._live(order)).encode())
            finally:
                os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            told = pipe.read()
        _, status = os.waitpid(child, 0)
        return {"killed": os.WIFSIGNALED(status), **json.loads(told or "{}")}

    def _live(self, order: Order) -> dict[str, Any]:
        folder = Path(order.folder)
        _SHIM.crash_watch(order.folder.encode())
        if order.log:
            _SHIM.crash_log(os.open(order.log, os.O_WRONLY | os.O_CREAT, 0o600))
        if order.action == "create":
            _SHIM.crash_at(order.at, order.how)
            made = _errors(lambda: Ledger.create(folder / "new.db", self._bench.stores.key).close())
            _SHIM.crash_mark(0)
            return made | {"calls": _SHIM.crash_calls()}
        with (
            open_stores(Home(folder, self.template.profile)) as stores,
            socket.create_connection(("127.0.0.1", order.port)) as link,
        ):
            bench = self._bench
            bench.stores = stores
            bench.open()
            old = bench.aggregator
            bench.aggregator = aggregator = Witnessed(old.three, old.manifest, old.model)
            aggregator.link = link
            if order.action == "again":
                return _errors(lambda: bench.serve(0, 0)) | {
                    "again": _errors(lambda: bench.serve(0, 1)),
                    "charged": bench.charged(),
                }
            aggregator.point = order.point if order.point in SENDING else None
            if order.point and order.point not in SENDING:
                _die_at(order.point, stores.ledger)
            if order.strace:
                _trace_me(order.strace)
                self._attempt()
                os._exit(0)  # what closing writes is not counted
            _SHIM.crash_at(order.at, order.how)
            said = _errors(self._attempt) | {"calls": _SHIM.crash_calls()}
            _SHIM.crash_at(-1, 0)
            return said | {"later": _errors(lambda: bench.serve(0, 1)), "charged": bench.charged()}

    def _attempt(self) -> None:
        bench = self._bench
        attempt = bench.uploaded(0, 0)
        bench.aggregator.unmask(bench.session, attempt, bench.confirmed(attempt))


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _die_at(point: str, opened: Ledger) -> None:
    when, _, spot = point.partition(" ")
    if spot == "COMMIT":
        statements: list[str] = []

        def trace(statement: str) -> None:
            statements.append(statement.split()[0])
            if statements[-2:] == ["INSERT", "COMMIT"]:
                die()

        opened._store._connection.set_trace_callback(trace)
        return
    owner, name = _SPOTS[spot]
    real = getattr(owner, name)

    def fatal(*arguments: Any, **named: Any) -> Any:
        if name == "append" and owner is Outbox and arguments[1] != "upload":
            return real(*arguments, **named)
        if when == "before":
            die()
        result = real(*arguments, **named)
        die()
        return result

    setattr(owner, name, fatal)


def _trace_me(inject: str) -> None:
    """Have strace attached to this process before going on."""
    _SHIM.prctl(_PR_SET_PTRACER, -1, 0, 0, 0)  # anybody may; where only ancestors could
    command = ["strace", "--quiet=all", "-o", os.devnull, "-p", str(os.getpid())]
    tracer = subprocess.Popen([*command, "-e", f"inject={inject}"], stderr=subprocess.PIPE)
    while "TracerPid:\t0\n" in Path("/proc/self/status").read_text():
        if tracer.poll() is not None:
            raise AssertionError("strace cannot attach")


def _errors(work: Callable[[], object]) -> dict[str, Any]:
    """How `work` ended: its error's code, and whether the aggregator heard it as a refusal."""
    try:
        work()
    except Refused as refused:
        return {"code": refused.code, "refused": True}
    except AccordError as error:
        return {"code": error.code, "refused": False}
    return {"code": "", "refused": False}


_SHIM = ctypes.CDLL(None)  # preloaded


def main() -> None:
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    victim = Victim(Path(sys.argv[1]))
    sys.stdout.write(f"{victim.template.path}\n")
    sys.stdout.flush()
    for line in sys.stdin:
        told = victim.obey(Order(**json.loads(line)))
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
