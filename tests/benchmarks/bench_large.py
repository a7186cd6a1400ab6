"""1e8 parameters through three real nodes: adapters beside them, then all of them trained.

Each site takes one step of DP-SGD a round on about one row: what is measured is what a model of
400 MB costs, not training. The sum of all processes' peaks is above what they ever hold together;
it is held against the 24 GiB of one ordinary machine.
"""

import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from accord_server.demo.federation import Federation
from tests import federations
from tests.benchmarks.row import Row

ARCHITECTURE = {"name": "mlp", "hidden": [9990, 9990]}  # 10 inputs: 99,929,971 parameters
LORA = {"freeze": ["0"], "lora": {"rank": 8, "layers": ["2"]}}  # and the head: 169,831 trained
DEADLINES = {"advertise_s": 120, "update_s": 1200, "rejoin_s": 120}
ROUNDS = 2
MACHINE_MIB = 24 << 10


def run() -> Iterator[Row]:
    """Yield seconds a round and all peaks together, for `lora` (the peaks so far) and for all."""
    with federations.temporary() as federation:
        yield from _measure("large-3x1e8-lora", federation, adapt=LORA)
        yield from _measure("large-3x1e8", federation)


def _measure(name: str, federation: Federation, **changes: Any) -> Iterator[Row]:
    updates = federations.complete(
        federation,
        architecture=ARCHITECTURE,
        rounds=ROUNDS,
        sampling_rate="0.01",
        deadlines=DEADLINES,
        **changes,
    )
    end = updates[-1]
    if end["state"] != "completed":
        raise RuntimeError(f"{name}: {end['state']}: {end['cause']}")
    seconds = [update["seconds"] for update in updates if update["event"] == "round"]
    yield Row(
        name,
        round(statistics.median(seconds), 2),
        "s",
        extra={"worst_s": round(max(seconds), 2), "rounds": len(seconds)},
    )
    pid = federation.services.pid
    nodes = [_peak_mib(pid(node)) for node in federation.nodes]
    servers = [_peak_mib(pid(actor)) for actor in (federation.aggregator, federation.registry)]
    yield Row(
        f"{name}-memory",
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
