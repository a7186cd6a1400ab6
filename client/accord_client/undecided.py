"""Runs that wait for this node's answer: accepted, refused, put to the steward, or left for later.

Guarantees: a frozen ledger, or a log that is not believed, accepts nothing; a run is accepted only
with its base in the folder and when its turn has come; one that cannot be judged here is looked at
once a manifest, not at each inbox.

Not covered: the judgement (`consent`), and how it is stored and queued (`deciding`).
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from accord_client.bases import fetch_base
from accord_client.deciding import answer, consider
from accord_client.limits import Limits
from accord_client.queueing import require_turn
from accord_client.reconciling import answered_elsewhere, behind
from accord_client.stores import Stores
from accord_client.witness import broken
from accord_common.api.client import RegistryClient
from accord_common.api.schemas import RunView
from accord_common.errors import (
    AccordError,
    ConflictError,
    FormatError,
    NotFoundError,
    TransportError,
    VerificationError,
)
from accord_common.fields import now

log = structlog.get_logger(__name__)

_UNFIT = frozenset({"wrong-size", "too-large"})  # of a base: fetching it again mends nothing


@dataclass(slots=True)
class Undecided:
    """See the module.

    Args:
        stores: the node's open folder.
        registry: an authenticated client.
        limits: what its institution lets it use.
        queued: called where a consent waits to be posted.
    """

    stores: Stores
    registry: RegistryClient
    limits: Limits
    queued: Callable[[], None]
    _unanswerable: dict[str, str] = field(default_factory=dict)

    def decide(self, view: RunView) -> None:
        """Answer a run that waits for consents, ask the steward, or leave it for later.

        Raises:
            TransportError: the registry cannot be reached.
        """
        if self._unanswerable.get(view.id) == view.manifest_hash:
            return
        if behind(self.stores) or broken(self.stores):  # no consent rests on either
            return
        if answered_elsewhere(self.stores, view):
            self._unanswerable[view.id] = view.manifest_hash
            log.error("answered-elsewhere", run=view.id, hint="Does a second copy of it run?")
            return
        try:
            considered = consider(self.stores, self.registry.record, view.manifest_hash, now())
        except TransportError:
            raise
        except AccordError as error:
            self._unanswerable[view.id] = view.manifest_hash
            log.warning("run-not-for-us", run=view.id, code=error.code, detail=error.message)
            return
        manifest, verdict = considered.facts.run, considered.verdict
        dataset = considered.dataset
        wait = dataset is None or dataset.policy == "ask"
        if verdict.decision == "accept" and wait:
            if self.stores.state.run(manifest.id) is None:
                name = dataset.name if dataset else considered.facts.site.dataset
                self.stores.state.ask(manifest.id, view.manifest_hash, manifest.title, name, now())
                log.info("steward-asked", run=manifest.id, title=manifest.title, dataset=name)
            return
        try:
            with self.stores.bases.held():
                if verdict.decision == "accept":
                    assert dataset is not None  # consent has seen to it
                    most = self.limits.most_runs
                    require_turn(self.stores, manifest.id, dataset.name, most)
                    fetch_base(self.stores, self.registry, manifest)
                answer(self.stores, considered, verdict, view.state, now())
        except (NotFoundError, VerificationError, FormatError) as error:  # undecided
            again = error.code not in _UNFIT
            if not again:
                self._unanswerable[view.id] = view.manifest_hash
            log.warning(
                "base-not-fetched",
                run=view.id,
                code=error.code,
                detail=error.message,
                fetched_again="at the next look" if again else "after a restart",
            )
            return
        except OSError as error:  # a full disk, say: as unfit until somebody acts
            self._unanswerable[view.id] = view.manifest_hash
            log.error("base-not-kept", run=view.id, detail=str(error), fetched_again="at a restart")
            return
        except ConflictError as error:  # not now; or the steward was faster, or is at it
            if dataset is not None and self.stores.state.run(manifest.id) is None:
                self.stores.state.ask(
                    manifest.id, view.manifest_hash, manifest.title, dataset.name, now()
                )
                log.info("run-waits", run=manifest.id, code=error.code, detail=error.message)
            return
        log.info("decided", run=manifest.id, decision=verdict.decision, code=verdict.code)
        self.queued()
