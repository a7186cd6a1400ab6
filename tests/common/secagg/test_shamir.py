"""Any t shares give the secret, t - 1 say nothing about it, and bad shares are named."""

from collections.abc import Sequence
from random import Random

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from accord_common.errors import AccordError, FormatError, ProtocolError, UsageError
from accord_common.secagg.shamir import MAX_X, PRIME, SHARE_BYTES, Share, combine, split

SECRETS = st.binary(min_size=32, max_size=32)


@st.composite
def sharings(draw: st.DrawFn) -> tuple[int, list[int]]:
    """A threshold, and the distinct points that shares are made for, in any order."""
    xs = draw(st.lists(st.integers(1, MAX_X), min_size=2, max_size=12, unique=True))
    return draw(st.integers(2, len(xs))), xs


def lagrange(points: Sequence[tuple[int, int]], at: int) -> int:
    """The value at `at` of the polynomial through `points`, by the textbook's formula."""
    total = 0
    for x, y in points:
        for other, _ in points:
            if other != x:
                y = y * (at - other) * pow(x - other, -1, PRIME) % PRIME
        total += y
    return total % PRIME


def point(share: Share) -> tuple[int, int]:
    return share.x, int.from_bytes(share.value)


def probably_prime(number: int) -> bool:
    """Miller and Rabin, to the first 60 prime bases: wrong with probability below 4^-60."""
    bases = [base for base in range(2, 282) if all(base % factor for factor in range(2, base))]
    assert len(bases) == 60
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1

    def witness(base: int) -> bool:
        power = pow(base, odd, number)
        return power not in (1, number - 1) and all(
            (power := power * power % number) != number - 1 for _ in range(twos - 1)
        )

    return not any(witness(base) for base in bases)


def test_p_is_the_smallest_prime_above_every_secret() -> None:
    primes = [offset for offset in range(298) if probably_prime(2**256 + offset)]
    assert primes == [297]
    assert PRIME == 2**256 + 297
    assert PRIME.bit_length() <= 8 * SHARE_BYTES


@given(SECRETS, sharings(), st.randoms())
def test_any_t_shares_or_more_give_the_secret(
    secret: bytes, sharing: tuple[int, list[int]], random: Random
) -> None:
    threshold, xs = sharing
    shares = split(secret, threshold, xs)
    assert [share.x for share in shares] == xs
    for count in range(threshold, len(xs) + 1):
        assert combine(random.sample(shares, count), threshold) == secret


@given(SECRETS, sharings())
def test_shares_lie_on_one_polynomial_of_degree_below_t(
    secret: bytes, sharing: tuple[int, list[int]]
) -> None:
    threshold, xs = sharing
    points = [(0, int.from_bytes(secret)), *map(point, split(secret, threshold, xs))]
    for x, y in points[threshold:]:
        assert lagrange(points[:threshold], x) == y


@given(SECRETS, SECRETS, sharings())
def test_t_minus_one_shares_are_consistent_with_every_secret(
    secret: bytes, other: bytes, sharing: tuple[int, list[int]]
) -> None:
    """For any secret there is one last share that completes t - 1 given shares to it."""
    threshold, xs = sharing
    known = split(secret, threshold, xs)[: threshold - 1]
    polynomial = [(0, int.from_bytes(other)), *map(point, known)]
    last = xs[threshold - 1]
    completing = Share(last, lagrange(polynomial, last).to_bytes(SHARE_BYTES))
    assert combine([*known, completing], threshold) == other


def test_a_single_share_of_a_fixed_secret_looks_uniform() -> None:
    shares = b"".join(split(bytes(32), 2, [1, 2])[0].value[1:] for _ in range(4000))
    counts = np.bincount(np.frombuffer(shares, np.uint8), minlength=256)
    expected = counts.sum() / 256
    assert float(((counts - expected) ** 2 / expected).sum()) < 400  # 255 degrees, p about 1e-8


@given(SECRETS, sharings(), st.data())
def test_a_wrong_share_among_more_than_t_is_detected(
    secret: bytes, sharing: tuple[int, list[int]], data: st.DataObject
) -> None:
    threshold, xs = sharing
    assume(threshold < len(xs))
    shares = split(secret, threshold, xs)
    wrong = data.draw(st.integers(0, len(xs) - 1))
    shift = data.draw(st.integers(1, PRIME - 1))
    x, y = point(shares[wrong])
    shares[wrong] = Share(x, ((y + shift) % PRIME).to_bytes(SHARE_BYTES))
    with pytest.raises(ProtocolError, match="inconsistent-shares"):
        combine(data.draw(st.permutations(shares)), threshold)


@pytest.mark.parametrize(
    ("x", "value"),
    [
        (0, bytes(33)),
        (-1, bytes(33)),
        (MAX_X + 1, bytes(33)),
        (1, bytes(32)),
        (1, bytes(34)),
        (1, PRIME.to_bytes(33)),
        (1, b"\xff" * 33),
    ],
)
def test_a_share_that_cannot_be_is_refused(x: int, value: bytes) -> None:
    with pytest.raises(FormatError, match="bad-share"):
        Share(x, value)


def test_a_share_does_not_print_its_value() -> None:
    assert repr(Share(3, (PRIME - 1).to_bytes(33))) == "Share(x=3)"


@pytest.mark.parametrize(
    ("shares", "threshold", "code"),
    [
        ([], 2, "too-few-shares"),
        ([(1, 5), (2, 6)], 3, "too-few-shares"),
        ([(1, 5), (1, 5)], 2, "repeated-share"),
        ([(1, 5), (2, 6), (1, 5)], 2, "repeated-share"),
        ([(1, 5), (2, 6), (3, 8)], 2, "inconsistent-shares"),
        ([(1, 2**256), (2, 2**256)], 2, "bad-secret"),
        ([(1, PRIME - 2), (2, PRIME - 3)], 2, "bad-secret"),
        ([(1, 5)], 1, "bad-threshold"),
    ],
)
def test_shares_that_give_no_secret_are_refused(
    shares: list[tuple[int, int]], threshold: int, code: str
) -> None:
    with pytest.raises(AccordError) as caught:
        combine([Share(x, y.to_bytes(SHARE_BYTES)) for x, y in shares], threshold)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("secret", "threshold", "xs", "code"),
    [
        (bytes(31), 2, [1, 2], "bad-secret"),
        (bytes(33), 2, [1, 2], "bad-secret"),
        (bytes(32), 1, [1, 2], "bad-threshold"),
        (bytes(32), 3, [1, 2], "bad-threshold"),
        (bytes(32), 2, [1, 1], "repeated-share"),
        (bytes(32), 2, [0, 1], "bad-share"),
    ],
)
def test_impossible_sharings_are_refused(
    secret: bytes, threshold: int, xs: list[int], code: str
) -> None:
    with pytest.raises((UsageError, FormatError)) as caught:
        split(secret, threshold, xs)
    assert caught.value.code == code
