"""What left the building, by kind and line by line, from the outbox file.

Guarantees: the file is read anew where its size changed, else never; what stands in it is shown as
it stands there. Not covered: whether it holds, which `proofs` says.
"""

import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from accord_client import outbox
from accord_client.outbox import Line
from accord_common.web.looks import N_

KINDS: dict[str, str] = {
    "agreement-signature": N_("signature under an agreement"),
    "withdrawal": N_("withdrawal"),
    "suspension": N_("suspension"),
    "resumption": N_("end of a suspension"),
    "dataset-description": N_("public description of a dataset"),
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
RECEIVERS: dict[str, str] = {"registry": N_("registry"), "aggregator": N_("aggregator")}


@dataclass(frozen=True, slots=True)
class Sum:
    """All of one kind."""

    kind: str
    count: int
    bytes: int


@dataclass(slots=True)
class Sent:
    """The lines of one outbox. Any thread may call."""

    path: Path
    _lines: list[Line] = field(default_factory=list)
    _size: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def lines(self) -> list[Line]:
        """Every line, oldest first."""
        with self._lock:
            size = self.path.stat().st_size if self.path.exists() else 0
            if size != self._size:
                self._lines, self._size = list(outbox.lines(self.path)), size
            return self._lines


def sums(lines: list[Line]) -> list[Sum]:
    """Count and bytes by kind, in the order of `KINDS`."""
    counts, sizes = Counter[str](), Counter[str]()
    for line in lines:
        counts[line.kind] += 1
        sizes[line.kind] += line.bytes
    return [Sum(kind, counts[kind], sizes[kind]) for kind in KINDS if counts[kind]]
