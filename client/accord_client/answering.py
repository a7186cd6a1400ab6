"""The steward's word on one run: what the console and the page both do.

Guarantees: the run is looked at anew, with the own agreement and the ledger, right before it is
answered; one that the checks refuse is refused, whoever approves it; it is answered once; an
accepted one has its base in the folder and its turn.
"""

from collections.abc import Callable
from dataclasses import dataclass

from accord_client.bases import fetch_base
from accord_client.consent import Verdict
from accord_client.deciding import Considered, answer, consider
from accord_client.delivery import deliver
from accord_client.limits import Limits
from accord_client.queueing import require_turn
from accord_client.reconciling import answered_elsewhere
from accord_client.registry_sync import refresh
from accord_client.stores import Stores
from accord_common.api.client import RegistryClient
from accord_common.api.finding import find_run
from accord_common.api.schemas import RunView
from accord_common.errors import ConflictError
from accord_common.fields import now


@dataclass(frozen=True, slots=True)
class Pending:
    """A run that waits for this node's answer: what the registry shows, and what the checks say."""

    view: RunView
    considered: Considered


def look_at(stores: Stores, registry: RegistryClient, run: str) -> Pending:
    """Find a run by its id, or a part of it, and ask every check.

    Raises:
        ConflictError: `already-decided`, `not-awaiting-consent`, `answered-elsewhere`.
        NotFoundError: `unknown-run`.
        TransportError: the registry cannot be reached.
    """
    run_id = run if stores.state.run(run) else find_run(registry, run).id
    known = stores.state.run(run_id)
    if known is not None and known.decision != "ask":
        raise ConflictError("already-decided", f"run {run_id} was answered: {known.decision}")
    view = registry.run(run_id)
    if view.state != "awaiting-consent":
        raise ConflictError("not-awaiting-consent", f"run {run_id} is {view.state}")
    if answered_elsewhere(stores, view):
        raise ConflictError(
            "answered-elsewhere",
            f"the registry has this institution's answer to run {run_id} already",
            hint="This folder is an older copy, or a second copy of this node runs: it takes "
            "no part in the run.",
        )
    refresh(stores, registry)
    return Pending(view, consider(stores, registry.record, view.manifest_hash, now()))


def settle(
    stores: Stores,
    registry: RegistryClient,
    pending: Pending,
    verdict: Verdict,
    tell: Callable[[str], None],
) -> None:
    """Sign the consent, keep it, and send it.

    Args:
        stores: the node's open folder.
        registry: an authenticated client.
        pending: the run, looked at just now.
        verdict: to accept only where the checks do.
        tell: is told of what may take a while.

    Raises:
        ConflictError: `already-decided`, or its turn has not come.
        PolicyError: `ledger-behind`; nothing was decided.
        TransportError: the registry cannot be reached; the consent waits in the queue.
    """
    considered = pending.considered
    run = considered.facts.run
    with stores.bases.held():
        if verdict.decision == "accept":
            name = stores.datasets.get(considered.facts.site.dataset).name
            most_runs = (Limits.noted(stores.state) or {}).get("most_runs")
            require_turn(stores, run.id, name, most_runs)
            if run.adaptation is not None:
                tell("Fetching the public base, unless it is here already ...")
            fetch_base(stores, registry, run)
        answer(stores, considered, verdict, pending.view.state, now())
    deliver(stores, registry)
