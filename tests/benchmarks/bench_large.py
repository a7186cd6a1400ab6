"""1e8 parameters, all of them trained, through three real nodes: time and memory.

Each site takes one step of DP-SGD a round on about one row: what is measured is what a vector of
400 MB costs on its way, not training. The sum of all processes' peaks is above what they ever hold
together; it is held against the 24 GiB of one ordinary machine.
"""

import statistics
from collections.abc import Iterator
from pathlib import Path

from tests import federations
from tests.benchmarks.row import Row

ARCHITECTURE = {"name": "mlp", "hidden": [9990, 9990]}  # 10 inputs: 99,929,971 parameters
DEADLINES = {"advertise_s": 120, "update_s": 1200, "rejoin_s": 120}
ROUNDS = 2
MACHINE_MIB = 24 << 10


def run() -> Iterator[Row]:
    """Yield `large-3x1e8` (seconds a round) and `large-3x1e8-memory` (all peaks together)."""
    with federations.temporary() as federation:
        updates = federations.complete(
            federation,
            architecture=ARCHITECTURE,
            rounds=ROUNDS,
            sampling_rate="0.01",
            deadlines=DEADLINES,
        )
        end = updates[-1]
        if end["state"] != "completed":
            raise RuntimeError(f"large-3x1e8: {end['state']}: {end['cause']}")
        pid = federation.services.pid
        nodes = [_peak_mib(pid(node)) for node in federation.nodes]
        servers = [_peak_mib(pid(actor)) for actor in (federation.aggregator, federation.registry)]
    seconds = [update["seconds"] for update in updates if update["event"] == "round"]
    yield Row(
        "large-3x1e8",
        round(statistics.median(seconds), 2),
        "s",
        extra={"worst_s": round(max(seconds), 2), "rounds": len(seconds)},
    )
    yield Row(
        "large-3x1e8-memory",
        sum(nodes) + sum(servers),
        "MiB",
        against="one machine of 24 GiB",
        against_value=MACHINE_MIB,
        extra={
            "node_peak_mib": max(nodes),
            "aggregator_peak_mib": servers[0],
            "registry_peak_mib": servers[1],
        },
    )


def _peak_mib(pid: int) -> int:
    """Peak resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) // 1024
    raise RuntimeError(f"no VmHWM for process {pid}")
