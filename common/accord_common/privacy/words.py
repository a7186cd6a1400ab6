"""What was spent, in words: infinity is no number that a record, or a person, can add up."""

import math

from accord_common.privacy.accounting import bounded_up

UNBOUNDED = "infinity"
NO_GUARANTEE = "No guarantee holds against a non-private release; epsilon is of the others alone."


def figure(epsilon: float) -> str:
    """Write an epsilon, rounded up."""
    return cost(bounded_up(epsilon))


def difference(epsilon: float) -> str:
    """Write what is reserved, needed or left, so that what fits reads as no more than is left."""
    return f"{epsilon:.4f}" if math.isfinite(epsilon) else UNBOUNDED


def cost(epsilon: str | None) -> str:
    """What one run cost; null in a record is a run without privacy."""
    return UNBOUNDED if epsilon is None else epsilon


def spent(epsilon: str, non_private: int) -> str:
    """What a population has spent: epsilon of its private releases, and how many others."""
    return f"{epsilon} + {releases(non_private)}" if non_private else epsilon


def releases(non_private: int) -> str:
    """Count releases without privacy."""
    return f"{non_private} non-private release{'' if non_private == 1 else 's'}"
