"""A registry with a completed run whose figures are true, and what an auditor takes from it."""

from itertools import count
from pathlib import Path

from accord_common.chain import fetch_run
from accord_common.costs import spent
from accord_common.envelope import Envelope
from accord_common.log.audit import Verdict, audit
from accord_common.log.checkpoint import Head
from tests.server.registry.stack import Stack, complete, run_id

ENTRIES = count()  # of every ledger: none stands for two attempts


def finish(stack: Stack, head: Head | None = None) -> Envelope:
    """A run of two rounds, in three attempts; each consent carries `head`. Returns the manifest."""
    keys = stack.offer()
    manifest = stack.start(keys)
    client = stack.client(stack.world.coordinator)
    run = fetch_run(client.record, manifest.hash)
    epsilon = [row.model_dump() for row in spent(run, {a.id: 3 for a in stack.world.hospitals})]
    complete(stack, keys, manifest, head, ENTRIES, epsilon=epsilon)
    return manifest


def owe(stack: Stack) -> None:
    """A run whose first round every node was in and none has posted a receipt of."""
    keys = stack.offer()
    manifest = stack.start(keys)
    stack.accept(manifest)
    aggregator = stack.client(stack.world.aggregator)
    aggregator.lease(run_id(stack, manifest), "aggregator-1", 60)
    aggregator.post(stack.world.aggregator_receipt(keys, manifest, manifest.hash, 0))


def verdict_of(path: Path, *trust: str, kept: tuple[Envelope, ...] = ()) -> Verdict:
    with path.open("rb") as file:
        return audit(file, trust, kept)
