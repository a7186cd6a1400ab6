"""Bytes a parameter on the way to a node and back: rows `wire-down`, `wire-up`, `wire-up-16`.

Counted on the sockets between nodes and aggregator, in a real run: TLS records, HTTP, Flower's
messages, every stage from R0 to the result and the line that shows who is there. What a round
carries for one site, over the number of parameters. `wire-up-16` is `wire-up` with words of 16
bits. Held against four bytes (two), which is what the numbers alone take.
"""

import socket
from collections.abc import Iterator
from typing import Any

from accord_server.demo.federation import Federation
from tests import federations
from tests.benchmarks.relay import Relay
from tests.benchmarks.row import Row
from tests.known.installing import TASK

ARCHITECTURE: dict[str, Any] = {"name": "mlp", "hidden": [3150, 3165]}
PARAMETERS = 10_010_566
NODES, ROUNDS = 3, 2


def run() -> Iterator[Row]:
    with Relay() as relay, federations.temporary(NODES, known=True) as federation:
        divert(federation, relay)
        down, up = measure(federation, relay, ring_bits=32)
        yield Row("wire-down", down, "B/parameter", "float32", 4.0)
        yield Row("wire-up", up, "B/parameter", "words of 32 bits", 4.0)
        down, up = measure(federation, relay, ring_bits=16)
        extra = {"down": down}
        yield Row("wire-up-16", up, "B/parameter", "words of 16 bits", 2.0, extra)


def divert(federation: Federation, relay: Relay) -> None:
    """Start the aggregator anew behind the relay; its next offer names the relay's address."""
    services, aggregator = federation.services, federation.aggregator
    services.kill(aggregator)
    home = aggregator.home
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    services.start(
        aggregator, "aggregator", "start", "--home", home / "accord",
        "--listen", f"127.0.0.1:{port}",
        "--cert", home / "aggregator.pem", "--key", home / "aggregator.key",
        "--ca", home / "accord" / "ca.pem", "--address", f"127.0.0.1:{relay.port}",
    )  # fmt: skip
    relay.open(port)


def measure(federation: Federation, relay: Relay, *, ring_bits: int) -> tuple[float, float]:
    """One run; bytes down and up for each site, round and parameter."""
    before = relay.down, relay.up
    changes = {} if ring_bits == 32 else {"ring_bits": ring_bits}
    updates = federations.complete(
        federation,
        task=TASK,
        architecture=ARCHITECTURE,
        rounds=ROUNDS,
        sampling_rate="0.01",
        **changes,
    )
    end = updates[-1]
    if end["state"] != "completed":
        raise RuntimeError(f"{ring_bits} bits: {end['state']}: {end['cause']}")
    numbers = NODES * ROUNDS * PARAMETERS
    return (relay.down - before[0]) / numbers, (relay.up - before[1]) / numbers
