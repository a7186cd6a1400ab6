"""A log's tree as it grew, record by record: which root it had at each size.

Guarantees: `check` passes only heads that this very sequence of records had. 32 bytes are kept for
each record.
"""

from dataclasses import dataclass, field

from accord_common.errors import VerificationError
from accord_common.log.checkpoint import Checkpoint, Head
from accord_common.log.merkle import EMPTY_ROOT, HASH_BYTES, Frontier, Node, leaf_hash


@dataclass(slots=True)
class Grown:
    """See the module; `last` is the newest leaf's hash."""

    last: bytes = b""
    _edge: Frontier = field(default_factory=Frontier)
    _roots: bytearray = field(default_factory=lambda: bytearray(EMPTY_ROOT))

    def add(self, entry: bytes) -> list[tuple[Node, bytes]]:
        """Append a record's envelope; return the subtrees that it completes."""
        return self.add_leaf(leaf_hash(entry))

    def add_leaf(self, leaf: bytes) -> list[tuple[Node, bytes]]:
        """Append a record by its leaf's hash; likewise."""
        self.last = leaf
        made = self._edge.add(self.last)
        self._roots += self._edge.root
        return made

    @property
    def size(self) -> int:
        """Records so far."""
        return self._edge.size

    def root(self, size: int) -> str:
        """The root that the first `size` records have."""
        return self._roots[size * HASH_BYTES : (size + 1) * HASH_BYTES].hex()

    def check(self, head: Checkpoint | Head, name: str) -> None:
        """Check that this log once was what `head` says.

        Args:
            head: whose signature was verified.
            name: how it is called in the error.

        Raises:
            VerificationError: `log-rolled-back`, `log-forked`.
        """
        if head.size > self.size:
            raise VerificationError(
                "log-rolled-back", f"{name} is of {head.size} records; here are {self.size}"
            )
        if head.root != self.root(head.size):
            raise VerificationError(
                "log-forked",
                f"{name} has the root {head.root[:16]} at {head.size} records; "
                f"here it is {self.root(head.size)[:16]}",
            )
