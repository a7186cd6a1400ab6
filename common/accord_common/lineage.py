"""Where a model comes from: every signed record between its hash and the agreement.

Guarantees: pure; told is only what was verified (`chain`), and every institution that is in a sum
had accepted the run under its node key. A run that goes on from another is followed to the first,
and starts from what a completed round of that one left.

Not covered: the rows themselves. No record names a hash of them: an institution's version of its
data is the dataset, schema, public size and ledger head that it signed. Trusted is the agreement's
hash: compare it with the one that was signed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict

from accord_common.agreement import Agreement
from accord_common.chain import VerifiedResult, VerifiedRun, verify_consent
from accord_common.envelope import Envelope
from accord_common.errors import ConflictError, VerificationError
from accord_common.fields import Adjacency, Dec, Hash, Id, Time, Unit
from accord_common.manifest import PrivacyMode, RunManifest
from accord_common.receipts import Consent, Evaluation


class View(BaseModel):
    """Base of what is told."""

    model_config = ConfigDict(frozen=True)


class AgreementLine(View):
    """The terms, and who signed them."""

    hash: Hash
    id: Id
    version: int
    title: str
    purpose: list[str]
    recipients: list[str]
    signed_by: list[str]


class SiteLine(View):
    """One institution's part, and the version of its data: what of it was signed.

    Attributes:
        size: the public constant of the agreement, not a count of rows.
        consent: hash of the record in which its node accepted.
        consented: when, by the node's clock.
        ledger_head: of the node's ledger when it accepted.
        rounds: completed ones whose sum it is in.
        attempts: charged, by the result.
        epsilon: of the result; null where nothing bounds it.
    """

    party: Id
    name: str
    dataset: Id
    dataset_name: str
    schema_hash: Hash
    size: int
    unit: Unit
    weight: int
    sampling_rate: Dec
    noise_multiplier: Dec
    adjacency: Adjacency
    delegation: Hash
    consent: Hash
    consented: Time
    ledger_head: Hash
    rounds: int
    attempts: int
    epsilon: Dec | None
    delta: Dec


class RoundLine(View):
    """One attempt at a round, by the aggregator's receipt."""

    receipt: Hash
    round: int
    attempt: int
    outcome: Literal["completed", "aborted"]
    cohort: list[str]
    model_before: Hash
    model_after: Hash | None
    created: Time


class EarlierLine(View):
    """A run that this one, or the one after it, goes on from."""

    run: Id
    title: str
    manifest: Hash
    agreement: Hash
    rounds: int
    model: Hash
    receipt: Hash


class EvaluationLine(View):
    """What the coordinator signed about the model on public rows."""

    holdout: Hash
    rows: int
    metrics: dict[str, Dec]
    created: Time


class Lineage(View):
    """A model's origin, from its hash down; all of it was verified here."""

    model: Hash
    run: Id
    title: str
    status: str
    created: Time
    result: Hash
    evaluations: list[EvaluationLine]
    rounds: list[RoundLine]
    manifest: Hash
    software: str
    privacy: PrivacyMode
    task: str
    distribution: str
    distribution_version: str
    code_hash: Hash
    architecture: str
    initial_model: Hash
    base: Hash | None
    earlier: list[EarlierLine]
    offer: Hash
    agreement: AgreementLine
    sites: list[SiteLine]


@dataclass(frozen=True, slots=True)
class Origin:
    """A verified run with its receipts' hashes: `receipts` is (hash, model left, rounds so far)."""

    run: VerifiedRun
    receipts: Sequence[tuple[str, str, int]]


def lineage(
    run: VerifiedRun,
    result: VerifiedResult,
    consents: Sequence[Envelope],
    evaluations: Sequence[Evaluation],
    earlier: Sequence[Origin] = (),
) -> Lineage:
    """Tell where a run's model comes from.

    Args:
        run: manifest and what it names.
        result: with the receipts that lead to it.
        consents: records of the run; each is verified here.
        evaluations: verified ones of the result's model.
        earlier: the runs it goes on from, the nearest first.

    Raises:
        ConflictError: `no-model`.
        VerificationError: `missing-consent`, `broken-model-chain`, or a signature does not hold.
    """
    manifest, agreement = run.manifest, run.agreement
    if result.result.model is None:
        raise ConflictError("no-model", f"run {manifest.id} left no model")
    accepted = _accepted(run, consents)
    rounds = _rounds(run, result)
    return Lineage(
        model=result.result.model,
        run=manifest.id,
        title=manifest.title,
        status=result.result.status,
        created=result.result.created,
        result=result.result_hash,
        evaluations=[
            EvaluationLine(
                holdout=one.holdout, rows=one.rows, metrics=one.metrics, created=one.created
            )
            for one in evaluations
        ],
        rounds=rounds,
        manifest=run.manifest_hash,
        software=manifest.software,
        privacy=manifest.privacy,
        task=manifest.task.name,
        distribution=manifest.task.distribution,
        distribution_version=manifest.task.version,
        code_hash=manifest.task.code_hash,
        architecture=manifest.architecture.name,
        initial_model=manifest.initial_model,
        base=None if manifest.adaptation is None else manifest.adaptation.base,
        earlier=list(_earlier(manifest, earlier)),
        offer=manifest.aggregator.offer,
        agreement=_agreement(agreement, run.agreement_hash),
        sites=[_site(run, result, party, accepted) for party in run.delegations],
    )


def _accepted(run: VerifiedRun, consents: Sequence[Envelope]) -> dict[str, tuple[str, Consent]]:
    """The newest acceptance of each party, by its hash."""
    found: dict[str, tuple[str, Consent]] = {}
    for envelope in consents:
        consent = verify_consent(envelope, run)
        if consent.decision == "accept":
            found[consent.party] = (envelope.hash, consent)
    for party in run.delegations:
        if party not in found:
            raise VerificationError(
                "missing-consent",
                f"no signed consent of {run.agreement.party(party).name} to run {run.manifest.id}",
                hint="A run begins only once all of its roster have accepted; ask who runs the "
                "registry for the record.",
            )
    return found


def _rounds(run: VerifiedRun, result: VerifiedResult) -> list[RoundLine]:
    receipts = result.receipts
    hashes = [receipt.previous for receipt in receipts[1:]] + [result.result.previous]
    return [
        RoundLine(
            receipt=own,
            round=receipt.round + 1,
            attempt=receipt.attempt + 1,
            outcome=receipt.outcome,
            cohort=[run.agreement.party(party).name for party in receipt.cohort],
            model_before=receipt.model_before,
            model_after=receipt.model_after,
            created=receipt.created,
        )
        for receipt, own in zip(receipts, hashes, strict=False)  # a run without one has no hash
    ]


def _earlier(manifest: RunManifest, earlier: Sequence[Origin]) -> Sequence[EarlierLine]:
    lines, start = [], manifest.initial_model
    for origin in earlier:
        found = [(own, rounds) for own, model, rounds in origin.receipts if model == start]
        if not found:
            raise VerificationError(
                "broken-model-chain",
                f"no completed round of run {origin.run.manifest.id} left {start[:16]}",
            )
        receipt, rounds = found[0]
        lines.append(
            EarlierLine(
                run=origin.run.manifest.id,
                title=origin.run.manifest.title,
                manifest=origin.run.manifest_hash,
                agreement=origin.run.agreement_hash,
                rounds=rounds,
                model=start,
                receipt=receipt,
            )
        )
        start = origin.run.manifest.initial_model
    return lines


def _agreement(agreement: Agreement, agreement_hash: str) -> AgreementLine:
    names = {party.id: party.name for party in agreement.parties}
    return AgreementLine(
        hash=agreement_hash,
        id=agreement.id,
        version=agreement.version,
        title=agreement.title,
        purpose=agreement.purpose,
        recipients=[names[party] for party in agreement.release.recipients],
        signed_by=list(names.values()),
    )


def _site(
    run: VerifiedRun,
    result: VerifiedResult,
    party: str,
    accepted: dict[str, tuple[str, Consent]],
) -> SiteLine:
    site = run.manifest.site(party)
    dataset = run.agreement.dataset(site.dataset)
    consent_hash, consent = accepted[party]
    spent = next((row for row in result.result.epsilon if row.dataset == site.dataset), None)
    return SiteLine(
        party=party,
        name=run.agreement.party(party).name,
        dataset=site.dataset,
        dataset_name=dataset.name,
        schema_hash=dataset.schema_hash,
        size=dataset.size,
        unit=dataset.unit,
        weight=site.weight,
        sampling_rate=site.sampling_rate,
        noise_multiplier=site.noise_multiplier,
        adjacency=dataset.privacy.adjacency,
        delegation=site.delegation,
        consent=consent_hash,
        consented=consent.created,
        ledger_head=consent.ledger_head,
        rounds=sum(
            receipt.outcome == "completed" and party in receipt.cohort
            for receipt in result.receipts
        ),
        attempts=0 if spent is None else spent.attempts,
        epsilon=None if spent is None else spent.epsilon,
        delta=dataset.privacy.delta if spent is None else spent.delta,
    )
