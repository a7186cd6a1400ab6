"""Whose turn it is: one run a dataset, and as many at once as the institution allows.

Guarantees: a run that would be accepted is left undecided, so that it goes on waiting for consents,
while its dataset is in a run that has begun, or in one of an earlier id that was accepted. Ids are
ordered by time at every site, so of two runs that wait for each other the earlier one goes first
everywhere. Nothing is sent: that a dataset is in another run follows from signed records.

Not covered: two runs accepted on one dataset before either began, of which each has other sites
too: then both may run, and their rounds take turns.
"""

from collections.abc import Iterable

from accord_client.state import SERVED_STATES, Run
from accord_client.stores import Stores
from accord_common.api.schemas import FINAL_STATES
from accord_common.errors import ConflictError


def require_turn(stores: Stores, run_id: str, dataset: str, most_runs: int | None) -> None:
    """Refuse to accept a run whose turn has not come.

    Args:
        stores: the node's open folder.
        run_id: the run.
        dataset: the name of its dataset here.
        most_runs: how many may be accepted and not over, None for any number.

    Raises:
        ConflictError: `dataset-busy`, `too-many-runs`; undecided, it is asked again.
    """
    live = list(_live(stores.state.runs()))
    for run in live:
        if run.dataset == dataset and (run.state in SERVED_STATES or run.id < run_id):
            raise ConflictError(
                "dataset-busy",
                f"dataset {dataset!r} is in run {run.title!r}, {run.id}",
                hint="It is decided when that run is over.",
            )
    if most_runs is not None and len(live) >= most_runs:
        raise ConflictError(
            "too-many-runs",
            f"this node is in {len(live)} runs, most_runs is {most_runs}",
            hint="It is decided when one of them is over.",
        )


def waiting(stores: Stores) -> dict[str, int]:
    """Undecided runs whose dataset is in another run: run -> its place in that queue, from 1."""
    runs = stores.state.runs()
    busy = {run.dataset for run in _live(runs)}
    places: dict[str, int] = {}
    counts: dict[str, int] = {}
    for run in sorted(runs, key=lambda run: run.id):
        if run.decision == "ask" and run.state == "awaiting-consent" and run.dataset in busy:
            counts[run.dataset] = counts.get(run.dataset, 0) + 1
            places[run.id] = counts[run.dataset]
    return places


def _live(runs: Iterable[Run]) -> Iterable[Run]:
    return (run for run in runs if run.decision == "accept" and run.state not in FINAL_STATES)
