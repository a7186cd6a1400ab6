"""A log to show to witnesses: real leaves, proofs and signatures, in memory, that may fork."""

from dataclasses import dataclass, field
from datetime import timedelta

from accord_common.envelope import Envelope
from accord_common.errors import AccordError, UsageError
from accord_common.fields import format_time, now
from accord_common.identity import SigningKey
from accord_common.log.checkpoint import Head, sign_checkpoint
from accord_common.log.merkle import Frontier, consistency_spans, leaf_hash, span_hash


@dataclass
class Log:
    """What a registry says of its log; `silent` is raised instead, while it is set.

    It has the calls of `RegistryClient.tree`, and is its own `tree`.
    """

    key: SigningKey
    entries: list[bytes] = field(default_factory=list)
    silent: AccordError | None = None
    asked: list[tuple[int, int]] = field(default_factory=list)

    @property
    def tree(self) -> "Log":
        return self

    def grow(self, count: int, word: bytes = b"record") -> "Log":
        self.entries += [b"%s %d" % (word, len(self.entries) + i) for i in range(count)]
        return self

    def forked(self, at: int, count: int) -> "Log":
        """Another history of the same registry's, the same up to `at` records."""
        return Log(self.key, self.entries[:at]).grow(count, b"other")

    def checkpoint(self) -> Envelope:
        if self.silent is not None:
            raise self.silent
        edge = Frontier()
        for entry in self.entries:
            edge.add(leaf_hash(entry))
        created = format_time(now() + timedelta(seconds=edge.size))  # no two of one second
        return sign_checkpoint(self.key, edge.size, edge.root, created)

    @property
    def head(self) -> Head:
        return Head.of(self.checkpoint())

    def consistency(self, first: int, second: int) -> list[str]:
        if self.silent is not None:
            raise self.silent
        self.asked.append((first, second))
        if second > len(self.entries):
            raise UsageError("wrong-tree-size", f"the log has {len(self.entries)} records")
        edge, nodes = Frontier(), {}
        for number, entry in enumerate(self.entries):
            leaf = leaf_hash(entry)
            nodes[0, number] = leaf
            nodes |= dict(edge.add(leaf))
        return [span_hash(span, nodes).hex() for span in consistency_spans(first, second)]
