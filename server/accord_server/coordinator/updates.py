"""What a watcher of a run is told, one object for each thing that changed."""

from typing import Literal

from accord_common.api.schemas import RunState
from accord_server.coordinator.views import View


class StateUpdate(View):
    """The run is in another state."""

    event: Literal["state"] = "state"
    state: RunState
    stop_requested: str | None


class ConsentUpdate(View):
    """A site answered."""

    event: Literal["consent"] = "consent"
    site: str
    decision: Literal["accept", "refuse"]
    code: str
    reason: str


class RoundUpdate(View):
    """An attempt at a round ended; `round` counts from 1; `refused` maps sites to codes.

    `epsilon` is the most that all attempts so far have cost: a receipt does not say of a lost node
    whether it was sent the model before.
    """

    event: Literal["round"] = "round"
    round: int
    rounds: int
    attempt: int
    outcome: Literal["completed", "aborted"]
    seconds: float
    sites: list[str]
    lost: list[str]
    refused: dict[str, str]
    model: str | None
    metrics: dict[str, float]
    epsilon: dict[str, str]


class LogUpdate(View):
    """A line of the aggregator, the coordinator or the registry."""

    event: Literal["log"] = "log"
    level: str
    message: str
    created: str


class StandingUpdate(View):
    """What the run waits for now, and since when; `code` is null where it goes on."""

    event: Literal["standing"] = "standing"
    code: str | None
    message: str
    since: str


class ContactUpdate(View):
    """The registry does not answer, or answers again; `last` is the state that it told before."""

    event: Literal["registry"] = "registry"
    reachable: bool
    code: str
    message: str
    since: str
    last: str


class RefusalUpdate(View):
    """Since which round, from 1, an accepted site has refused, and the code it gave."""

    round: int
    code: str


class EndUpdate(View):
    """The run is over; `evaluation` is the hash of the coordinator's signed metrics.

    `refused_by` are the sites that refused consent, `refused` those that left the run later;
    `unsigned` where the registry found that the run is over, and no signed result says so.
    """

    event: Literal["end"] = "end"
    run: str
    state: RunState
    code: str
    cause: str
    refused_by: list[str]
    refused: dict[str, RefusalUpdate]
    rounds: int
    model: str | None
    metrics: dict[str, float]
    evaluation: str | None = None
    epsilon: dict[str, str]
    unsigned: bool = False


Update = (
    StateUpdate
    | StandingUpdate
    | ContactUpdate
    | ConsentUpdate
    | RoundUpdate
    | LogUpdate
    | EndUpdate
)
