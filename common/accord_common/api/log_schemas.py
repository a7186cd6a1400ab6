"""What the registry answers about its log, as models; see `schemas`."""

from accord_common.api.schemas import View
from accord_common.api.wire import WireEnvelope
from accord_common.fields import Count, Hash, Positive
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
