"""Masks cancel exactly, hide everything, and bind attempt, cohort and model."""

from itertools import combinations

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from accord_common.errors import ProtocolError
from accord_common.secagg.keystream import BLOCK_BYTES
from accord_common.secagg.masks import Pair, add_masks, pair_key, self_key

CONTEXT, COHORT, MODEL = bytes(48), "c0" * 32, "d0" * 32
BLOCK_WORDS = BLOCK_BYTES // 4


def public(key: X25519PrivateKey) -> str:
    return key.public_key().public_bytes_raw().hex()


def masked(vectors: list[NDArray[np.uint32]], models: list[str]) -> list[NDArray[np.uint32]]:
    """Mask vectors (n, d) for each other; `models` is what each node was told it trains from."""
    keys = [X25519PrivateKey.generate() for _ in vectors]
    pairs: list[list[Pair]] = [[] for _ in vectors]
    for low, high in combinations(range(len(vectors)), 2):
        for own, peer in ((low, high), (high, low)):
            key = pair_key(
                keys[own],
                public(keys[peer]),
                lower=f"p{low}",
                higher=f"p{high}",
                context=CONTEXT,
                cohort=COHORT,
                model=models[own],
            )
            pairs[own].append(Pair(key, adds=own == low))
    out = [vector.copy() for vector in vectors]
    for vector, streams in zip(out, pairs, strict=True):
        add_masks(vector, streams)
    return out


@pytest.mark.parametrize("n", [2, 3, 7])
@pytest.mark.parametrize("d", [1, 1000, BLOCK_WORDS, 2 * BLOCK_WORDS + 17])
def test_the_sum_of_masked_vectors_is_the_sum(n: int, d: int) -> None:
    generator = np.random.default_rng(n * d)
    vectors = [generator.integers(0, 2**32, d, dtype=np.uint32) for _ in range(n)]
    out = masked(vectors, [MODEL] * n)
    assert np.array_equal(
        np.sum(out, axis=0, dtype=np.uint32), np.sum(vectors, axis=0, dtype=np.uint32)
    )


def test_a_masked_vector_looks_uniform_even_where_the_update_is_zero() -> None:
    out = masked([np.zeros(1 << 16, np.uint32)] * 3, [MODEL] * 3)
    counts = np.bincount(out[0].view(np.uint8), minlength=256)
    expected = counts.sum() / 256
    assert float(((counts - expected) ** 2 / expected).sum()) < 400  # 255 degrees, p about 1e-8


def test_nodes_told_different_models_do_not_cancel() -> None:
    vectors = [np.zeros(4096, np.uint32)] * 3
    out = masked(vectors, [MODEL, MODEL, "d1" * 32])
    total = np.sum(out, axis=0, dtype=np.uint32)
    assert np.count_nonzero(total) > 4000


def test_every_binding_changes_the_key() -> None:
    own, peer = X25519PrivateKey.generate(), public(X25519PrivateKey.generate())

    def key(
        lower: str = "a",
        higher: str = "b",
        context: bytes = CONTEXT,
        cohort: str = COHORT,
        model: str = MODEL,
    ) -> bytes:
        return pair_key(
            own, peer, lower=lower, higher=higher, context=context, cohort=cohort, model=model
        )

    keys = {
        key(),
        key(lower="x"),
        key(higher="x"),
        key(context=bytes(47) + b"\x01"),
        key(cohort="c1" * 32),
        key(model="d1" * 32),
    }
    assert len(keys) == 6


def test_a_key_of_low_order_is_refused() -> None:
    with pytest.raises(ProtocolError) as caught:
        pair_key(
            X25519PrivateKey.generate(),
            "00" * 32,
            lower="a",
            higher="b",
            context=CONTEXT,
            cohort=COHORT,
            model=MODEL,
        )
    assert caught.value.code == "weak-mask-key"


def test_a_vector_without_peers_is_never_left_in_clear() -> None:
    with pytest.raises(ProtocolError) as caught:
        add_masks(np.ones(4, np.uint32), [])
    assert caught.value.code == "no-peers"


@pytest.mark.parametrize("words", [np.uint16, np.uint32, np.uint64])
def test_masks_cancel_exactly_in_every_ring(words: type[np.uint16 | np.uint32 | np.uint64]) -> None:
    generator = np.random.default_rng(5)
    top = np.iinfo(words).max
    plain = generator.integers(0, top, (3, BLOCK_BYTES + 5), dtype=words, endpoint=True)  # (n, d)
    masked_rows = plain.copy()
    for low, high in combinations(range(3), 2):
        key = bytes([low, high] * 16)
        add_masks(masked_rows[low], [Pair(key, adds=True)])
        add_masks(masked_rows[high], [Pair(key, adds=False)])
    assert not (masked_rows == plain).all(axis=1).any()
    assert np.array_equal(masked_rows.sum(0, dtype=words), plain.sum(0, dtype=words))


def test_a_self_mask_is_taken_off_with_its_seed_and_serves_one_attempt_and_party() -> None:
    seed = bytes(range(32))
    vector = np.arange(1000, dtype=np.uint32)
    add_masks(vector, [Pair(self_key(seed, CONTEXT, "a"), adds=True)])
    assert not np.array_equal(vector, np.arange(1000))
    add_masks(vector, [Pair(self_key(seed, CONTEXT, "a"), adds=False)])
    assert np.array_equal(vector, np.arange(1000))
    assert self_key(seed, CONTEXT, "a") != self_key(seed, CONTEXT, "b")
    assert self_key(seed, CONTEXT, "a") != self_key(seed, b"\x01" + CONTEXT[1:], "a")


@pytest.mark.parametrize("size", [0, 4, 31, 33])
def test_a_self_mask_from_a_short_seed_is_refused(size: int) -> None:
    with pytest.raises(ProtocolError, match="short-seed"):
        self_key(bytes(size), CONTEXT, "a")
