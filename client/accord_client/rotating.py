"""When a node may exchange its keys, and what goes with the old ones.

Guarantees: keys are not exchanged while a run rests on them or a receipt under them waits, unless
the institution has revoked them, which ends both; no secret that was sealed under the old key is
left.
"""

from datetime import datetime

from accord_client.stores import Stores
from accord_common.api.schemas import FINAL_STATES
from accord_common.errors import ConflictError
from accord_common.home import Home


def require_idle(home: Home, stores: Stores) -> None:
    """Refuse while something rests on the present keys.

    Raises:
        ConflictError: `run-under-way`, `records-wait`.
    """
    if home.revocation() is not None:
        return
    for run in stores.state.runs():
        if run.decision == "accept" and run.state not in FINAL_STATES:
            raise ConflictError(
                "run-under-way",
                f"run {run.title!r} ({run.id}) is {run.state} and rests on the present keys",
                hint="Wait for its end; if the keys are in wrong hands: accord-node revoke",
            )
    if waiting := stores.state.queued():
        raise ConflictError(
            "records-wait",
            f"{waiting} records under the present keys wait to be posted",
            hint="Start the node and let it reach the registry: accord-node status",
        )


def clear(stores: Stores, now: datetime) -> None:
    """Leave what the old keys had begun, and forget what was sealed under them."""
    stores.state.leave("key-exchanged", "this node's keys were exchanged", now)
    for run in stores.state.runs():
        stores.rounds.erase(run.id)
