"""Figures for people: epsilon of a fixed plan by privacy loss distributions.

Guarantees: dp-accounting's pessimistic discretisation, so the figure is an upper bound for events
that were fixed beforehand; and, at plan time, that an independent accountant agrees.

Not covered: adaptive choices, which only the filter bounds (`filter.py`).
"""

import math
import warnings
from collections.abc import Iterable
from functools import lru_cache
from typing import Protocol

from accord_common.errors import VerificationError
from accord_common.privacy.accounting import Tally
from accord_common.privacy.events import Spend
from accord_common.privacy.filter import Cap, RdpFilter

_RELATION = {"add-remove": "ADD_OR_REMOVE_ONE", "replace-one": "REPLACE_ONE"}  # theirs
_RELATIVE_TOLERANCE = 0.02
_ABSOLUTE_TOLERANCE = 0.01
HIGHEST_CAP = 100  # epsilon; no agreement can have more (`PrivacyTerms`)
_MOST_STEPS = 10_000_000  # 6 s at noise 1000; ten times that takes minutes and gigabytes
_PRV_ERROR = 0.002  # of epsilon, added by PRV to its upper bound: well inside the tolerance


class PrvAccountant(Protocol):
    """What `prv_check` needs of `opacus.accountants.PRVAccountant`.

    The caller brings it: importing Opacus imports torch, which this package must not need.
    """

    history: list[tuple[float, float, int]]

    def get_epsilon(self, delta: float, *, eps_error: float) -> float:
        """Return epsilon of (noise multiplier, sampling rate, steps) in `history`."""
        ...


def report_epsilon(spends: Tally | Iterable[Spend], delta: float) -> float:
    """Return epsilon at `delta` of events that were fixed beforehand; 0 for none.

    Infinite where one of them was without privacy.
    Costs about half a second for each distinct mechanism, once; cached.
    """
    return _pld_epsilon(Tally.of(spends), delta)


def bounded_epsilon(spends: Tally | Iterable[Spend], delta: str) -> float:
    """Return `report_epsilon`, or the filter's figure where that one is infinite or costs too much.

    It is infinite where the discretisation's tail alone exceeds delta; the filter bounds such
    events still. It costs too much for more steps than anybody takes: events may be a stranger's.
    """
    tally = Tally.of(spends)
    if sum(count for _, _, count in tally.steps) <= _MOST_STEPS:
        epsilon = report_epsilon(tally, float(delta))
        if math.isfinite(epsilon):
            return epsilon
    return RdpFilter(Cap(epsilon="0", delta=delta)).epsilon(tally)  # infinite without privacy


def fixed_plan_epsilon(spends: Tally | Iterable[Spend], delta: str) -> float:
    """Return `bounded_epsilon` where that says more than the filter: below epsilon 100.

    Beyond, exact figures cost much and say little; the filter's is returned.
    """
    tally = Tally.of(spends)
    bound = RdpFilter(Cap(epsilon="0", delta=delta)).epsilon(tally)
    return bounded_epsilon(tally, delta) if bound <= HIGHEST_CAP else bound


def prv_check(spends: Tally | Iterable[Spend], delta: float, prv: PrvAccountant) -> float:
    """Return PRV's epsilon of a plan if it agrees with `report_epsilon`.

    PRV (Gopi, Lee, Wutschitz 2021) knows add/remove only, so both are computed for add/remove,
    whatever adjacency the plan states.

    Raises:
        VerificationError: `accountants-disagree` beyond max(2 %, .01).
    """
    tally = Tally("add-remove", Tally.of(spends).steps)
    prv.history = [(float(noise), float(rate), count) for noise, rate, count in tally.steps]
    with warnings.catch_warnings():
        # Opacus sizes its grid by an RDP bound and warns where larger orders would tighten it.
        warnings.filterwarnings("ignore", message="Optimal order is the", category=UserWarning)
        other = float(prv.get_epsilon(delta, eps_error=_PRV_ERROR)) if tally.steps else 0.0
    own = report_epsilon(tally, delta)
    tolerance = max(_RELATIVE_TOLERANCE * own, _ABSOLUTE_TOLERANCE)
    if not abs(other - own) <= tolerance:  # also refuses NaN
        raise VerificationError(
            "accountants-disagree",
            f"PLD gives epsilon {own:.4f}, PRV {other:.4f} at delta {delta}; "
            f"they may differ by {tolerance:.4f}",
            hint="Do not run this plan; choose other noise, sampling rate or steps.",
        )
    return other


@lru_cache(maxsize=256)
def _pld_epsilon(tally: Tally, delta: float) -> float:
    if tally.non_private:
        return math.inf
    if not tally.steps:
        return 0.0
    import dp_accounting  # 0.6 s, and most verbs report nothing
    from dp_accounting.pld import PLDAccountant

    accountant = PLDAccountant(dp_accounting.NeighboringRelation[_RELATION[tally.adjacency]])
    for noise, rate, count in tally.steps:
        gaussian = dp_accounting.GaussianDpEvent(float(noise))
        accountant.compose(dp_accounting.PoissonSampledDpEvent(float(rate), gaussian), count)
    epsilon = float(accountant.get_epsilon(delta))
    return epsilon if not math.isnan(epsilon) else math.inf
