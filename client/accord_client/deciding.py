"""From a run that names this node to a signed consent: gather facts, ask `consent`, remember.

Guarantees: the agreement comes from the node's own store, never from the registry; everything else
that the registry hands over is verified by `consent.decide`; a decision, what it rests on and the
queued consent are stored together; what leaves with a refusal is public.

Not covered: the rules themselves (`consent`), and posting (`delivery`).
"""

import secrets
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

import structlog

from accord_client import consent, halts
from accord_client.catalogue import Catalogue
from accord_client.consent import DatasetFacts, Facts, InstalledTask, Verdict
from accord_client.datasets import LocalDataset
from accord_client.reconciling import check_not_behind
from accord_client.state import Run
from accord_client.stores import Stores
from accord_client.witness import check_log, newest
from accord_common.agreement import Agreement
from accord_common.catalogue import CatalogueEntry
from accord_common.chain import Lookup
from accord_common.enrolment import Offer
from accord_common.envelope import Envelope, sign
from accord_common.errors import (
    AccordError,
    FormatError,
    NotFoundError,
    PolicyError,
    VerificationError,
)
from accord_common.fields import Id, format_time
from accord_common.log.checkpoint import Head
from accord_common.manifest import RunManifest
from accord_common.privacy.events import Spend
from accord_common.privacy.filter import Cap
from accord_common.receipts import CONSENT, Consent

log = structlog.get_logger(__name__)

STEWARD_REFUSED = "steward-refused"


@dataclass(frozen=True, slots=True)
class Considered:
    """A run as this node sees it: the facts, and what the checks say."""

    facts: Facts
    verdict: Verdict
    dataset: LocalDataset | None

    @property
    def rests_on(self) -> list[Envelope]:
        """The records to keep for as long as the run lasts."""
        found = [self.facts.manifest, *self.facts.delegations.values(), self.facts.offer]
        return [envelope for envelope in found if envelope is not None]


def consider(stores: Stores, lookup: Lookup, manifest_hash: str, now: datetime) -> Considered:
    """Look a run's records up and ask every check.

    Args:
        stores: the node's open folder.
        lookup: brings an envelope by hash, the registry's word; NotFoundError where it has none.
        manifest_hash: the run.
        now: the node's clock.

    Raises:
        TransportError: the registry cannot be reached; nothing was decided.
        FormatError, NotFoundError, VerificationError: the manifest does not decode, or does not
            name this node, so that there is nothing to answer.
    """
    envelope = lookup(manifest_hash)
    if envelope.hash != manifest_hash:
        raise VerificationError("wrong-hash", f"asked for {manifest_hash[:16]}")
    manifest = RunManifest.from_bytes(envelope.payload)
    site = manifest.site(stores.party)
    offer = _fetch(lookup, manifest.aggregator.offer)
    wanted = [entry.delegation for entry in manifest.roster]
    with suppress(FormatError):  # an offer that is none: the check that needs it says so
        wanted += [] if offer is None else [Offer.from_bytes(offer.payload).delegation]
    delegations = {hash_: _fetch(lookup, hash_) for hash_ in wanted}
    known = stores.state.run(manifest.id)
    datasets = {dataset.id: dataset for dataset in stores.datasets.all()}
    dataset = datasets.get(site.dataset)
    agreement, in_force = own_agreement(stores, manifest.agreement, now)
    layout, base = _layouts(manifest, dataset)
    facts = Facts(
        party=stores.party,
        identity_key=stores.home.profile.identity_key,
        node_key=stores.key.public,
        agreement=agreement,
        in_force=in_force,
        manifest=envelope,
        known_manifest=known.manifest if known and known.decision != "ask" else None,
        delegations={hash_: found for hash_, found in delegations.items() if found is not None},
        offer=offer,
        datasets={item.id: _facts_of(stores, item) for item in datasets.values()},
        installed=_installed(manifest.task.name),
        layout=layout,
        base=base,
        check_budget=_check_budget(stores, agreement, site.dataset),
        now=now,
    )
    return Considered(facts, consent.decide(facts), dataset)


def own_agreement(
    stores: Stores, agreement_hash: str, now: datetime
) -> tuple[Envelope | None, AccordError | None]:
    """The own copy of an agreement, and why it is no longer in force, if so."""
    if halts.withdrawn(stores.agreements, agreement_hash):
        ended: AccordError | None = PolicyError(
            "agreement-withdrawn", "a party has withdrawn from the agreement"
        )
    elif (successor := stores.agreements.successor(agreement_hash, now)) is not None:
        ended = PolicyError(
            "agreement-superseded",
            f"this institution has signed version {successor[:16]} in its place",
        )
    elif halts.suspensions(stores.agreements, agreement_hash):
        ended = PolicyError("agreement-suspended", "a party has suspended the agreement for now")
    else:
        ended = None
    return stores.agreements.signed().get(agreement_hash), ended


def answer(
    stores: Stores, considered: Considered, verdict: Verdict, state: str, now: datetime
) -> Run:
    """Sign a consent, store the decision and queue it.

    Raises:
        ConflictError: `already-decided`.
        PolicyError: `ledger-behind`; nothing was decided.
    """
    if verdict.decision == "accept":
        check_not_behind(stores)
        check_log(stores)
    manifest, site = considered.facts.run, considered.facts.site
    code, reason = verdict.told
    record = Consent(
        manifest=considered.facts.manifest.hash,
        party=stores.party,
        dataset=site.dataset,
        delegation=site.delegation,
        decision=verdict.decision,
        code=code,
        reason=reason,
        ledger_head=stores.ledger.head,
        nonce=secrets.token_hex(32),
        created=format_time(now),
        log=_head(stores, considered.facts.agreement),
    )
    envelope = sign(CONSENT, record, stores.key)
    run = Run(
        id=manifest.id,
        manifest=considered.facts.manifest.hash,
        title=manifest.title,
        dataset=considered.dataset.name if considered.dataset else site.dataset,
        decision=verdict.decision,
        code=verdict.code,
        reason=verdict.reason,
        head=envelope.hash,
        round=-1,
        attempt=-1,
        state=state,
    )
    kept = considered.rests_on if verdict.decision == "accept" else []
    stores.state.decide(run, envelope, kept, now)
    return run


def _head(stores: Stores, agreement: Envelope | None) -> Head | None:
    """The newest head of the agreed log that this node has seen; kept for good."""
    if agreement is None:
        return None
    head = newest(stores, Agreement.from_bytes(agreement.payload).log_key)
    if head is not None:
        stores.heads.tell(head.size)
    return head


def caps_of(
    agreement: Envelope, dataset_id: str, group: Callable[[Id], Collection[Id]]
) -> list[Cap]:
    """The caps that an agreement sets for a dataset's people, the dataset's own first.

    Tables of one population, or of populations that overlap (`group`, the ledger's), share what is
    spent, so a looser cap of one frees none of the other; each counts by its own adjacency.
    """
    terms = Agreement.from_bytes(agreement.payload)
    own = terms.dataset(dataset_id)
    people = group(own.population)
    others = [item for item in terms.datasets if item.population in people and item != own]
    return [
        Cap(
            epsilon=item.privacy.epsilon_cap,
            delta=item.privacy.delta,
            non_private=item.privacy.non_private,
            adjacency=item.privacy.adjacency,
        )
        for item in (own, *others)
    ]


def _fetch(lookup: Lookup, record_hash: str) -> Envelope | None:
    try:
        return lookup(record_hash)
    except NotFoundError:
        return None  # the check that needs it says so


def _facts_of(stores: Stores, dataset: LocalDataset) -> DatasetFacts:
    entry = Catalogue(stores.home).newest(dataset.id)
    return DatasetFacts(
        id=dataset.id,
        population=dataset.population,
        schema_hash=dataset.table.hash,
        size=dataset.size,
        rows=dataset.mark.training,
        declared=None if entry is None else CatalogueEntry.from_bytes(entry.payload),
    )


def _installed(task: str) -> InstalledTask | None:
    from accord_common.models.discovery import task_code

    try:
        return task_code(task)
    except AccordError:
        return None


def _layouts(
    manifest: RunManifest, dataset: LocalDataset | None
) -> tuple[tuple[str, int] | None, tuple[str, int] | None]:
    """Layout of what is trained, and of all of the architecture; None where it cannot be built.

    Built without memory for weights, whatever size a stranger asks for.
    """
    import torch

    from accord_common.models.adaptation import adapt
    from accord_common.models.discovery import load_task
    from accord_common.models.flat import layout_of

    if dataset is None:
        return None, None
    base = None
    try:
        with torch.device("meta"):
            module = load_task(manifest.task.name).build(
                manifest.architecture.name, manifest.architecture.args, dataset.table
            )
            whole = layout_of(module)
            base = whole.hash, whole.dimension
            if manifest.adaptation is not None:
                adapt(module, manifest.adaptation.frozen, manifest.adaptation.lora)
        layout = layout_of(module)
    except AccordError:
        return None, base
    return (layout.hash, layout.dimension), base


def _check_budget(
    stores: Stores, agreement: Envelope | None, dataset_id: str
) -> Callable[[Sequence[Spend]], None]:
    def check(spends: Sequence[Spend]) -> None:
        if agreement is None:
            raise PolicyError("agreement-not-signed", "this node signed no such agreement")
        try:
            caps = caps_of(agreement, dataset_id, stores.ledger.group)
            stores.ledger.check(spends, caps)
        except PolicyError as error:
            # The ledger's own words tell what other projects have spent, and what the steward
            # allows: they stay here.
            log.warning(error.code, detail=error.message)
            raise PolicyError(
                error.code,
                f"{len(spends)} attempts, on top of what has been spent before, do not fit under "
                f"epsilon {caps[0].epsilon} at delta {caps[0].delta}, or a tighter cap that holds "
                "for the same people",
            ) from error
        except AccordError as error:  # names paths of this machine
            log.error("ledger-unusable", code=error.code, detail=error.message)
            raise PolicyError(
                "ledger-unusable", "this node cannot read its privacy ledger; its log says why"
            ) from error

    return check
