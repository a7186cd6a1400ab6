"""What a run leaves behind: consents, receipts, the result, evaluations.

Each names its predecessor by hash, so a missing or re-ordered one shows. They are attestations by
their signer; what they prove is who said it and in which order. What a node signs carries the
newest head of the log that it has seen (`log`), so the log itself holds what each node saw of it.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from accord_common.fields import Count, Dec, Hash, Id, Positive, Record, Slug, Text, Time
from accord_common.log.checkpoint import Head
from accord_common.privacy.events import LedgerEntry

CONSENT = "consent"
NODE_RECEIPT = "node-receipt"
AGGREGATOR_RECEIPT = "aggregator-receipt"
RESULT = "result"
EVALUATION = "evaluation"

Parties = Annotated[list[Id], Field(max_length=100)]
Refusals = Annotated[dict[Id, Slug], Field(max_length=100)]


class Consent(Record):
    """A node's answer to a manifest, signed by its node key; predecessor: the manifest.

    `nonce` is 32 random bytes: no two copies of a node's folder ever sign the same consent.
    """

    manifest: Hash
    party: Id
    dataset: Id
    delegation: Hash
    decision: Literal["accept", "refuse"]
    code: Annotated[str, Field(max_length=64)]
    reason: Text
    ledger_head: Hash
    nonce: Hash
    created: Time
    log: Head | None = None  # records of 0.1.0 lack it

    @model_validator(mode="after")
    def _reasoned(self) -> Self:
        if (self.decision == "refuse") != bool(self.code):
            raise ValueError("a refusal, and only a refusal, carries a code")
        return self


class NodeReceipt(Record):
    """What one node sent in one attempt, and the ledger entry it wrote before."""

    previous: Hash
    manifest: Hash
    party: Id
    round: Count
    attempt: Count
    model: Hash
    upload: Hash
    upload_bytes: Positive
    ledger: LedgerEntry
    created: Time
    log: Head | None = None  # records of 0.1.0 lack it


class AggregatorReceipt(Record):
    """How one attempt ended, signed by the run's receipt key.

    `refused` maps each site that takes no part since it said no, or answered wrongly, to the code.
    """

    previous: Hash
    manifest: Hash
    round: Count
    attempt: Count
    outcome: Literal["completed", "aborted"]
    cohort: Parties
    lost: Parties
    refused: Refusals
    uploads: Annotated[list[Hash], Field(max_length=100)]
    sum: Hash | None
    model_before: Hash
    model_after: Hash | None
    created: Time

    @model_validator(mode="after")
    def _outcome(self) -> Self:
        done = self.outcome == "completed"
        if done != (self.sum is not None and self.model_after is not None):
            raise ValueError("a completed round, and only that, has a sum and a new model")
        return self


class DatasetEpsilon(Record):
    """What a run cost one dataset, as far as receipts show.

    `epsilon` is null where nothing bounds it: the run was without privacy.
    """

    party: Id
    dataset: Id
    attempts: Count
    epsilon: Dec | None
    delta: Dec


class RunResult(Record):
    """How a run ended, signed by the receipt key; predecessor: last receipt, or manifest.

    `refused` is as in a receipt, at the end of the run.
    """

    previous: Hash
    manifest: Hash
    status: Literal["completed", "failed", "stopped"]
    cause: Text
    code: Annotated[str, Field(max_length=64)]
    refused: Refusals
    rounds: Count
    model: Hash | None
    epsilon: Annotated[list[DatasetEpsilon], Field(max_length=100)]
    created: Time


class Evaluation(Record):
    """Metrics on the public hold-out, signed by the coordinator; predecessor: result."""

    result: Hash
    manifest: Hash
    model: Hash
    holdout: Hash
    rows: Positive
    metrics: Annotated[dict[Slug, Dec], Field(min_length=1, max_length=32)]
    created: Time
