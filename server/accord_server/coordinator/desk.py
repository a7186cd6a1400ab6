"""What the coordinator reads from a registry, verified before it is used.

Guarantees: agreements, delegations, offers, manifests and results are returned only after `chain`
verified them; a schema only if it has the hash that the agreement names. States, counts and the
receipts' sums are the registry's word, for people to read.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from accord_common import chain
from accord_common.agreement import Agreement, Dataset, verify_agreement
from accord_common.api.client import RegistryClient
from accord_common.api.finding import SHORTEST
from accord_common.api.schemas import MAX_PAGE, AgreementView, RunView
from accord_common.catalogue import DATASET_ENTRY, CatalogueEntry, verify_entry
from accord_common.enrolment import Offer, verify_delegation
from accord_common.envelope import Envelope
from accord_common.errors import AccordError, ConflictError, NotFoundError, VerificationError
from accord_common.receipts import (
    AGGREGATOR_RECEIPT,
    EVALUATION,
    NODE_RECEIPT,
    RESULT,
    AggregatorReceipt,
    Evaluation,
    NodeReceipt,
)
from accord_common.schema import Schema


def lookup(client: RegistryClient, *known: Envelope) -> chain.Lookup:
    """Bring envelopes by hash: those at hand first, the registry's records otherwise."""
    have = {envelope.hash: envelope for envelope in known}

    def bring(record_hash: str) -> Envelope:
        return have[record_hash] if record_hash in have else client.record(record_hash)

    return bring


def active_agreement(client: RegistryClient, text: str) -> tuple[AgreementView, Agreement]:
    """Find an active agreement by title, hash, or its first digits, and verify every signature.

    Raises:
        NotFoundError: `unknown-agreement`.
        ConflictError: `ambiguous-agreement`, `not-active`.
        VerificationError: a signature does not hold.
    """
    found = _called(client, text)
    active = [view for view in found if view.status == "active"]
    if not active:
        missing = [found[-1].agreement.party(party).name for party in found[-1].missing]
        raise ConflictError(
            "not-active",
            f"agreement {text!r} is {found[-1].status}",
            hint=f"Still to sign: {', '.join(missing)}." if missing else "",
        )
    if len(active) > 1:
        raise ConflictError(
            "ambiguous-agreement",
            f"{len(active)} active agreements are called {text!r}",
            hint=f"Name one by its hash: {', '.join(view.hash[:16] for view in active)}.",
        )
    return active[0], verify_agreement(active[0].envelope)


def any_agreement(client: RegistryClient, text: str) -> AgreementView:
    """Find an agreement in any state; of several the active one, else the newest signed version.

    Its signatures are not looked at: it may lack some.

    Raises:
        NotFoundError: `unknown-agreement`.
        ConflictError: `ambiguous-agreement`.
    """
    found = _called(client, text)
    active = [view for view in found if view.status == "active"]
    signed = [view for view in found if view.status != "proposed"]
    chosen = active or signed or found
    if len({view.agreement.id for view in chosen}) > 1:
        raise ConflictError(
            "ambiguous-agreement",
            f"{len(chosen)} agreements are called {text!r}",
            hint=f"Name one by its hash: {', '.join(view.hash[:16] for view in chosen)}.",
        )
    return max(chosen, key=lambda view: view.agreement.version)


def _called(client: RegistryClient, text: str) -> list[AgreementView]:
    views = client.agreements()
    found = [view for view in views if view.hash == text or view.agreement.title == text]
    if not found and len(text) >= SHORTEST:
        found = [view for view in views if view.hash.startswith(text)]
    if not found:
        raise NotFoundError(
            "unknown-agreement", f"no agreement is called {text!r}", hint="accord agreement list"
        )
    return found


def verified_run(client: RegistryClient, view: RunView) -> chain.VerifiedRun:
    """Fetch and verify what a run stands on."""
    agreement = client.agreement(view.agreement)
    return chain.fetch_run(lookup(client, agreement.envelope), view.manifest_hash)


def verified_result(client: RegistryClient, run: chain.VerifiedRun) -> chain.VerifiedResult | None:
    """Fetch a run's result and follow it back to the manifest; None while there is none."""
    records = client.records(kind=RESULT, run=run.manifest.id)
    if not records:
        return None
    return chain.fetch_result(lookup(client, records[-1].envelope), records[-1].hash, run)


def verified_receipts(
    client: RegistryClient, run: chain.VerifiedRun
) -> tuple[AggregatorReceipt, ...]:
    """Fetch a run's aggregator receipts, and follow them back to the manifest; oldest first."""
    have: dict[str, Envelope] = {}
    after, page = 0, MAX_PAGE
    while page == MAX_PAGE:
        records = client.records(after=after, kind=AGGREGATOR_RECEIPT, run=run.manifest.id)
        page = len(records)
        after = records[-1].sequence if records else after
        have |= {record.hash: record.envelope for record in records}
    head = next(reversed(have), run.manifest_hash)
    return chain.fetch_receipts(lookup(client, *have.values()), head, run)


def verified_evaluations(
    client: RegistryClient, run: chain.VerifiedRun, result: chain.VerifiedResult
) -> list[Evaluation]:
    """Fetch and verify what the coordinator signed about a result's model, oldest first."""
    records = client.records(kind=EVALUATION, run=run.manifest.id)
    return [chain.verify_evaluation(record.envelope, run, result) for record in records]


def schema_of(client: RegistryClient, schema_hash: str) -> Schema:
    """Fetch the schema that has this hash.

    Raises:
        NotFoundError: `unknown-schema`.
    """
    for view in client.datasets():
        if view.table.hash == schema_hash:
            return view.table
    raise NotFoundError("unknown-schema", f"no registered dataset has schema {schema_hash[:16]}")


def declared(
    client: RegistryClient, agreement: Agreement, datasets: Iterable[str]
) -> dict[str, CatalogueEntry]:
    """Fetch the newest catalogue entry of each dataset that has one, by id.

    Raises:
        VerificationError: one was not signed under the key that the agreement names for its owner.
    """
    found = {}
    for name in datasets:
        for version in client.dataset(name).versions[:1]:
            envelope = chain.fetch(client.record, version.hash, DATASET_ENTRY)
            named = CatalogueEntry.from_bytes(envelope.payload).delegation
            owner = agreement.dataset(name).owner
            given = chain.fetch_delegation(client.record, named, agreement, owner)
            found[name] = verify_entry(envelope, given)
    return found


def delegation_hashes(
    client: RegistryClient, agreement: Agreement, datasets: Sequence[Dataset], moment: datetime
) -> dict[str, str]:
    """Return each owner's newest delegation (hash by party), verified and valid now.

    Raises:
        NotFoundError: `no-delegation`.
        VerificationError: not given by the key that the agreement names.
        PolicyError: `delegation-expired`.
    """
    partners = {partner.id: partner for partner in client.partners()}
    hashes = {}
    for dataset in datasets:
        party = agreement.party(dataset.owner)
        partner = partners.get(party.id)
        if partner is None or partner.delegation is None:
            raise NotFoundError("no-delegation", f"{party.name!r} has delegated no node key")
        delegation = verify_delegation(
            partner.delegation, identity_key=party.identity_key, party=party.id
        )
        delegation.check_valid_at(moment)
        if delegation.flower_key is None:
            raise VerificationError("no-flower-key", f"the delegation of {party.name!r} lacks one")
        hashes[party.id] = partner.delegation.hash
    return hashes


def fresh_offer(
    client: RegistryClient, agreement: Agreement, moment: datetime
) -> tuple[str, Offer]:
    """Return the newest unused offer of the agreement's aggregator that verifies.

    Raises:
        ConflictError: `no-offer` where there is none, or the first reason why none verifies.
    """
    (aggregator,) = agreement.with_role("aggregator")
    refusal: AccordError | None = None
    for view in client.offers():
        if view.offer.party != aggregator.id:
            continue
        try:
            offer, delegation = chain.fetch_offer(
                lookup(client, view.envelope), view.hash, agreement
            )
            delegation.check_valid_at(moment)
        except AccordError as error:
            refusal = refusal or error
            continue
        return view.hash, offer
    raise refusal or ConflictError(
        "no-offer",
        f"{aggregator.name!r} offers no keys for a run",
        hint="Is it running, and free? accord aggregator start",
    )


def node_receipts(client: RegistryClient, run: str | None = None) -> Iterator[NodeReceipt]:
    """Every node receipt that the registry has; its signatures are the registry's to check."""
    for envelope in receipt_envelopes(client, run):
        yield NodeReceipt.from_bytes(envelope.payload)


def receipt_envelopes(client: RegistryClient, run: str | None = None) -> Iterator[Envelope]:
    """The same, as they were signed."""
    after = 0
    while True:
        page = client.records(after=after, kind=NODE_RECEIPT, run=run)
        for record in page:
            yield record.envelope
        if len(page) < MAX_PAGE:
            return
        after = page[-1].sequence
