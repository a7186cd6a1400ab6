"""One record's place in the log, in a file of its own: record, proof, checkpoint, agreement.

Guarantees: `check` returns only where the record's envelope is in the tree that the log key signed,
and every signature that it has holds; it returns an agreement only where the record is that one, or
is under it by the manifest that comes along, and was signed by who must sign its kind: whoever
holds the log key alone makes no party say anything.

Not covered: whether what else the record names holds; a bundle has that.
"""

from typing import Literal

from accord_common.agreement import (
    AGREEMENT,
    Agreement,
    Resumption,
    Suspension,
    Withdrawal,
    verify_agreement,
)
from accord_common.api.client import RegistryClient
from accord_common.api.wire import WireEnvelope
from accord_common.catalogue import DATASET_PROFILE, ReleasedProfile
from accord_common.enrolment import verify_delegation
from accord_common.envelope import Envelope
from accord_common.errors import NotFoundError, VerificationError
from accord_common.fields import Positive, Record
from accord_common.log.bundle import MAX_LINE_BYTES
from accord_common.log.checkpoint import Checkpoint, Proof, verify_checkpoint
from accord_common.log.merkle import leaf_hash, verify_inclusion
from accord_common.manifest import MANIFEST, RunManifest
from accord_common.receipts import (
    AGGREGATOR_RECEIPT,
    CONSENT,
    EVALUATION,
    NODE_RECEIPT,
    RESULT,
    AggregatorReceipt,
    Consent,
    Evaluation,
    NodeReceipt,
    RunResult,
)

MAX_PROOF_BYTES = 5 * MAX_LINE_BYTES  # five envelopes

_OF_RUNS: dict[str, type[Consent | NodeReceipt | AggregatorReceipt | RunResult | Evaluation]] = {
    CONSENT: Consent,
    NODE_RECEIPT: NodeReceipt,
    AGGREGATOR_RECEIPT: AggregatorReceipt,
    RESULT: RunResult,
    EVALUATION: Evaluation,
}
_OF_AGREEMENTS: dict[str, type[Withdrawal | Suspension | Resumption | ReleasedProfile]] = {
    "withdrawal": Withdrawal,
    "suspension": Suspension,
    "resumption": Resumption,
    DATASET_PROFILE: ReleasedProfile,
}


class RecordProof(Record):
    """The file; `agreement` is the one that the record is, or is under, if any.

    `manifest` is that of a run's record, `delegation` of the node key that signed, where one did.
    """

    format: Literal[1]
    sequence: Positive
    record: WireEnvelope
    proof: Proof
    checkpoint: WireEnvelope
    agreement: WireEnvelope | None
    manifest: WireEnvelope | None
    delegation: WireEnvelope | None

    def check(self) -> tuple[Checkpoint, Agreement | None]:
        """Verify; returns the checkpoint, and the agreement, which all its parties signed.

        Raises:
            VerificationError: `wrong-inclusion`, `wrong-log-key`, `wrong-agreement`,
                `wrong-manifest`, `wrong-delegation`, or a signature is missing or does not hold.
        """
        self.record.verify(self.record.signers)
        found = verify_checkpoint(self.checkpoint)
        leaf, index = leaf_hash(self.record.to_bytes()), self.sequence - 1
        path = [bytes.fromhex(item) for item in self.proof]
        verify_inclusion(leaf, index, found.size, path, bytes.fromhex(found.root))
        if self.agreement is None:
            return found, None
        agreement = verify_agreement(self.agreement)
        if agreement.log_key != found.log:
            raise VerificationError(
                "wrong-log-key", f"the agreement names the log key {agreement.log_key[:16]}"
            )
        self._require_under(agreement, self.agreement.hash)
        return found, agreement

    def _require_under(self, agreement: Agreement, agreement_hash: str) -> None:
        """Check that the record is, or is under, the agreement, and who signed it."""
        record, manifest, higher = self.record, self.manifest, above(self.record)
        if record.kind in _OF_RUNS:
            if manifest is None or manifest.kind != MANIFEST or manifest.hash != higher:
                raise VerificationError("wrong-manifest", f"the {record.kind}'s is not here")
            manifest.verify([_coordinator(agreement)])
            higher = above(manifest)
        if agreement_hash != (record.hash if record.kind == AGREEMENT else higher):
            raise VerificationError(
                "wrong-agreement",
                f"nothing here says that the {record.kind} is under {agreement_hash[:16]}",
            )
        if record.kind != AGREEMENT:  # all of its parties' signatures were checked
            record.verify([self._signer(agreement)])

    def _signer(self, agreement: Agreement) -> str:
        """The key that must sign a record of this kind (SPEC.md's table)."""
        record, manifest = self.record, self.manifest
        if record.kind in (MANIFEST, EVALUATION):
            return _coordinator(agreement)
        if record.kind in (AGGREGATOR_RECEIPT, RESULT) and manifest is not None:
            return RunManifest.from_bytes(manifest.payload).aggregator.receipt_key
        named = delegation_of(record, manifest)
        if named is None:  # a party halts an agreement by its own key
            return agreement.party(
                _OF_AGREEMENTS[record.kind].from_bytes(record.payload).party
            ).identity_key
        party, wanted = named
        if self.delegation is None or self.delegation.hash != wanted:
            raise VerificationError("wrong-delegation", f"delegation {wanted[:16]} is not here")
        key = agreement.party(party).identity_key
        return verify_delegation(self.delegation, identity_key=key, party=party).node_key


def _coordinator(agreement: Agreement) -> str:
    (coordinator,) = agreement.with_role("coordinator")
    return coordinator.identity_key


def delegation_of(record: Envelope, manifest: Envelope | None) -> tuple[str, str] | None:
    """Party and delegation of the node key that signed a record; None where none did."""
    if record.kind == DATASET_PROFILE:
        released = ReleasedProfile.from_bytes(record.payload)
        return released.party, released.delegation
    if record.kind not in (CONSENT, NODE_RECEIPT) or manifest is None:
        return None
    kind: type[Consent | NodeReceipt] = Consent if record.kind == CONSENT else NodeReceipt
    site = RunManifest.from_bytes(manifest.payload).site(kind.from_bytes(record.payload).party)
    return site.party, site.delegation


def above(record: Envelope) -> str | None:
    """The hash of what a record is under, on its way to the agreement: a manifest, an agreement."""
    if (kind := _OF_RUNS.get(record.kind)) is not None:
        return kind.from_bytes(record.payload).manifest
    if record.kind == MANIFEST:
        return RunManifest.from_bytes(record.payload).agreement
    if (halt := _OF_AGREEMENTS.get(record.kind)) is not None:
        return halt.from_bytes(record.payload).agreement
    return None


def prove(registry: RegistryClient, record_hash: str) -> RecordProof:
    """Fetch a record and its proof in the newest checkpoint."""
    checkpoint = registry.tree.checkpoint()
    found = registry.tree.inclusion(record_hash, verify_checkpoint(checkpoint).size)
    record = registry.record(record_hash)
    under: Envelope | None = record
    manifest = None
    while under is not None and under.kind != AGREEMENT:
        name = above(under)
        manifest = under if under.kind == MANIFEST and under is not record else manifest
        try:
            under = None if name is None else registry.record(name)
        except NotFoundError:  # a withdrawal is every member's to read, its agreement the parties'
            under = None
    named = delegation_of(record, manifest)
    return RecordProof(
        format=1,
        sequence=found.sequence,
        record=record,
        proof=found.proof,
        checkpoint=checkpoint,
        agreement=under,
        manifest=manifest,
        delegation=None if named is None else registry.record(named[1]),
    )
