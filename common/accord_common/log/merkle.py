"""The log's Merkle tree: hashes, proofs, and their verification; pure (RFC 9162, 2.1).

Guarantees: `verify_inclusion` returns only where the leaf stands at that place of the tree with
that root; `verify_consistency` only where the larger tree begins with the smaller one; both as far
as SHA-256 resists collisions. Whoever keeps the hashes of complete subtrees (`Frontier.add` names
each once, as it becomes complete) makes any root or proof from O(log n) of them.

A complete subtree is `(level, number)`: the leaves from `number << level`, `1 << level` of them.
Left out: where hashes are kept, and who signs a root (`checkpoint`).
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from accord_common.errors import VerificationError

HASH_BYTES = 32
MOST_HASHES = 64  # in a proof: a tree of 2^53 leaves needs 54
EMPTY_ROOT = hashlib.sha256(b"").digest()

Node = tuple[int, int]  # level, number
Span = tuple[int, int]  # leaves from, up to and without


def leaf_hash(entry: bytes) -> bytes:
    """Hash of a leaf that holds `entry` (2.1.1)."""
    return hashlib.sha256(b"\0" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of a node over its two children (2.1.1)."""
    return hashlib.sha256(b"\1" + left + right).digest()


@dataclass(slots=True)
class Frontier:
    """A tree's right edge: what is needed to append to it, and to know its root.

    Attributes:
        size: leaves so far.
        hashes: of the complete subtrees that `peaks(size)` names, in that order.
    """

    size: int = 0
    hashes: list[bytes] = field(default_factory=list)

    def add(self, leaf: bytes) -> list[tuple[Node, bytes]]:
        """Append a leaf's hash; return the subtrees above it that it completes, lowest first."""
        made = []
        level, number, found = 0, self.size, leaf
        while number & 1:
            found = node_hash(self.hashes.pop(), found)
            level, number = level + 1, number >> 1
            made.append(((level, number), found))
        self.hashes.append(found)
        self.size += 1
        return made

    @property
    def root(self) -> bytes:
        """The root of the tree so far."""
        return _fold(self.hashes)


def peaks(size: int) -> list[Node]:
    """The largest complete subtrees of a tree, from the left: one for each bit of `size`."""
    return cover((0, size))


def cover(span: Span) -> list[Node]:
    """The complete subtrees that make up a span of a proof, from the left."""
    found, start = [], span[0]
    while start < span[1]:
        level = (span[1] - start).bit_length() - 1
        found.append((level, start >> level))
        start += 1 << level
    return found


def span_hash(span: Span, nodes: Mapping[Node, bytes]) -> bytes:
    """The hash over a span's leaves, from the hashes of `cover(span)`."""
    return _fold([nodes[node] for node in cover(span)])


def inclusion_spans(index: int, size: int) -> list[Span]:
    """What an inclusion proof of leaf `index` in a tree of `size` is made of (2.1.3.1)."""
    found, start, end = [], 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            found.append((middle, end))
            end = middle
        else:
            found.append((start, middle))
            start = middle
    return found[::-1]


def consistency_spans(first: int, second: int) -> list[Span]:
    """What a consistency proof from `first` to `second` leaves is made of (2.1.4.1)."""
    if first in (0, second):
        return []
    found, start, end = [], 0, second
    while end != first:
        middle = start + _split(end - start)
        if first <= middle:
            found.append((middle, end))
            end = middle
        else:
            found.append((start, middle))
            start = middle
    if start:  # else the smaller root itself is where the proof begins
        found.append((start, end))
    return found[::-1]


def verify_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes
) -> None:
    """Check that a leaf stands at `index` of the tree with `size` leaves and `root` (2.1.3.2).

    Raises:
        VerificationError: `wrong-inclusion`.
    """
    if not 0 <= index < size:
        raise _wrong_inclusion(index, size, "there is no such leaf")
    place, last, found = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise _wrong_inclusion(index, size, "the proof is too long")
        if place & 1 or place == last:
            found = node_hash(sibling, found)
            while place and not place & 1:
                place, last = place >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        place, last = place >> 1, last >> 1
    if last:
        raise _wrong_inclusion(index, size, "the proof is too short")
    if found != root:
        raise _wrong_inclusion(index, size, f"it leads to the root {found.hex()[:16]}")


def verify_consistency(
    first: int, second: int, proof: Sequence[bytes], first_root: bytes, second_root: bytes
) -> None:
    """Check that the tree of `second` leaves begins with that of `first` (2.1.4.2).

    Every tree begins with the empty one, and with itself; both proofs are empty.

    Raises:
        VerificationError: `wrong-consistency`.
    """
    if not 0 <= first <= second:
        raise _wrong_consistency(first, second, "the first is the larger one")
    if first in (0, second):
        expected = EMPTY_ROOT if first == 0 else second_root
        if proof or first_root != expected:
            raise _wrong_consistency(first, second, "the roots do not fit")
        if second == 0 and second_root != EMPTY_ROOT:
            raise _wrong_consistency(first, second, "a tree without leaves has another root")
        return
    path = list(proof)
    if first & (first - 1) == 0:  # a power of two: the first tree is a subtree of the second
        path.insert(0, first_root)
    if not path:
        raise _wrong_consistency(first, second, "the proof is empty")
    place, last = first - 1, second - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    old = new = path[0]
    for item in path[1:]:
        if last == 0:
            raise _wrong_consistency(first, second, "the proof is too long")
        if place & 1 or place == last:
            old, new = node_hash(item, old), node_hash(item, new)
            while place and not place & 1:
                place, last = place >> 1, last >> 1
        else:
            new = node_hash(new, item)
        place, last = place >> 1, last >> 1
    if last:
        raise _wrong_consistency(first, second, "the proof is too short")
    if (old, new) != (first_root, second_root):
        raise _wrong_consistency(first, second, "it leads to other roots")


def needed(spans: Iterable[Span]) -> set[Node]:
    """The complete subtrees whose hashes `spans` are made from."""
    return {node for span in spans for node in cover(span)}


def _split(size: int) -> int:
    """The largest power of two below `size`."""
    return 1 << (size - 1).bit_length() - 1


def _fold(hashes: Sequence[bytes]) -> bytes:
    if not hashes:
        return EMPTY_ROOT
    found = hashes[-1]
    for left in reversed(hashes[:-1]):
        found = node_hash(left, found)
    return found


def _wrong_inclusion(index: int, size: int, why: str) -> VerificationError:
    return VerificationError(
        "wrong-inclusion", f"leaf {index} is not shown to be in the tree of {size}: {why}"
    )


def _wrong_consistency(first: int, second: int, why: str) -> VerificationError:
    return VerificationError(
        "wrong-consistency",
        f"the tree of {second} is not shown to begin with that of {first}: {why}",
    )
