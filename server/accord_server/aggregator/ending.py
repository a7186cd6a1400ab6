"""Ending a run that must not start, or cannot go on, with a signed result that says why.

Guarantees: one result a run: where the journal has one, nothing is written.
"""

from accord_common.api.schemas import RunView
from accord_common.chain import VerifiedRun
from accord_common.envelope import sign
from accord_common.fields import Hash, format_time, now
from accord_common.manifest import RunManifest
from accord_common.receipts import RESULT, RunResult
from accord_server.aggregator.chronicle import Chronicle
from accord_server.aggregator.conclusion import plain
from accord_server.aggregator.control import Ending, stop
from accord_server.aggregator.engine import RunKeys
from accord_server.aggregator.history import History
from accord_server.aggregator.journal import Concluded, Journal
from accord_server.aggregator.registry_client import closed


def only_the_end_is_left(view: RunView) -> Ending | None:
    """How to end a run that the registry has ended, or that was stopped before it began."""
    if view.state == "awaiting-consent" and view.stop_requested is not None:
        return stop(view.stop_requested)
    return closed(view)


def end(run: VerifiedRun, keys: RunKeys, journal: Journal, how: Ending) -> None:
    """End a run that verifies."""
    chronicle = Chronicle(run, keys.receipt, journal)
    if chronicle.history.result is None:
        chronicle.abort({}, (), {})
        chronicle.conclude(how, {})


def end_unverified(
    manifest: RunManifest, manifest_hash: Hash, keys: RunKeys, journal: Journal, how: Ending
) -> None:
    """End a run that does not: the result says nothing that rests on its agreement."""
    history = History.replay(
        journal, manifest_hash=manifest_hash, initial_model=manifest.initial_model
    )
    if history.result is not None:
        return
    result = RunResult(
        previous=history.head,
        manifest=manifest_hash,
        status=how.status,
        cause=plain(how.cause),
        code=how.code,
        refused={},
        rounds=history.round,
        model=history.model if history.round else None,
        epsilon=[],
        created=format_time(now()),
    )
    journal.append(Concluded(result=sign(RESULT, result, keys.receipt)))
