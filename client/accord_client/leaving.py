"""An institution withdraws from an agreement, suspends or resumes it: console and page both.

Guarantees: what it said before, from another copy of this folder, say, is fetched first where the
registry answers; its word is signed, holds here on return, and waits on disk until the registry has
it.
"""

from collections.abc import Callable
from typing import Literal

from accord_client import halts, state
from accord_client.agreements import Agreements
from accord_client.outbox import FILE_NAME, Outbox
from accord_client.registry_sync import take_halts
from accord_client.state import State
from accord_common.agreement import Resumption, Suspension, Withdrawal
from accord_common.api.schemas import FINAL_STATES
from accord_common.errors import AccordError
from accord_common.fields import format_time, now
from accord_common.home import Home
from accord_common.manifest import RunManifest

Step = Literal["withdraw", "suspend", "resume"]
DONE: dict[Step, str] = {"withdraw": "withdrawn", "suspend": "suspended", "resume": "resumed"}


def statement_of(
    own: Agreements, agreement_hash: str, step: Step, reason: str
) -> Withdrawal | Suspension | Resumption:
    """What is about to be signed.

    Raises:
        ConflictError: `already-suspended`, `not-suspended`.
        FormatError: `bad-record` for a reason that is too long.
    """
    said = {"agreement": agreement_hash, "party": own.party, "created": format_time(now())}
    match step:
        case "withdraw":
            return Withdrawal.from_json(said | {"reason": reason})
        case "suspend":
            previous = halts.newest_resumption(own, agreement_hash)
            return Suspension.from_json(said | {"previous": previous, "reason": reason})
        case "resume":
            suspension = halts.own_suspension(own, agreement_hash)
            return Resumption.from_json(said | {"suspension": suspension})


def catch_up(home: Home, own: Agreements, tell: Callable[[str], None]) -> None:
    """Fetch what this institution said before; `tell` hears where the registry does not answer."""
    try:
        with home.registry() as registry:
            take_halts(own, registry, {})
    except AccordError as error:
        tell(f"The registry was not asked: {error.message}")


def send(home: Home, own: Agreements, tell: Callable[[str], None]) -> bool:
    """Send what waits; False where the registry has yet to be told, as the daemon will."""
    try:
        with home.registry() as registry:
            halts.post_waiting(own, Outbox(home.path / FILE_NAME, home.node_key()), registry)
    except AccordError as error:
        tell(f"error [{error.code}]: {error.message}")
    return not halts.waiting(own)


def runs_under(home: Home, agreement_hash: str) -> list[str]:
    """Titles of the runs that this node has accepted under an agreement and that are not over."""
    memory = State(home.path / state.FILE_NAME)
    try:
        return [
            run.title
            for run in memory.runs()
            if run.decision == "accept"
            and run.state not in FINAL_STATES
            and RunManifest.from_bytes(memory.record(run.manifest).payload).agreement
            == agreement_hash
        ]
    finally:
        memory.close()
