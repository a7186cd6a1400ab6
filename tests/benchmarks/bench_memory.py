"""The aggregator's memory in a real run of plain averaging: rows `memory-3` and `memory-10`.

The value is what its resident memory reaches above what it has while it waits for a run, as the
kernel counts it (VmHWM, set back before the run, less VmRSS), held against one masked vector. Every
site sends a known vector instead of training, so that the machine holds its ten processes; all else
is what a site's own process does.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from accord_server.demo.processes import Actor
from tests import federations
from tests.benchmarks.row import Row
from tests.known.installing import TASK

ARCHITECTURE: dict[str, Any] = {"name": "mlp", "hidden": [7064, 7066]}
PARAMETERS = 50_006_061  # of 10 inputs, those hidden layers and one output
VECTOR_BYTES = 4 * PARAMETERS  # words of 32 bits
ROUNDS = 3


def run() -> Iterator[Row]:
    for nodes in (3, 10):
        yield measure(nodes)


def measure(
    nodes: int, architecture: dict[str, Any] = ARCHITECTURE, vector_bytes: int = VECTOR_BYTES
) -> Row:
    """One run of `ROUNDS` rounds with so many sites."""
    with federations.temporary(nodes, known=True) as federation:
        services = federation.services
        aggregator = services.pid(federation.aggregator)
        (Path("/proc") / str(aggregator) / "clear_refs").write_text("5")  # resets VmHWM
        idle = status(aggregator, "VmRSS")
        updates = federations.complete(
            federation,
            task=TASK,
            architecture=architecture,
            rounds=ROUNDS,
            sampling_rate="0.01",
            deadlines={"advertise_s": 60, "update_s": 300, "rejoin_s": 60},
        )
        end = updates[-1]
        if end["state"] != "completed":
            raise RuntimeError(f"{nodes} sites: {end['state']}: {end['cause']}")
        peak = status(aggregator, "VmHWM")

        def site(node: Actor) -> int:
            return status(services.pid(node), "VmHWM")

        seconds = [update["seconds"] for update in updates if update["event"] == "round"]
        return Row(
            f"memory-{nodes}",
            peak - idle,
            "B",
            "the masked vector",
            vector_bytes,
            {
                "idle_mib": idle >> 20,
                "peak_mib": peak >> 20,
                "largest_site_mib": max(map(site, federation.nodes)) >> 20,
                "round_s": max(seconds),
            },
        )


def status(pid: int, name: str) -> int:
    """A field of /proc/PID/status that is given in kB, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) << 10
    raise RuntimeError(f"no {name} for process {pid}")
