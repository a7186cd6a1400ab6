"""Figures from sums: what a cap has left, what populations come to.

Guarantees: pure; epsilon is what counts against caps (`privacy.filter`) and is rounded up, what is
left is rounded down. Where sums are of several adjacencies, all is priced as the strictest.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import ROUND_FLOOR, Decimal

from accord_common.api.budget_schemas import BalanceRow, BudgetRow, CombinedRow, SpendRow
from accord_common.fields import Adjacency, Dec, to_decimal
from accord_common.privacy.accounting import Tally, bounded_up, strictest
from accord_common.privacy.filter import Cap, RdpFilter
from accord_server.registry.budgets.repository import Line, Term, tally_of
from accord_server.registry.budgets.tables import RunBudgetRow, TermsRow
from accord_server.registry.budgets.tables import SpendRow as Spent
from accord_server.registry.budgets.tallies import Sums, cap_of

_NOTHING = Sums()


def budget_row(line: Line) -> BudgetRow:
    """Show a run's budget on a dataset."""
    budget, terms = line.budget, line.terms
    rule = RdpFilter(Cap(epsilon=terms.epsilon_cap, delta=terms.delta))
    spent = rule.epsilon(line.spent)
    grown = rule.epsilon(line.tally(budget.attempts + line.ahead))
    return BudgetRow.model_validate(
        {
            "dataset": budget.dataset,
            "party": budget.party,
            "population": budget.population,
            "run": budget.run,
            "agreement": budget.agreement,
            "attempts": budget.attempts,
            "most": budget.most,
            "non_private": line.spent.non_private,
            "epsilon": bounded_up(spent),
            "reserved": _grown(spent, grown),
            "told": budget.told,
            "told_epsilon": budget.told_epsilon,
            "recomputed": budget.recomputed,
            "delta": terms.delta,
            "cap": terms.epsilon_cap,
            "adjacency": budget.adjacency,
            "noise_multiplier": budget.noise_multiplier,
            "sampling_rate": budget.sampling_rate,
            "steps": budget.steps,
        }
    )


def balance_row(term: Term, sums: Sums, moment: datetime) -> BalanceRow:
    """Show what a cap has left of what its population spent."""
    terms = term.terms
    rule = RdpFilter(cap_of(terms))
    spent, grown = rule.epsilon(sums.spent), rule.epsilon(sums.spent + sums.promised)
    return BalanceRow.model_validate(
        {
            "dataset": terms.dataset,
            "name": terms.name,
            "party": terms.owner,
            "institution": term.institution,
            "population": terms.population,
            "agreement": terms.agreement,
            "status": term.status(moment),
            "cap": terms.epsilon_cap,
            "delta": terms.delta,
            "adjacency": rule.priced(sums.spent).adjacency,
            "spent": bounded_up(spent),
            "reserved": _grown(spent, grown),
            "left": _left(terms.epsilon_cap, grown),
            "attempts": sums.attempts,
            "non_private": sums.non_private,
        }
    )


@dataclass(frozen=True, slots=True)
class Group:
    """What is to be combined.

    Attributes:
        terms: of the datasets in it; they name populations, deltas and adjacencies.
        sums: by population.
        left: the least that any cap leaves, if there is one.
    """

    id: str
    name: str
    terms: Sequence[TermsRow]
    sums: Mapping[str, Sums]
    left: Dec | None


def combined_row(group: Group) -> CombinedRow:
    """Show what populations come to: the greatest, and the sum."""
    deltas: dict[str, Dec] = {}
    for one in group.terms:
        known = deltas.get(one.population, one.delta)
        deltas[one.population] = min(known, one.delta, key=Decimal)
    found = {population: group.sums.get(population, _NOTHING) for population in deltas}
    totals = [one.spent + one.promised for one in found.values()]
    adjacency = strictest([*(t.adjacency for t in totals), *(one.adjacency for one in group.terms)])
    spent, grown = [], []
    for population, sums in found.items():
        rule = RdpFilter(Cap(epsilon="0", delta=deltas[population]))
        spent.append(rule.epsilon(_priced(sums.spent, adjacency)))
        grown.append(rule.epsilon(_priced(sums.spent + sums.promised, adjacency)))
    return CombinedRow(
        id=group.id,
        name=group.name,
        populations=len(deltas),
        attempts=sum(one.attempts for one in found.values()),
        non_private=sum(one.non_private for one in found.values()),
        adjacency=adjacency,
        spent_greatest=bounded_up(max(spent, default=0.0)),
        spent_sum=bounded_up(math.fsum(spent)),
        reserved_greatest=_grown(max(spent, default=0.0), max(grown, default=0.0)),
        reserved_sum=_grown(math.fsum(spent), math.fsum(grown)),
        delta_greatest=max(deltas.values(), key=Decimal, default="0"),
        delta_sum=to_decimal(sum(map(Decimal, deltas.values()), Decimal(0))),
        left=group.left,
    )


def spend_row(spend: Spent, budget: RunBudgetRow, delta: Dec) -> SpendRow:
    """Show one charged attempt."""
    rule = RdpFilter(Cap(epsilon="0", delta=delta))
    return SpendRow(
        sequence=spend.sequence,
        receipt=spend.receipt,
        run=spend.run,
        dataset=spend.dataset,
        party=spend.party,
        round=spend.round,
        attempt=spend.attempt,
        number=spend.number,
        entry=spend.entry,
        epsilon=bounded_up(rule.epsilon(tally_of(budget, spend.number))),
        delta=delta,
    )


def least(values: Iterable[Dec]) -> Dec | None:
    """The least of some decimals; None without any."""
    return min(values, key=Decimal, default=None)


def _priced(tally: Tally, adjacency: Adjacency) -> Tally:
    return replace(tally, adjacency=adjacency)


def _grown(spent: float, grown: float) -> Dec | None:
    """By how much, rounded up; None where the growth has no bound."""
    return bounded_up(grown - spent) if math.isfinite(grown) else None


def _left(cap: Dec, grown: float) -> Dec:
    if not math.isfinite(grown):
        return "0"
    left = max(Decimal(0), Decimal(cap) - Decimal(grown))
    return to_decimal(left.quantize(Decimal("0.0001"), rounding=ROUND_FLOOR))
