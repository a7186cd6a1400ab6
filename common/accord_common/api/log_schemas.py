"""What the registry answers about its log, as models; see `schemas`."""

from typing import Literal

from accord_common.api.schemas import View
from accord_common.api.wire import WireEnvelope
from accord_common.fields import Count, Hash, Positive, PublicKey, Time
from accord_common.log.checkpoint import Proof


class CheckpointView(View):
    """A checkpoint; who relies on it verifies it."""

    envelope: WireEnvelope


class Inclusion(View):
    """Hashes from a record's leaf up to the root of the tree of `size` records."""

    sequence: Positive
    size: Positive
    leaf: Hash
    proof: Proof


class Consistency(View):
    """Hashes that lead from the tree of `first` records to that of `second`."""

    first: Count
    second: Count
    proof: Proof


class EvidenceCheck(View):
    """What the registry found when it checked a file of evidence.

    Attributes:
        kind: of the file.
        verdict: `verified` where all holds and this log grew from it; `foreign` where it holds,
            of another log; `broken` where something does not hold, or this log did not
            grow from it.
        size: of the newest checkpoint in it.
        created: of that checkpoint.
        log: its key.
        records: how many the file brought.
        trusted: whether a bundle rests on agreements that the caller named alone.
        failures: what does not hold, with codes and places.
    """

    kind: Literal["checkpoint", "proof", "bundle"]
    verdict: Literal["verified", "foreign", "broken"]
    size: Count
    created: Time | None
    log: PublicKey | None
    records: Count
    trusted: bool
    failures: list[str]
