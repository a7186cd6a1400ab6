"""What left the building, by kind and line by line, from the outbox file.

Guarantees: a line is read once, and shown as it stands in the file; one that shrank is read anew.

Not covered: whether it holds, which `proofs` says.
"""

import threading
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from accord_client import outbox
from accord_client.outbox import Line
from accord_common.web.looks import N_

KINDS: dict[outbox.Kind, str] = {
    "agreement-signature": N_("signature under an agreement"),
    "withdrawal": N_("withdrawal"),
    "suspension": N_("suspension"),
    "resumption": N_("end of a suspension"),
    "dataset-description": N_("public description of a dataset"),
    "dataset-entry": N_("catalogue entry of a dataset"),
    "dataset-profile": N_("released profile of a dataset"),
    "consent": N_("answer to a run"),
    "advertisement": N_("public keys for a round"),
    "shares": N_("sealed shares of masks"),
    "upload": N_("masked update of the model"),
    "confirmation": N_("confirmation of who takes part"),
    "unmasking": N_("shares that unmask the sum"),
    "refusal": N_("refusal of a round"),
    "acknowledgement": N_("acknowledgement"),
    "node-receipt": N_("signed receipt"),
}
RECEIVERS: dict[outbox.Receiver, str] = {"registry": N_("registry"), "aggregator": N_("aggregator")}


KEPT = 10_000  # lines, of 1 KiB each; earlier ones are counted, and shown by the console


@dataclass(frozen=True, slots=True)
class Sum:
    """All of one kind, or of every kind where that is None."""

    kind: outbox.Kind | None
    count: int
    bytes: int


def whole(sums: Sequence[Sum]) -> Sum:
    """Add them up."""
    return Sum(None, sum(one.count for one in sums), sum(one.bytes for one in sums))


@dataclass(slots=True)
class Sent:
    """The lines of one outbox. Any thread may call."""

    path: Path
    _at: int = 0
    _newest: deque[Line] = field(default_factory=lambda: deque(maxlen=KEPT))
    _counts: Counter[outbox.Kind] = field(default_factory=Counter)
    _sizes: Counter[outbox.Kind] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def read(self) -> tuple[list[Line], list[Sum]]:
        """The newest lines, oldest first; count and bytes of all, in the order of `KINDS`."""
        with self._lock:
            if self.path.exists() and self.path.stat().st_size < self._at:
                self._at = 0
                for kept in (self._newest, self._counts, self._sizes):
                    kept.clear()
            found, self._at = outbox.lines_from(self.path, self._at)
            self._newest.extend(found)
            for line in found:
                self._counts[line.kind] += 1
                self._sizes[line.kind] += line.bytes
            sums = [
                Sum(kind, self._counts[kind], self._sizes[kind])
                for kind in KINDS
                if self._counts[kind]
            ]
            return list(self._newest), sums
