"""Whether a run may still go on at this node: what time or other parties can have changed.

Guarantees: a check raises, with the code that the aggregator is told, or the run is allowed now;
attempts come in order and are bounded, also over restarts, by what is on disk.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from accord_client.deciding import own_agreement
from accord_client.reconciling import check_not_behind
from accord_client.stores import Stores
from accord_client.witness import RunWitness
from accord_common.agreement import Agreement, verify_agreement
from accord_common.api.schemas import FINAL_STATES
from accord_common.enrolment import Delegation
from accord_common.envelope import Envelope
from accord_common.errors import PolicyError, ProtocolError
from accord_common.manifest import RunManifest


@dataclass(slots=True)
class Standing:
    """One accepted run.

    Args:
        stores: the node's open folder.
        manifest: the run.
        delegations: those of its sites.
        check_registry: raises where the registry has been out of reach for too long.
        witness: raises where the registry's log is not the one that this node has seen.
        clock: the node's clock.
        charged: how many attempts the ledger has paid for.
    """

    stores: Stores
    manifest: RunManifest
    delegations: Mapping[str, Delegation]
    check_registry: Callable[[], None]
    witness: RunWitness
    clock: Callable[[], datetime]
    charged: int
    _stopped: str | None = field(default=None)
    _verified: tuple[Envelope, Agreement] | None = field(default=None)

    def stop(self, reason: str) -> None:
        """Refuse everything from now on."""
        self._stopped = reason

    def check(self) -> None:
        """Raise where the run was stopped or is over, or what it rests on has ended."""
        if self._stopped is not None:
            raise PolicyError("run-stopped", self._stopped)
        run = self.stores.state.run(self.manifest.id)
        if run is None or run.state in FINAL_STATES:
            raise PolicyError("run-over", "the run is over")
        check_not_behind(self.stores)
        self.witness.check()
        now = self.clock()
        agreement, ended = own_agreement(self.stores, self.manifest.agreement, now)
        if agreement is None:
            raise PolicyError("agreement-not-signed", "the node's copy of the agreement is gone")
        if ended is not None:
            raise ended
        if self._verified is None or self._verified[0] != agreement:
            self._verified = agreement, verify_agreement(agreement)
        self._verified[1].check_valid_at(now)
        for delegation in self.delegations.values():
            delegation.check_valid_at(now)
        self.check_registry()

    def check_next(self, round_: int, attempt: int) -> None:
        """Refuse an attempt that does not come after all begun here, or is one too many."""
        if round_ >= self.manifest.rounds:
            raise ProtocolError("no-such-round", f"round {round_} of {self.manifest.rounds}")
        if attempt >= self.manifest.max_attempts_total:
            raise ProtocolError(
                "no-such-attempt", f"attempt {attempt} of {self.manifest.max_attempts_total}"
            )
        run = self.stores.state.run(self.manifest.id)
        if run is None or (round_, attempt) <= (run.round, run.attempt):
            raise ProtocolError(
                "stale-attempt",
                f"round {round_} attempt {attempt} does not come after those begun here",
                hint="The aggregator must open a new attempt.",
            )
        if self.charged >= self.manifest.max_attempts_total:
            raise PolicyError(
                "too-many-attempts",
                f"{self.charged} attempts were charged, the manifest allows "
                f"{self.manifest.max_attempts_total}",
            )
