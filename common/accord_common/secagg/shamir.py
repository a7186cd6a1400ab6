"""Secret sharing modulo the prime p = 2^256 + 297 (Shamir 1979, "How to share a secret").

Guarantees: t shares give the secret; t - 1 or fewer are independent of it, whoever holds them and
whatever they can compute: for each of the p possible secrets exactly one polynomial of degree below
t passes through t - 1 given shares, and every polynomial is equally likely. Every secret of 32
bytes lies below p, so none is special. Where more than t shares are given, all of them are used:
one that does not lie on the polynomial of the others is detected.

Edge cases: a leading coefficient of zero is allowed, since leaving it out would tell something;
t = 1 would hand the secret to everybody and is refused. With exactly t shares a wrong one gives a
wrong secret, so the caller checks the secret against what it was committed to (a mask key against
its public key).

Not covered: who is given a share and whether a dealer shared honestly. Python's integers do not
take constant time; shares are combined only after their secret may be known.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

from accord_common.errors import FormatError, ProtocolError, UsageError

PRIME = 2**256 + 297  # the smallest prime above every 32-byte number
SECRET_BYTES = 32
SHARE_BYTES = 33
MAX_X = 1024  # far above any roster; bounds the work that a list of shares can cause


@dataclass(frozen=True, slots=True)
class Share:
    """One point of a secret's polynomial.

    Args:
        x: where: roster index + 1, from 1 to `MAX_X`; the secret itself lies at 0.
        value: the polynomial there, 33 bytes, big-endian, below p.

    Raises:
        FormatError: `bad-share` naming which of these does not hold.
    """

    x: int
    value: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not 1 <= self.x <= MAX_X:
            raise FormatError("bad-share", f"share at x = {self.x}, not from 1 to {MAX_X}")
        if len(self.value) != SHARE_BYTES:
            raise FormatError("bad-share", f"share of {len(self.value)} bytes, not {SHARE_BYTES}")
        if int.from_bytes(self.value) >= PRIME:
            raise FormatError("bad-share", f"the share at x = {self.x} is not below p")


def split(secret: bytes, threshold: int, xs: Sequence[int]) -> list[Share]:
    """Share `secret` (32 bytes) among the n points `xs`: any `threshold` of them give it back.

    The coefficients are uniform below p, by rejection from the operating system's generator.

    Returns:
        One share for each of `xs`, in their order.

    Raises:
        UsageError: `bad-secret`, `repeated-share`; `bad-threshold` unless 2 <= threshold <= n.
        FormatError: `bad-share` for a point that is not from 1 to `MAX_X`.
    """
    if len(secret) != SECRET_BYTES:
        raise UsageError("bad-secret", f"secret of {len(secret)} bytes, not {SECRET_BYTES}")
    if not 2 <= threshold <= len(xs):
        raise UsageError("bad-threshold", f"threshold {threshold} of {len(xs)} shares")
    if len(set(xs)) != len(xs):
        raise UsageError("repeated-share", "two shares at one point")
    # By falling degree, as Horner's rule needs them; the secret is the constant term.
    polynomial = [secrets.randbelow(PRIME) for _ in range(threshold - 1)]
    polynomial.append(int.from_bytes(secret))
    return [Share(x, _evaluate(polynomial, x).to_bytes(SHARE_BYTES)) for x in xs]


def combine(shares: Sequence[Share], threshold: int) -> bytes:
    """Return the secret (32 bytes): the value at 0 of the polynomial through the shares.

    Newton's divided differences over all shares, in the order given: the first `threshold` define
    the polynomial, and each further share agrees with it exactly if its difference is zero.

    Raises:
        ProtocolError: `too-few-shares`, `repeated-share`, `inconsistent-shares`, and
            `bad-secret` where the value at 0 is no 32-byte number.
        UsageError: `bad-threshold`.
    """
    if threshold < 2:
        raise UsageError("bad-threshold", f"threshold {threshold}, at least 2")
    if len(shares) < threshold:
        raise ProtocolError("too-few-shares", f"{len(shares)} shares, the threshold is {threshold}")
    xs = [share.x for share in shares]
    if len(set(xs)) != len(xs):
        raise ProtocolError("repeated-share", "two shares at one point")
    differences = _divided_differences(xs, [int.from_bytes(share.value) for share in shares])
    if any(differences[threshold:]):
        raise ProtocolError(
            "inconsistent-shares",
            f"{len(shares)} shares do not lie on one polynomial of degree below {threshold}",
        )
    value = 0
    for index in reversed(range(threshold)):  # c0 + (0 - x0) (c1 + (0 - x1) (c2 + ...))
        value = (differences[index] - xs[index] * value) % PRIME
    if value >> (8 * SECRET_BYTES):
        raise ProtocolError("bad-secret", "the combined secret is not below 2^256")
    return value.to_bytes(SECRET_BYTES)


def _evaluate(polynomial: Sequence[int], x: int) -> int:
    """Horner's rule modulo p; coefficients by falling degree."""
    value = 0
    for coefficient in polynomial:
        value = (value * x + coefficient) % PRIME
    return value


def _divided_differences(xs: Sequence[int], ys: Sequence[int]) -> list[int]:
    """Coefficients c_k of sum_k c_k (x - x_0) ... (x - x_(k-1)), modulo p."""
    inverse = {step: pow(step, -1, PRIME) for step in {a - b for a in xs for b in xs if a > b}}
    inverse |= {-step: -value for step, value in inverse.items()}
    column = list(ys)
    for order in range(1, len(xs)):
        for index in range(len(xs) - 1, order - 1, -1):
            gap = inverse[xs[index] - xs[index - order]]
            column[index] = (column[index] - column[index - 1]) * gap % PRIME
    return column
