"""Seconds a round, R0 to R4: nodes as processes, TLS, node keys, masks, ledger and receipts on.

Each site trains for real: one Poisson batch of a multilayer perceptron with Opacus. The peer is
stock Flower with the same number of nodes and parameters, TLS and node authentication, in the same
run.
"""

import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from accord_server.demo.federation import Federation
from tests import federations
from tests.benchmarks import stock_flower
from tests.benchmarks.row import Row

SMALL = {"name": "mlp", "hidden": [83]}  # 10 inputs: 997 parameters
LARGE = {"name": "mlp", "hidden": [3150, 3165]}  # 10,010,566 parameters


def run() -> Iterator[Row]:
    """Yield `rounds-3x1e3` beside stock Flower, `rounds-3x1e7` and `rounds-10x1e3`."""
    with federations.temporary() as federation:
        stock = stock_flower.measure(nodes=3, parameters=997, rounds=3).median_s
        yield _measure("rounds-3x1e3", federation, SMALL, 30, against=stock)
        yield _measure("rounds-3x1e7", federation, LARGE, 8, against=None)
    with federations.temporary(10) as federation:
        yield _measure("rounds-10x1e3", federation, SMALL, 20, against=None)


def _measure(
    name: str,
    federation: Federation,
    architecture: dict[str, Any],
    rounds: int,
    *,
    against: float | None,
) -> Row:
    updates = federations.complete(
        federation, architecture=architecture, rounds=rounds, sampling_rate="0.01"
    )
    end = updates[-1]
    if end["state"] != "completed":
        raise RuntimeError(f"{name}: {end['state']}: {end['cause']}")
    seconds = [update["seconds"] for update in updates if update["event"] == "round"][1:]
    return Row(
        name,
        round(statistics.median(seconds), 4),
        "s",
        against=None if against is None else "stock Flower 1.41",
        against_value=against,
        extra={
            "best_s": round(min(seconds), 4),
            "worst_s": round(max(seconds), 4),
            "rounds": len(seconds),
            "aggregator_peak_mib": _peak_mib(federation.services.pid(federation.aggregator)),
        },
    )


def _peak_mib(pid: int) -> int:
    """Peak resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) // 1024
    raise RuntimeError(f"no VmHWM for process {pid}")
