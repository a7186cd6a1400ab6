"""Processes for test_ledger.py: `python -m tests.client.ledger_crash MODE PATH KEY_PEM`.

`spend` charges rounds for ever and prints each sequence number once it is charged. `race` charges
until the cap refuses. Where exactly a charge dies: test_ledger_crash.py.
"""

import os
import sys
from pathlib import Path

from accord_client.ledger import Ledger
from accord_common.errors import PolicyError
from accord_common.fields import now
from accord_common.identity import SigningKey
from accord_common.privacy.filter import Cap
from tests.common.privacy.spends import spend

CAP = Cap(epsilon="1000", delta="0.00001")
SMALL_CAP = Cap(epsilon="2", delta="0.00001")


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


def main() -> None:
    mode, path, pem = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    key = SigningKey.from_pem(pem.read_bytes())
    if mode == "race":
        _race(Ledger.open(path, key))
    else:
        _spend(Ledger.open(path, key))


if __name__ == "__main__":
    main()
