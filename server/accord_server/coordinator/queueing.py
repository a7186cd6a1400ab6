"""Which sites of a run wait because their dataset is in another run: read off the public records.

Guarantees: the rule is the nodes' own (SPEC, "A run"); nothing is asked of a node for it.
"""

from collections.abc import Iterable

from accord_common.api.schemas import FINAL_STATES, RunView

BUSY = "dataset-busy"
_BEGUN = frozenset({"ready", "running"})


def waiting(run: RunView, others: Iterable[RunView]) -> dict[str, str]:
    """Site -> the run that has its dataset, for the sites that have not answered yet."""
    holders: dict[str, str] = {}
    for other in sorted(others, key=lambda other: other.id):
        if other.id == run.id or other.state in FINAL_STATES:
            continue
        if other.state in _BEGUN or other.id < run.id:
            for consent in other.consents:
                if consent.decision == "accept":
                    holders.setdefault(consent.dataset, other.id)
    if run.state != "awaiting-consent":
        return {}
    return {
        consent.party: holders[consent.dataset]
        for consent in run.consents
        if consent.decision is None and consent.dataset in holders
    }
