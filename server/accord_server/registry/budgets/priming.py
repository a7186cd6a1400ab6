"""What a result is compared with, computed before the writers' turn: PLD takes half a second."""

import asyncio
import contextlib

from accord_common.envelope import Envelope
from accord_common.errors import AccordError
from accord_common.receipts import RESULT, RunResult
from accord_server.registry.budgets.projections import recompute
from accord_server.registry.context import Registry


async def prime(registry: Registry, envelope: Envelope, party: str) -> None:
    """Let the accountant's cache know what a result's projection will ask.

    Only for the run's own aggregator, and under its receipt key: nobody else has the registry
    compute. What does not hold is told by `append`, not here.
    """
    if envelope.kind != RESULT:
        return
    with contextlib.suppress(AccordError):
        body = RunResult.from_bytes(envelope.payload)
        async with registry.database.read() as session:
            run = await registry.runs.get(session, body.manifest)
        if run.manifest.aggregator.party == party:
            envelope.verify([run.manifest.aggregator.receipt_key])
            await asyncio.to_thread(recompute, run.manifest, run.agreement, body.epsilon)
