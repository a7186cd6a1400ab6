"""One record's place in the log, in a file of its own: record, proof, checkpoint, agreement.

Guarantees: `check` returns only where the record's envelope is in the tree that the log key signed;
it says whose signatures the record has, which all hold. Whether they are the right ones for its
kind takes what it names, which a bundle has.
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
from accord_common.catalogue import ReleasedProfile
from accord_common.envelope import Envelope
from accord_common.errors import VerificationError
from accord_common.fields import Positive, Record
from accord_common.log.bundle import MAX_LINE_BYTES
from accord_common.log.checkpoint import Checkpoint, Proof, verify_checkpoint
from accord_common.log.merkle import leaf_hash, verify_inclusion
from accord_common.manifest import MANIFEST, RunManifest
from accord_common.receipts import (
    AggregatorReceipt,
    Consent,
    Evaluation,
    NodeReceipt,
    RunResult,
)

MAX_PROOF_BYTES = 3 * MAX_LINE_BYTES  # three envelopes

_OF_RUNS: dict[str, type[Consent | NodeReceipt | AggregatorReceipt | RunResult | Evaluation]] = {
    "consent": Consent,
    "node-receipt": NodeReceipt,
    "aggregator-receipt": AggregatorReceipt,
    "result": RunResult,
    "evaluation": Evaluation,
}
_OF_AGREEMENTS: dict[str, type[Withdrawal | Suspension | Resumption | ReleasedProfile]] = {
    "withdrawal": Withdrawal,
    "suspension": Suspension,
    "resumption": Resumption,
    "dataset-profile": ReleasedProfile,
}


class RecordProof(Record):
    """The file; `agreement` is the one that the record is, or is under, if any."""

    format: Literal[1]
    sequence: Positive
    record: WireEnvelope
    proof: Proof
    checkpoint: WireEnvelope
    agreement: WireEnvelope | None

    def check(self) -> tuple[Checkpoint, Agreement | None]:
        """Verify; returns the checkpoint, and the agreement, which all its parties signed.

        Raises:
            VerificationError: `wrong-inclusion`, `wrong-log-key`, or a signature does not hold.
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
        return found, agreement


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
    while under is not None and under.kind != AGREEMENT:
        name = above(under)
        under = None if name is None else registry.record(name)
    return RecordProof(
        format=1,
        sequence=found.sequence,
        record=record,
        proof=found.proof,
        checkpoint=checkpoint,
        agreement=under,
    )
