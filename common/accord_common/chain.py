"""From a hash to a record that one may act on.

Guarantees: what these functions return was signed by exactly the keys that SPEC.md's table asks
for, and every predecessor it names was followed to the agreement, whoever stored the bytes. A store
that answers with another record or an altered one is caught.

Pure: `lookup` brings the bytes, the caller brings the time. Not covered: whether an agreement
allows a run (`consent` at the node, `plan` at the coordinator), and what a store leaves out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from accord_common.agreement import AGREEMENT, Agreement, verify_agreement
from accord_common.enrolment import (
    DELEGATION,
    OFFER,
    Delegation,
    Offer,
    verify_delegation,
    verify_offer,
)
from accord_common.envelope import Envelope
from accord_common.errors import VerificationError
from accord_common.manifest import MANIFEST, RunManifest, verify_manifest
from accord_common.receipts import (
    AGGREGATOR_RECEIPT,
    CONSENT,
    EVALUATION,
    RESULT,
    AggregatorReceipt,
    Consent,
    Evaluation,
    RunResult,
)

Lookup = Callable[[str], Envelope]


@dataclass(frozen=True, slots=True)
class VerifiedRun:
    """A manifest with everything that it names, all verified."""

    agreement: Agreement
    agreement_hash: str
    manifest: RunManifest
    manifest_hash: str
    delegations: dict[str, Delegation]  # by data holder's party id
    offer: Offer
    aggregator: Delegation


@dataclass(frozen=True, slots=True)
class VerifiedResult:
    """A run's result and the aggregator's receipts that lead to it, oldest first."""

    result: RunResult
    result_hash: str
    receipts: tuple[AggregatorReceipt, ...]


def fetch(lookup: Lookup, record_hash: str, kind: str) -> Envelope:
    """Look a record up and check that it is the one asked for.

    Raises:
        VerificationError: `wrong-record`, `wrong-kind`.
    """
    envelope = lookup(record_hash)
    if envelope.hash != record_hash:
        raise VerificationError(
            "wrong-record", f"asked for {record_hash[:16]}, got {envelope.hash[:16]}"
        )
    if envelope.kind != kind:
        raise VerificationError(
            "wrong-kind", f"{record_hash[:16]} is a {envelope.kind}, not a {kind}"
        )
    return envelope


def fetch_agreement(lookup: Lookup, agreement_hash: str) -> Agreement:
    """Return an agreement that all of its parties signed."""
    return verify_agreement(fetch(lookup, agreement_hash, AGREEMENT))


def fetch_delegation(
    lookup: Lookup, delegation_hash: str, agreement: Agreement, party: str
) -> Delegation:
    """Return a delegation given by `party`'s identity key in the agreement."""
    return verify_delegation(
        fetch(lookup, delegation_hash, DELEGATION),
        identity_key=agreement.party(party).identity_key,
        party=party,
    )


def fetch_offer(lookup: Lookup, offer_hash: str, agreement: Agreement) -> tuple[Offer, Delegation]:
    """Return an aggregator's offer and the delegation under which its daemon made it.

    Raises:
        VerificationError: `wrong-party` where it is not the agreement's aggregator, or a signature
            does not hold.
    """
    (aggregator,) = agreement.with_role("aggregator")
    envelope = fetch(lookup, offer_hash, OFFER)
    delegation_hash = Offer.from_bytes(envelope.payload).delegation
    delegation = fetch_delegation(lookup, delegation_hash, agreement, aggregator.id)
    return verify_offer(envelope, delegation, delegation_hash), delegation


def fetch_run(
    lookup: Lookup,
    manifest_hash: str,
    *,
    agreement: Agreement | None = None,
    agreement_hash: str | None = None,
) -> VerifiedRun:
    """Return a manifest with its agreement, its offer and every site's delegation.

    Args:
        lookup: brings an envelope by hash.
        manifest_hash: the run.
        agreement: the caller's own verified copy, used instead of a fetched one.
        agreement_hash: its hash; the manifest must name it.

    Raises:
        VerificationError: the first thing that does not hold; `wrong-agreement`,
            `wrong-aggregator-keys`, `no-flower-key` beside those of the parts.
    """
    envelope = fetch(lookup, manifest_hash, MANIFEST)
    named = RunManifest.from_bytes(envelope.payload).agreement
    if agreement is None:
        agreement = fetch_agreement(lookup, named)
    elif named != agreement_hash:
        raise VerificationError(
            "wrong-agreement", f"the manifest is under {named[:16]}, not under the one given"
        )
    (coordinator,) = agreement.with_role("coordinator")
    manifest = verify_manifest(envelope, coordinator_key=coordinator.identity_key)
    offer, aggregator = fetch_offer(lookup, manifest.aggregator.offer, agreement)
    check_aggregator_keys(manifest, offer)
    delegations = {}
    for site in manifest.roster:
        delegation = fetch_delegation(lookup, site.delegation, agreement, site.party)
        if delegation.flower_key is None:
            raise VerificationError("no-flower-key", f"the delegation of {site.party} lacks one")
        delegations[site.party] = delegation
    return VerifiedRun(agreement, named, manifest, manifest_hash, delegations, offer, aggregator)


def check_aggregator_keys(manifest: RunManifest, offer: Offer) -> None:
    """Refuse a manifest that spells its offer out wrongly: `wrong-aggregator-keys`."""
    fields = ("party", "address", "envelope_key", "receipt_key", "tls_spki")
    for field in fields:
        if getattr(manifest.aggregator, field) != getattr(offer, field):
            raise VerificationError(
                "wrong-aggregator-keys", f"the manifest's {field} is not the offer's"
            )


def check_dates(run: VerifiedRun, moment: datetime) -> None:
    """Raise PolicyError where the agreement or a delegation is not valid at `moment`."""
    run.agreement.check_valid_at(moment)
    for delegation in (*run.delegations.values(), run.aggregator):
        delegation.check_valid_at(moment)


def verify_consent(envelope: Envelope, run: VerifiedRun) -> Consent:
    """Decode a consent and check that a site of the run gave it, for its dataset.

    Raises:
        VerificationError: `wrong-kind`, `wrong-consent`, or the signature does not hold.
        NotFoundError: `not-in-roster`.
    """
    if envelope.kind != CONSENT:
        raise VerificationError("wrong-kind", f"a {envelope.kind} is no {CONSENT}")
    consent = Consent.from_bytes(envelope.payload)
    site = run.manifest.site(consent.party)
    envelope.verify([run.delegations[site.party].node_key])
    told = (consent.manifest, consent.dataset, consent.delegation)
    if told != (run.manifest_hash, site.dataset, site.delegation):
        raise VerificationError("wrong-consent", f"{consent.party} consented to something else")
    return consent


def fetch_result(lookup: Lookup, result_hash: str, run: VerifiedRun) -> VerifiedResult:
    """Follow a result through the aggregator's receipts back to the manifest.

    Guarantees: the receipts form one chain; each completed round starts from the model that the one
    before left, the first from the manifest's initial model; the result names the last model.

    Raises:
        VerificationError: `wrong-manifest`, `broken-model-chain`, `wrong-round-count`,
            `too-many-attempts`, or a signature or hash does not hold.
    """
    envelope = fetch(lookup, result_hash, RESULT)
    envelope.verify([run.manifest.aggregator.receipt_key])
    result = RunResult.from_bytes(envelope.payload)
    _check_manifest(result.manifest, run)
    receipts = fetch_receipts(lookup, result.previous, run)
    model, rounds = _left(receipts, run)
    if result.rounds != rounds:
        raise VerificationError(
            "wrong-round-count", f"the result says {result.rounds} rounds, receipts show {rounds}"
        )
    if result.model is not None and result.model != model:
        raise VerificationError("broken-model-chain", "the result names another model")
    return VerifiedResult(result, result_hash, receipts)


def fetch_receipts(lookup: Lookup, head: str, run: VerifiedRun) -> tuple[AggregatorReceipt, ...]:
    """Follow the aggregator's receipts from the newest back to the manifest; oldest first.

    Guarantees: as for `fetch_result`. Whether there is a newer one, they do not tell.

    Args:
        lookup: brings an envelope by hash.
        head: the newest receipt's hash, or the manifest's where there is none.
        run: the run.

    Raises:
        VerificationError: as for `fetch_result`.
    """
    receipts: list[AggregatorReceipt] = []
    while head != run.manifest_hash:
        if len(receipts) == run.manifest.max_attempts_total:
            raise VerificationError(
                "too-many-attempts",
                f"over {run.manifest.max_attempts_total} receipts, more than the manifest allows",
            )
        step = fetch(lookup, head, AGGREGATOR_RECEIPT)
        step.verify([run.manifest.aggregator.receipt_key])
        receipts.append(AggregatorReceipt.from_bytes(step.payload))
        _check_manifest(receipts[-1].manifest, run)
        head = receipts[-1].previous
    receipts.reverse()
    _left(receipts, run)
    return tuple(receipts)


def verify_evaluation(envelope: Envelope, run: VerifiedRun, result: VerifiedResult) -> Evaluation:
    """Decode an evaluation and check that the coordinator signed it, for the result's model.

    Raises:
        VerificationError: `wrong-kind`, `wrong-evaluation`, or the signature does not hold.
    """
    if envelope.kind != EVALUATION:
        raise VerificationError("wrong-kind", f"a {envelope.kind} is no {EVALUATION}")
    (coordinator,) = run.agreement.with_role("coordinator")
    envelope.verify([coordinator.identity_key])
    evaluation = Evaluation.from_bytes(envelope.payload)
    told = (evaluation.manifest, evaluation.result, evaluation.model)
    if told != (run.manifest_hash, result.result_hash, result.result.model):
        raise VerificationError(
            "wrong-evaluation", f"metrics of another model than that of run {run.manifest.id}"
        )
    return evaluation


def _check_manifest(named: str, run: VerifiedRun) -> None:
    if named != run.manifest_hash:
        raise VerificationError("wrong-manifest", f"a record of run {named[:16]} in another chain")


def _left(receipts: Sequence[AggregatorReceipt], run: VerifiedRun) -> tuple[str, int]:
    """The last model, and how many rounds are complete; each starts where the one before ended."""
    model, rounds = run.manifest.initial_model, 0
    for receipt in receipts:
        if receipt.model_before != model or receipt.round != rounds:
            raise VerificationError(
                "broken-model-chain",
                f"round {receipt.round} attempt {receipt.attempt} does not start where the round "
                "before it ended",
            )
        if receipt.model_after is not None:
            model, rounds = receipt.model_after, rounds + 1
    return model, rounds
