"""The Merkle tree against RFC 6962's own words, written naively, and against the CT project's
published vectors (certificate-transparency, merkletree tests: eight leaves and their roots)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accord_common.errors import VerificationError
from accord_common.log.merkle import (
    EMPTY_ROOT,
    MOST_HASHES,
    Frontier,
    Node,
    consistency_spans,
    inclusion_spans,
    leaf_hash,
    needed,
    node_hash,
    peaks,
    span_hash,
    verify_consistency,
    verify_inclusion,
)

LEAVES = [
    bytes.fromhex(entry)
    for entry in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
MOST = 70  # leaves of the trees here: past one power of two that is large for a proof


def mth(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962, 2.1."""
    if not leaves:
        return EMPTY_ROOT
    if len(leaves) == 1:
        return leaves[0]
    k = split(len(leaves))
    return node_hash(mth(leaves[:k]), mth(leaves[k:]))


def path(m: int, leaves: list[bytes]) -> list[bytes]:
    """PATH of RFC 6962, 2.1.1."""
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if m < k:
        return [*path(m, leaves[:k]), mth(leaves[k:])]
    return [*path(m - k, leaves[k:]), mth(leaves[:k])]


def subproof(m: int, leaves: list[bytes], whole: bool) -> list[bytes]:
    """SUBPROOF of RFC 6962, 2.1.2."""
    if m == len(leaves):
        return [] if whole else [mth(leaves)]
    k = split(len(leaves))
    if m <= k:
        return [*subproof(m, leaves[:k], whole), mth(leaves[k:])]
    return [*subproof(m - k, leaves[k:], False), mth(leaves[:k])]


def split(n: int) -> int:
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def leaves_of(n: int) -> list[bytes]:
    return [leaf_hash(b"%d" % index) for index in range(n)]


def grown(leaves: list[bytes]) -> tuple[Frontier, dict[Node, bytes]]:
    """A tree that was appended to leaf by leaf, and every subtree it completed."""
    tree, nodes = Frontier(), {(0, index): leaf for index, leaf in enumerate(leaves)}
    for leaf in leaves:
        made = tree.add(leaf)
        assert not {node for node, _ in made} & nodes.keys(), "a subtree is completed once"
        nodes |= dict(made)
    return tree, nodes


@pytest.mark.parametrize("size", range(len(ROOTS)))
def test_the_published_roots(size: int) -> None:
    assert grown([leaf_hash(entry) for entry in LEAVES[:size]])[0].root.hex() == ROOTS[size]


@pytest.mark.parametrize("size", [*range(18), 31, 32, 33, 64, MOST])
def test_a_tree_grows_as_the_rfc_defines_it(size: int) -> None:
    leaves = leaves_of(size)
    tree, nodes = grown(leaves)
    assert (tree.size, tree.root) == (size, mth(leaves))
    assert len(nodes) == 2 * size - size.bit_count()
    assert Frontier(size, [nodes[node] for node in peaks(size)]).root == tree.root


@given(st.integers(1, MOST), st.data())
def test_inclusion_is_the_rfcs_path_and_verifies(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    leaves = leaves_of(size)
    tree, nodes = grown(leaves)
    spans = inclusion_spans(index, size)
    proof = [span_hash(span, nodes) for span in spans]
    assert proof == path(index, leaves)
    assert len(needed(spans)) <= 2 * size.bit_length()
    verify_inclusion(leaves[index], index, size, proof, tree.root)


@given(st.integers(0, MOST), st.data())
def test_consistency_is_the_rfcs_proof_and_verifies(second: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, second))
    leaves = leaves_of(second)
    tree, nodes = grown(leaves)
    proof = [span_hash(span, nodes) for span in consistency_spans(first, second)]
    assert proof == (subproof(first, leaves, True) if first else [])
    verify_consistency(first, second, proof, mth(leaves[:first]), tree.root)


@given(st.integers(2, MOST), st.data())
def test_no_other_inclusion_verifies(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    leaves = leaves_of(size)
    root, proof = mth(leaves), path(index, leaves)
    at = data.draw(st.integers(0, len(proof) - 1))
    altered = [*proof[:at], leaf_hash(b"other"), *proof[at + 1 :]]
    other = data.draw(st.integers(0, size - 1).filter(lambda found: found != index))
    for leaf, place, total, way, wanted in (
        (leaf_hash(b"other"), index, size, proof, root),
        (leaves[index], other, size, proof, root),
        (leaves[index], index, size, altered, root),
        (leaves[index], index, size, proof[:-1], root),
        (leaves[index], index, size, [*proof, root], root),
        (leaves[index], index, size, proof, leaf_hash(b"other")),
        (leaves[index], size, size, proof, root),
        (leaves[index], -1, size, proof, root),
    ):
        with pytest.raises(VerificationError, match=r"\[wrong-inclusion\]"):
            verify_inclusion(leaf, place, total, way, wanted)


@given(st.integers(2, MOST), st.data())
def test_no_other_consistency_verifies(second: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(1, second - 1))
    leaves = leaves_of(second)
    old, new, proof = mth(leaves[:first]), mth(leaves), subproof(first, leaves, True)
    at = data.draw(st.integers(0, len(proof) - 1))
    altered = [*proof[:at], leaf_hash(b"other"), *proof[at + 1 :]]
    forked = mth([leaf_hash(b"other"), *leaves[1:first]])
    for one, other, way, before, after in (
        (first, second, proof, forked, new),
        (first, second, proof, old, leaf_hash(b"other")),
        (first, second, altered, old, new),
        (first, second, proof[:-1], old, new),
        (first, second, [*proof, new], old, new),
        (first, second, [], old, new),
        (second, first, proof, new, old),
        (second, second, [], old, new),
        (second, second, [new], new, new),
        (0, second, [], old, new),
        (0, second, [new], EMPTY_ROOT, new),
        (0, 0, [], EMPTY_ROOT, new),
        (-1, second, [], EMPTY_ROOT, new),
    ):
        with pytest.raises(VerificationError, match=r"\[wrong-consistency\]"):
            verify_consistency(one, other, way, before, after)


def test_a_proof_of_the_largest_tree_fits() -> None:
    assert len(inclusion_spans(2**53 - 2, 2**53 - 1)) <= MOST_HASHES
    assert len(consistency_spans(2**52 + 1, 2**53 - 1)) <= MOST_HASHES
