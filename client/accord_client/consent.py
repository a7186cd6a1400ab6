"""Whether this node takes part in a run: agreement, manifest and ledger -> accept or refuse.

Guarantees: pure; it decides from what the caller brings. The trust root is the node's own copy of
the agreement that its steward signed: a coordinator, aggregator or registry that holds every one of
its own keys cannot add a party, swap a key, lower the cohort, raise a budget, or change model,
architecture, clip or rounds, because each of these changes a hash that a signature here covers or
breaks one check.

`CHECKS` is the whole policy, read top to bottom; each raises one stable code. What a check raises
leaves the node in the signed consent, so messages hold public facts only; but for a DataError, of
which nothing leaves.

Not covered: what happens after consent (`standing.py` repeats the checks that time can change).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from importlib.metadata import version
from typing import Literal, Protocol

from accord_common.agreement import Agreement, verify_agreement
from accord_common.catalogue import CatalogueEntry, require_kept
from accord_common.enrolment import Delegation, verify_delegation, verify_offer
from accord_common.envelope import Envelope
from accord_common.errors import (
    AccordError,
    DataError,
    NotFoundError,
    PolicyError,
    VerificationError,
)
from accord_common.manifest import RunManifest, Site, verify_manifest
from accord_common.privacy.events import Spend
from accord_common.terms import TERMS


class InstalledTask(Protocol):
    """What `accord_common.models` finds installed for a task's name; fields as in `TaskRef`."""

    @property
    def distribution(self) -> str: ...  # noqa: D102 - see `TaskRef`
    @property
    def version(self) -> str: ...  # noqa: D102 - see `TaskRef`
    @property
    def code_hash(self) -> str: ...  # noqa: D102 - see `TaskRef`


@dataclass(frozen=True, slots=True)
class DatasetFacts:
    """A dataset as this node registered it; `rows` is private and never leaves."""

    id: str
    population: str
    schema_hash: str
    size: int
    rows: int
    declared: CatalogueEntry | None = None  # the institution's newest entry, if it has made one


@dataclass(frozen=True)
class Facts:
    """Everything that a decision rests on.

    Args:
        party: this institution's id.
        identity_key: its institution key.
        node_key: this node's own signing key.
        agreement: the copy that the steward signed, complete; None where none has the hash.
        in_force: None, or why the node's own store says that the agreement ended.
        manifest: the manifest as received.
        known_manifest: hash of the manifest this node already answered under the same run id.
        delegations: delegation envelopes by record hash, as received.
        offer: the aggregator's offer, as received.
        datasets: this node's datasets by id.
        installed: what is installed under the task's name; None where nothing is.
        layout: (layout hash, dimension) of what the manifest's architecture and adaptation train,
            built here.
        base: the same of all of the architecture.
        check_budget: raises PolicyError where the ledger cannot pay all these spends.
        now: the node's clock.
    """

    party: str
    identity_key: str
    node_key: str
    agreement: Envelope | None
    in_force: AccordError | None
    manifest: Envelope
    known_manifest: str | None
    delegations: Mapping[str, Envelope]
    offer: Envelope | None
    datasets: Mapping[str, DatasetFacts]
    installed: InstalledTask | None
    layout: tuple[str, int] | None
    base: tuple[str, int] | None
    check_budget: Callable[[Sequence[Spend]], None]
    now: datetime

    @cached_property
    def terms(self) -> Agreement:
        """The agreement's body, decoded; signatures are a check of their own."""
        if self.agreement is None:
            raise PolicyError("agreement-not-signed", "this node signed no such agreement")
        return Agreement.from_bytes(self.agreement.payload)

    @cached_property
    def run(self) -> RunManifest:
        """The manifest's body, decoded; its signature is a check of its own."""
        return RunManifest.from_bytes(self.manifest.payload)

    @property
    def site(self) -> Site:
        """This institution's part."""
        return self.run.site(self.party)

    def delegation(self, party: str, record_hash: str) -> Delegation:
        """Decode and verify a delegation under the key that the agreement names for `party`."""
        envelope = self.delegations.get(record_hash)
        if envelope is None or envelope.hash != record_hash:
            raise VerificationError("delegation-missing", f"no delegation {record_hash[:16]}")
        key = self.terms.party(party).identity_key
        return verify_delegation(envelope, identity_key=key, party=party)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision; code and reason are empty where it is to accept.

    `private`: they speak of the table itself, and are for the steward alone.
    """

    decision: Literal["accept", "refuse"]
    code: str = ""
    reason: str = ""
    private: bool = False

    @property
    def told(self) -> tuple[str, str]:
        """Code and reason as all parties may read them."""
        if self.private:
            return "dataset-not-ready", "this site's table does not fit; its steward knows why"
        return self.code, self.reason


def agreement_is_the_one_signed_here(facts: Facts) -> None:
    """The manifest stands on the very agreement that the steward signed."""
    if facts.agreement is None or facts.agreement.hash != facts.run.agreement:
        raise PolicyError(
            "agreement-not-signed",
            f"the run stands on agreement {facts.run.agreement[:16]}, which this node did not sign",
            hint="The steward must sign that agreement first, or the run is not for this node.",
        )


def agreement_has_every_signature(facts: Facts) -> None:
    """All parties of the agreement signed it, and nobody else."""
    if facts.agreement is not None:
        verify_agreement(facts.agreement)


def agreement_names_this_institution(facts: Facts) -> None:
    """The agreement holds this institution under its own key."""
    if facts.terms.party(facts.party).identity_key != facts.identity_key:
        raise VerificationError("identity-exchanged", "the agreement names another key for us")


def agreement_is_in_force(facts: Facts) -> None:
    """It is neither superseded nor withdrawn, as far as this node has seen."""
    if facts.in_force is not None:
        raise facts.in_force


def agreement_is_within_its_dates(facts: Facts) -> None:
    """Now lies between its two dates."""
    facts.terms.check_valid_at(facts.now)


def manifest_is_signed_by_the_coordinator(facts: Facts) -> None:
    """The coordinator of the agreement signed this manifest."""
    (coordinator,) = facts.terms.with_role("coordinator")
    verify_manifest(facts.manifest, coordinator_key=coordinator.identity_key)


def manifest_did_not_change(facts: Facts) -> None:
    """One run id has one manifest, for ever."""
    if facts.known_manifest not in (None, facts.manifest.hash):
        raise PolicyError(
            "manifest-changed",
            f"run {facts.run.id} was answered with another manifest before",
            hint="The coordinator must start a new run.",
        )


def delegations_hold(facts: Facts) -> None:
    """Every site's node key comes from its institution, is valid now, and is nobody else's."""
    keys = []
    for site in facts.run.roster:
        delegation = facts.delegation(site.party, site.delegation)
        delegation.check_valid_at(facts.now)
        keys.append(delegation.node_key)
    if len(set(keys)) != len(keys):
        raise VerificationError("node-key-shared", "two sites of the roster use one node key")


def own_node_key_is_in_the_roster(facts: Facts) -> None:
    """The roster's delegation for us names the key this node holds."""
    delegation = facts.delegation(facts.party, facts.site.delegation)
    if delegation.node_key != facts.node_key:
        raise VerificationError("node-key-exchanged", "the roster names another node key for us")


def aggregator_made_the_offer(facts: Facts) -> None:
    """The run's envelope key, receipt key, address and TLS key come from the agreed aggregator."""
    keys = facts.run.aggregator
    if facts.offer is None or facts.offer.hash != keys.offer:
        raise VerificationError("offer-missing", f"no offer {keys.offer[:16]}")
    for delegation_hash in facts.delegations:
        envelope = facts.delegations[delegation_hash]
        if envelope.signers == {facts.terms.party(keys.party).identity_key}:
            delegation = facts.delegation(keys.party, delegation_hash)
            delegation.check_valid_at(facts.now)
            offer = verify_offer(facts.offer, delegation, delegation_hash)
            break
    else:
        raise VerificationError("delegation-missing", "the aggregator's delegation is missing")
    offered = (offer.address, offer.envelope_key, offer.receipt_key, offer.tls_spki)
    if offered != (keys.address, keys.envelope_key, keys.receipt_key, keys.tls_spki):
        raise VerificationError(
            "offer-exchanged", "the manifest's aggregator keys are not those that were offered"
        )


def dataset_is_registered_here(facts: Facts) -> None:
    """The dataset is one of ours, and still what the agreement says it is."""
    local = facts.datasets.get(facts.site.dataset)
    if local is None:
        raise NotFoundError("dataset-not-here", f"dataset {facts.site.dataset} is not on this node")
    agreed = facts.terms.dataset(local.id)
    if (local.population, local.schema_hash, local.size) != (
        agreed.population,
        agreed.schema_hash,
        agreed.size,
    ):
        raise PolicyError(
            "dataset-changed",
            f"dataset {agreed.name!r} differs from what was agreed: population, schema or size",
            hint="Amend the agreement.",
        )


def catalogue_entry_is_kept(facts: Facts) -> None:
    """What this institution declares of the dataset to everybody is kept by the agreement."""
    local = facts.datasets.get(facts.site.dataset)
    if local is not None and local.declared is not None:
        require_kept(local.declared, facts.terms)


def rows_are_within_the_public_size(facts: Facts) -> None:
    """The table has no more rows than the public size that bounds and divisors use."""
    local = facts.datasets.get(facts.site.dataset)  # the check before says where it is missing
    if local is not None and local.rows > local.size:
        raise DataError(
            "dataset-outgrew-size",
            f"the table has outgrown its public size {local.size}",
            hint="Register it under another name with a larger size and --population "
            f"{local.population}, so that its people keep their budget; then amend the agreement.",
        )


def task_is_installed(facts: Facts) -> None:
    """The institution installed exactly the code that the manifest names."""
    wanted = facts.run.task
    found = facts.installed
    if found is None:
        raise PolicyError(
            "task-not-installed",
            f"no task {wanted.name!r} is installed",
            hint=f"Install {wanted.distribution} {wanted.version}.",
        )
    if (found.distribution, found.code_hash) != (wanted.distribution, wanted.code_hash):
        raise PolicyError(
            "task-code-differs",
            f"task {wanted.name!r} is {found.distribution} {found.version} here, its code is not "
            f"that of {wanted.distribution} {wanted.version}",
            hint="Install the same release as the coordinator.",
        )


def layout_follows_from_the_architecture(facts: Facts) -> None:
    """Vector layout and dimension are those of the architecture as built and adapted here."""
    if facts.layout != (facts.run.layout, facts.run.dimension):
        raise PolicyError(
            "layout-does-not-follow",
            f"{facts.run.architecture.name!r} has another layout here than the manifest says",
        )


def base_follows_from_the_architecture(facts: Facts) -> None:
    """The base that is adapted has the architecture's own layout, hence its size."""
    adaptation = facts.run.adaptation
    if adaptation is not None and facts.base != (adaptation.layout, adaptation.dimension):
        raise PolicyError(
            "base-does-not-follow",
            f"the base of {facts.run.architecture.name!r} has another layout than the architecture",
        )


def budget_covers_every_attempt(facts: Facts) -> None:
    """All attempts that the manifest allows fit under the caps, on top of all spent before."""
    spend = spend_for(facts.terms, facts.run, facts.manifest.hash, facts.party, round_=0, attempt=0)
    facts.check_budget(
        [
            spend.model_copy(update={"attempt": attempt})
            for attempt in range(facts.run.max_attempts_total)
        ]
    )


def _term(term: Callable[[Agreement, RunManifest], None]) -> Callable[[Facts], None]:
    def check(facts: Facts) -> None:
        term(facts.terms, facts.run)

    check.__name__ = term.__name__
    check.__doc__ = term.__doc__
    return check


CHECKS: tuple[Callable[[Facts], None], ...] = (
    agreement_is_the_one_signed_here,
    agreement_has_every_signature,
    agreement_names_this_institution,
    agreement_is_in_force,
    agreement_is_within_its_dates,
    manifest_is_signed_by_the_coordinator,
    manifest_did_not_change,
    *(_term(term) for term in TERMS),
    delegations_hold,
    own_node_key_is_in_the_roster,
    aggregator_made_the_offer,
    dataset_is_registered_here,
    catalogue_entry_is_kept,
    rows_are_within_the_public_size,
    task_is_installed,
    layout_follows_from_the_architecture,
    base_follows_from_the_architecture,
    budget_covers_every_attempt,
)


def objections(facts: Facts) -> Iterator[AccordError]:
    """Ask every check in order, the next one when the one before is read; yields what fails."""
    for check in CHECKS:
        try:
            check(facts)
        except AccordError as error:
            yield error


def decide(facts: Facts) -> Verdict:
    """Ask the checks; the first that fails is the answer."""
    for error in objections(facts):
        return Verdict("refuse", error.code, error.message, private=isinstance(error, DataError))
    return Verdict("accept")


def spend_for(
    agreement: Agreement,
    manifest: RunManifest,
    manifest_hash: str,
    party: str,
    *,
    round_: int,
    attempt: int,
) -> Spend:
    """The ledger event of one attempt at one site: public constants and this software's version."""
    site = manifest.site(party)
    dataset = agreement.dataset(site.dataset)
    return Spend(
        population=dataset.population,
        dataset=dataset.id,
        agreement=manifest.agreement,
        run=manifest_hash,
        round=round_,
        attempt=attempt,
        mechanism="poisson-gaussian" if manifest.privacy == "dp" else "none",
        noise_multiplier=site.noise_multiplier,
        clipping_norm=manifest.local.clipping_norm,
        sampling_rate=site.sampling_rate,
        size=dataset.size,
        steps=manifest.local.steps,
        sampler="poisson",
        adjacency=dataset.privacy.adjacency,
        code_version=version("accord"),  # what runs here, not what the coordinator says
    )
