"""Renyi divergence of a Poisson-subsampled Gaussian step when one record is replaced by another.

Guarantees: an upper bound for every pair of clipped gradients, in any dimension. dp-accounting 0.6
prices this case by privacy loss distributions only; the filter needs it order by order.

Why the one-dimensional pair P = (1-q) N(0, s^2) + q N(1, s^2), Q = (1-q) N(0, s^2) + q N(-1, s^2)
is the worst (the pair that dp-accounting's REPLACE_ONE uses too). Condition on the other records of
the batch: by joint convexity the worst such condition bounds the mixture. What is left are
gradients g, g' of norm at most 1 (units of the clip). Divided by N(0, s^2) both densities are
functions of U = <x, g> and V = <x, g'>, jointly Gaussian with covariance s^2 [[|g|^2, <g, g'>],
[<g, g'>, |g'|^2]], through X = exp(U/s^2 - |g|^2/2s^2) and Y alike, and the divergence is E f(p, r)
with p = 1-q+qX, r = 1-q+qY, f(p, r) = p^a r^(1-a): convex in each argument, f_pr <= 0. By Gaussian
interpolation (Plackett's identity) dE/d|g|^2 is proportional to E[X^2 f_pp] >= 0 and dE/d<g, g'> to
E[X Y f_pr] <= 0. So the largest norms (1 and 1) and the smallest inner product (-1) are the worst.

Edge cases: q = 1 has the closed form 2a/s^2 (sensitivity 2); orders whose integral would need more
than 2^20 points (noise far too small to be of use) come out as infinity, never as too little.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_TAIL = (
    16.0  # standard deviations kept on each side; what lies beyond is below 1e-55 of the integral
)
_STEPS_PER_WIDTH = 8.0  # the trapezoid rule on an analytic peak is then exact to rounding
_MAX_POINTS = 1 << 20


def replace_one_rdp(
    noise_multiplier: float, sampling_rate: float, orders: Sequence[float]
) -> NDArray[np.float64]:
    """Return the divergence of one step at each order, shape (len(orders),).

    Args:
        noise_multiplier: the noise's standard deviation over the clipping norm.
        sampling_rate: each record's probability of being in the batch, in (0, 1].
        orders: Renyi orders, each above 1.
    """
    return np.array([_one_order(noise_multiplier, sampling_rate, order) for order in orders])


def _one_order(sigma: float, q: float, order: float) -> float:
    if q == 1.0:
        return 2 * order / sigma**2
    # The integrand is largest between 0 and 2 order - 1, which it nears as q does 1. Its features
    # are no narrower than min(sigma, sigma^2) / sqrt(order): the Gaussians' width, and that of the
    # mixtures' crossover.
    low, high = -_TAIL * sigma - 1, 2 * order + _TAIL * sigma
    width = min(sigma, sigma**2) / math.sqrt(order)
    points = math.ceil((high - low) / width * _STEPS_PER_WIDTH) + 1
    if points > _MAX_POINTS:
        return math.inf
    x, spacing = np.linspace(low, high, points, retstep=True)
    exponent = order * _log_mixture(x, q, sigma, 1.0)
    exponent += (1 - order) * _log_mixture(x, q, sigma, -1.0)
    peak = float(exponent.max())
    integral = (
        float(np.exp(exponent - peak).sum()) * float(spacing) / (sigma * math.sqrt(2 * math.pi))
    )
    return max(0.0, (peak + math.log(integral)) / (order - 1))


def _log_mixture(
    x: NDArray[np.float64], q: float, sigma: float, mean: float
) -> NDArray[np.float64]:
    """Log density of (1-q) N(0, sigma^2) + q N(mean, sigma^2), times sigma sqrt(2 pi)."""
    variance = 2 * sigma**2
    return np.logaddexp(math.log1p(-q) - x**2 / variance, math.log(q) - (x - mean) ** 2 / variance)
