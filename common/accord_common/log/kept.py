"""What checkpoints that somebody kept tell by themselves, without a registry or a bundle.

Guarantees: whatever is said convicts the holder of the log key, or its clock, and nobody else. Two
trees of one size are a fork. A tree that was signed after a larger one was set back in between.

Not covered: whether two sizes are of one tree. That takes a proof of consistency, which a registry
has, or a bundle that was taken with both (`audit`).
"""

from collections.abc import Iterable, Iterator
from datetime import timedelta
from itertools import pairwise

from accord_common.errors import VerificationError
from accord_common.fields import CLOCK_TOLERANCE_S, parse_time
from accord_common.log.checkpoint import Checkpoint

_TOLERANCE = timedelta(seconds=CLOCK_TOLERANCE_S)  # by which a clock may be set right


def contradictions(heads: Iterable[Checkpoint]) -> Iterator[VerificationError]:
    """Yield what checkpoints, whose signatures were verified, deny of each other.

    Yields:
        VerificationError: `log-forked`, `log-rolled-back`.
    """
    by_log: dict[str, dict[int, Checkpoint]] = {}
    for head in heads:
        known = by_log.setdefault(head.log, {}).setdefault(head.size, head)
        if known.root != head.root:
            yield VerificationError(
                "log-forked",
                f"the holder of log key {head.log} signed two different logs of {head.size} "
                "records",
                hint="Keep the file: it convicts. Show it to the other parties.",
            )
    for sizes in by_log.values():
        for fewer, more in pairwise(sizes[size] for size in sorted(sizes)):
            if parse_time(fewer.created) > parse_time(more.created) + _TOLERANCE:
                yield VerificationError(
                    "log-rolled-back",
                    f"{fewer.size} records were signed at {fewer.created}, after {more.size} at "
                    f"{more.created}: the log was set back, or the registry's clock",
                    hint="Ask its operator: was it restored from a backup, or its clock set right?",
                )
