"""A record's body, decoded once for all that look at it while it is appended."""

from functools import lru_cache
from typing import TypeVar

from accord_common.envelope import Envelope
from accord_common.fields import Record
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

_R = TypeVar("_R", bound=Record)
# Those that name a manifest.
OF_RUNS: dict[str, type[Consent | NodeReceipt | AggregatorReceipt | RunResult | Evaluation]] = {
    CONSENT: Consent,
    NODE_RECEIPT: NodeReceipt,
    AGGREGATOR_RECEIPT: AggregatorReceipt,
    RESULT: RunResult,
    EVALUATION: Evaluation,
}
_MOST = 64  # records that are on their way in at one time; each at most 1 MiB


def body_of(kind: type[_R], envelope: Envelope) -> _R:
    """Decode strictly; records are immutable, so all callers may have the same one. FormatError."""
    found = _decoded(kind, envelope.payload)
    assert isinstance(found, kind)
    return found


@lru_cache(_MOST)
def _decoded(kind: type[Record], payload: bytes) -> Record:
    return kind.from_bytes(payload)
