"""What a person may have lost over all institutions, as far as receipts show.

Guarantees: the filter's figure covers everything that receipts show, whatever was chosen after
seeing earlier results. Over populations that share nobody the greatest epsilon and delta count;
where all of them may hold one person, epsilons add up and deltas do too (basic composition). Where
populations were agreed under both adjacencies, what they come to is priced as replace-one: a figure
for add/remove is none for it.

Not covered: what was charged and never reached the registry, and who overlaps whom: institutions
know, and their own ledgers decide.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from decimal import Decimal

from accord_common.agreement import Agreement
from accord_common.fields import Adjacency, Dec, Id, to_decimal
from accord_common.privacy.accounting import Tally, bounded_up, strictest
from accord_common.privacy.filter import Cap, RdpFilter
from accord_common.privacy.report import fixed_plan_epsilon
from accord_server.coordinator.views import View


class Figure(View):
    """Epsilon twice, at one delta; null where it is not bounded.

    Attributes:
        filter: what counts against caps.
        fixed_plan: PLD, where everything was fixed beforehand.
    """

    filter: Dec | None
    fixed_plan: Dec | None
    delta: Dec


class Population(View):
    """What receipts show of one population, at the strictest delta agreed for its tables."""

    population: Id
    datasets: list[str]
    adjacency: Adjacency
    spent: Figure


class Totals(View):
    """All populations, and what they come to.

    Attributes:
        adjacency: what the figures below speak of; the strictest of all populations.
        disjoint: for somebody who is in one of them: the greatest.
        overlapping: for somebody who is in all: the sum.
    """

    populations: list[Population]
    adjacency: Adjacency
    disjoint: Figure
    overlapping: Figure


def totals(spent: Mapping[Id, Tally], agreements: Iterable[Agreement]) -> Totals:
    """Sum up.

    Args:
        spent: from `planning.spent_before`.
        agreements: those that name the populations; one that none names is left out.
    """
    names: dict[Id, set[str]] = {}
    deltas: dict[Id, Dec] = {}
    for agreement in agreements:
        for dataset in agreement.datasets:
            population, delta = dataset.population, dataset.privacy.delta
            owner = agreement.party(dataset.owner).name
            names.setdefault(population, set()).add(f"{owner}/{dataset.name}")
            deltas[population] = min(deltas.get(population, delta), delta, key=Decimal)
    found = [
        Population(
            population=population,
            datasets=sorted(names[population]),
            adjacency=tally.adjacency,
            spent=_figure(tally, deltas[population]),
        )
        for population, tally in sorted(spent.items())
        if population in names
    ]
    adjacency = strictest(one.adjacency for one in found)
    alike = [
        one.spent
        if one.adjacency == adjacency
        else _figure(replace(spent[one.population], adjacency=adjacency), one.spent.delta)
        for one in found
    ]
    return Totals(
        populations=found,
        adjacency=adjacency,
        disjoint=_combined(alike, _greatest),
        overlapping=_combined(alike, _sum),
    )


def _figure(tally: Tally, delta: Dec) -> Figure:
    bound = RdpFilter(Cap(epsilon="0", delta=delta)).epsilon(tally)
    tighter = fixed_plan_epsilon(tally, delta)
    return Figure(filter=bounded_up(bound), fixed_plan=bounded_up(tighter), delta=delta)


def _combined(figures: list[Figure], how: Callable[[list[Decimal]], Decimal]) -> Figure:
    def one(values: list[Dec | None]) -> Dec | None:
        known = [Decimal(value) for value in values if value is not None]
        return to_decimal(how(known)) if len(known) == len(values) else None

    return Figure(
        filter=one([figure.filter for figure in figures]),
        fixed_plan=one([figure.fixed_plan for figure in figures]),
        delta=to_decimal(how([Decimal(figure.delta) for figure in figures])),
    )


def _greatest(values: list[Decimal]) -> Decimal:
    return max(values, default=Decimal(0))


def _sum(values: list[Decimal]) -> Decimal:
    return sum(values, start=Decimal(0))
