"""Processes for test_ledger.py: `python -m tests.client.ledger_crash MODE PATH KEY_PEM`.

`spend` charges rounds for ever and prints each sequence number once it is charged. `race` charges
until the cap refuses. `lines` kills a forked child with SIGKILL at every line that a charge
executes, one child a line, and checks after each that the ledger holds all or nothing of it.
"""

import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from accord_client.ledger import Ledger
from accord_common.errors import PolicyError
from accord_common.fields import now
from accord_common.identity import SigningKey
from accord_common.privacy.filter import Cap
from tests.common.privacy.spends import spend

CAP = Cap(epsilon="1000", delta="0.00001")
SMALL_CAP = Cap(epsilon="2", delta="0.00001")
_WATCHED = ("ledger.py", "ledger_rows.py", "ledger_store.py")


def _say(*words: object) -> None:
    sys.stdout.write(" ".join(str(word) for word in words) + "\n")
    sys.stdout.flush()


def _spend(ledger: Ledger) -> None:
    number = len(ledger.entries())
    while True:
        entry, _ = ledger.charge(spend(round=number, steps=1), [CAP], now)
        _say(entry.sequence)
        number += 1


def _race(ledger: Ledger) -> None:
    run = os.urandom(32).hex()
    _say("ready")
    sys.stdin.readline()
    for number in range(1000):
        try:
            ledger.charge(spend(run=run, round=number, steps=20), [SMALL_CAP], now)
        except PolicyError as error:
            _say(number, error.code)
            return


def _lines(path: Path, key: SigningKey) -> None:
    charged, line = 0, 0
    while True:
        child = os.fork()
        if child == 0:
            try:
                _charge_and_die(path, key, charged, line)
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        ledger = Ledger.open(path, key)
        ledger.verify({key.public})
        entries = ledger.entries()
        ledger.close()
        if len(entries) not in (charged, charged + 1):
            raise AssertionError(f"{len(entries)} entries after {charged} and one charge")
        charged = len(entries)
        if not os.WIFSIGNALED(status):
            if status != 0:
                raise AssertionError(f"the charge failed: status {status}")
            _say(line, charged)
            return
        line += 1


def _charge_and_die(path: Path, key: SigningKey, number: int, fatal_line: int) -> None:
    ledger = Ledger.open(path, key)
    seen = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal seen
        if os.path.basename(frame.f_code.co_filename) not in _WATCHED:
            return None
        if event == "line":
            if seen == fatal_line:
                os.kill(os.getpid(), signal.SIGKILL)
            seen += 1
        return trace

    sys.settrace(trace)
    ledger.charge(spend(round=number, steps=1), [CAP], now)
    sys.settrace(None)
    os._exit(0)


def main() -> None:
    mode, path, pem = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    key = SigningKey.from_pem(pem.read_bytes())
    if mode == "lines":
        assert threading.active_count() == 1
        _lines(path, key)
    elif mode == "race":
        _race(Ledger.open(path, key))
    else:
        _spend(Ledger.open(path, key))


if __name__ == "__main__":
    main()
