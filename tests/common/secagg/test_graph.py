"""The drawn graph: regular, uniform, and held together as its numbers say, by brute force."""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterator
from fractions import Fraction
from itertools import combinations, islice, product
from math import comb
from random import Random

import pytest

from accord_common.errors import PolicyError
from accord_common.secagg import graph
from accord_common.secagg.graph import (
    Neighbourhood,
    Parameters,
    complete,
    crowd,
    drawn,
    is_drawn,
    parameters,
    permuted,
)


def seeds() -> Iterator[bytes]:
    return (hashlib.sha256(bytes([at % 256, at // 256])).digest() for at in range(1 << 16))


def parties(n: int) -> list[str]:
    return [f"{at:03}" for at in range(n)]


def is_connected(found: Neighbourhood, left: Collection[str]) -> bool:
    """Whether those that are left reach each other over each other."""
    here = set(left)
    todo = [next(iter(here))]
    here.discard(todo[0])
    while todo:
        near = here.intersection(found.circles[todo.pop()])
        here -= near
        todo += near
    return not here


def ring_of(size: int, degree: int) -> Neighbourhood:
    """A graph whose ring is in roster order."""
    names = parties(size)
    steps = range(-(degree // 2), degree // 2 + 1)
    circles = {
        name: tuple(sorted(names[(at + step) % size] for step in steps))
        for at, name in enumerate(names)
    }
    return Neighbourhood(2, circles)


def runs(size: int, half: int) -> list[set[int]]:
    """Every two disjoint runs of `half` places on a ring, as one set."""
    one = [{(at + step) % size for step in range(half)} for at in range(size)]
    return [a | b for a, b in combinations(one, 2) if not a & b]


def test_everybody_has_k_neighbours_and_is_theirs() -> None:
    for n, degree, seed in zip((51, 60, 100, 200), (6, 12, 22, 42), seeds(), strict=False):
        found = drawn(parties(n), seed, Parameters(degree, 3))
        for party, circle in found.circles.items():
            assert len(set(circle)) == degree + 1
            assert list(circle) == sorted(circle)
            assert party in circle
            assert all(party in found.circles[peer] for peer in circle)
        assert is_connected(found, found.circles)


def test_a_complete_graph_is_everybody() -> None:
    found = complete(parties(5), 4)
    assert set(found.circles.values()) == {tuple(parties(5))}
    assert found.recoverable(parties(5), parties(4))
    assert not found.recoverable(parties(5), parties(3))
    assert [n for n in range(2, 201) if is_drawn(n)] == list(range(51, 201))


def test_every_order_comes_from_one_series_of_choices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exactly uniform: as many choices as orders, each giving another one."""
    orders = set()
    for words in product(range(4), range(3), range(2)):
        monkeypatch.setattr(graph, "_words", lambda _, words=words: iter(words))
        orders.add(tuple(permuted("abcd", b"")))
    assert len(orders) == 24


def test_a_word_that_would_favour_somebody_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    last = 2**32 - 1  # 2^32 is no multiple of 3: its last word would choose 0 once too often
    monkeypatch.setattr(graph, "_words", lambda _: iter([last, 2, 0]))
    assert permuted("abc", b"") == ["b", "a", "c"]


def test_orders_are_uniform_over_seeds() -> None:
    turns = 24 * 100
    found = Counter("".join(permuted("abcd", seed)) for seed in islice(seeds(), turns))
    chi_squared = sum((count - 100) ** 2 / 100 for count in found.values())
    assert len(found) == 24
    assert chi_squared < 49.7  # 23 degrees of freedom, p = 0.001; the seeds are fixed


def test_a_ring_falls_apart_only_where_two_runs_are_gone() -> None:
    for size, degree in ((9, 4), (10, 4), (11, 6), (9, 2)):
        cuts = runs(size, degree // 2)
        found, names = ring_of(size, degree), parties(size)
        for gone in (set(c) for r in range(size - 1) for c in combinations(range(size), r)):
            left = [name for at, name in enumerate(names) if at not in gone]
            assert is_connected(found, left) or any(cut <= gone for cut in cuts)


def test_two_runs_hold_as_many_colluders_as_the_bound_allows() -> None:
    """The exact probability, over all places that colluders can have, against the union bound."""
    for size, degree, colluders in ((9, 4, 3), (10, 4, 4), (10, 6, 3)):
        pairs = runs(size, degree // 2)
        places = [set(chosen) for chosen in combinations(range(size), colluders)]
        worst = [max(len(chosen & pair) for pair in pairs) for chosen in places]
        for most in range(min(colluders, degree)):
            exact = Fraction(sum(found > most for found in worst), len(places))
            assert exact <= comb(size, 2) * above(size, colluders, degree, most)


def above(population: int, marked: int, chosen: int, most: int) -> Fraction:
    """P[X > most], X hypergeometric."""
    ways = sum(
        comb(marked, found) * comb(population - marked, chosen - found)
        for found in range(most + 1, min(marked, chosen) + 1)
    )
    return Fraction(ways, comb(population, chosen))


def test_the_crowd_is_the_least_that_the_tail_allows() -> None:
    seen = set()
    for smallest, colluders, degree in product((90, 900), (0, 5, 80), (8, 60)):
        n = smallest * 10 // 9
        most = crowd(n, smallest, colluders, degree, 200)
        seen.add((most, min(colluders, degree)))
        allowed = Fraction(1, comb(n, 2) * 400 << 40)
        assert above(smallest, colluders, degree, most) <= allowed
        assert most == 0 or above(smallest, colluders, degree, most - 1) > allowed
    assert any(0 < most < cap for most, cap in seen)  # chance counts, beside the cap


def test_a_larger_cohort_has_no_more_colluders_in_two_runs() -> None:
    tails = [above(size, 10, 22, 5) for size in range(60, 101)]
    assert tails == sorted(tails, reverse=True)


def test_the_numbers_hold_and_are_the_smallest() -> None:
    def holds(n: int, smallest: int, c: int, degree: int) -> bool:
        lost, threshold = n - smallest, degree - (n - smallest) + 1
        closed = Fraction((smallest - c) * threshold - c * degree, degree + 1)
        return degree > lost + crowd(n, smallest, c, degree, 50) and closed > lost

    for n, lost, colluders in product((51, 75, 100, 200), (1, 5, 10), (0, 3, 9)):
        found, smallest = parameters(n, n - lost, colluders, 50), n - lost
        assert found.threshold == found.degree - lost + 1
        assert 2 <= colluders + 2 <= found.threshold <= found.degree < smallest
        assert holds(n, smallest, colluders, found.degree)
        assert not any(holds(n, smallest, colluders, k) for k in range(2, found.degree, 2))
    assert parameters(100, 90, 10, 200) == Parameters(22, 13)  # as SPEC.md says
    assert parameters(200, 180, 20, 200) == Parameters(42, 23)


def test_colluders_and_losses_leave_one_part_and_every_secret_its_holders() -> None:
    """At the numbers that `parameters` gives, with losses picked where they hurt most."""
    random, size, lost, colluders = Random(5), 60, 6, 4
    numbers = parameters(size, size - lost, colluders, 100)
    names = parties(size)
    for seed in islice(seeds(), 20):
        found = drawn(names, seed, numbers)
        ring = permuted(names, seed)
        bad = set(random.sample(names, colluders))
        half = numbers.degree // 2
        for pair in random.sample(runs(size, half), 20):
            here = [ring[at] for at in pair if ring[at] not in bad]
            gone = set(here[:lost])
            assert is_connected(found, set(names) - bad - gone)
            assert found.recoverable(names, set(names) - gone)
        assert not any(
            len(bad.intersection(c)) >= numbers.threshold for c in found.circles.values()
        )


def test_two_attempts_of_a_round_are_never_both_opened() -> None:
    """Every set of honest nodes whose answers open a sum is larger than what a cohort may miss."""
    for n, lost, colluders in ((11, 1, 0), (11, 1, 1), (12, 2, 1)):
        smallest = n - lost
        numbers = parameters(n, smallest, colluders, 1)
        found, names = ring_of(n, numbers.degree), parties(n)
        assert numbers.degree < n - 1
        found = Neighbourhood(numbers.threshold, found.circles)
        for bad in combinations(names, colluders):
            honest = [name for name in names if name not in bad]
            for answers in combinations(honest, lost):
                for gone in combinations(honest, lost):
                    summed = [name for name in honest if name not in gone]
                    assert not found.recoverable(summed, (*answers, *bad))


@pytest.mark.parametrize(
    ("n", "smallest", "colluders"), [(100, 67, 10), (60, 31, 0), (51, 45, 30), (5, 5, 3)]
)
def test_numbers_that_no_graph_meets_are_refused(n: int, smallest: int, colluders: int) -> None:
    with pytest.raises(PolicyError, match="graph-too-dense"):
        parameters(n, smallest, colluders, 10)


def test_fewer_members_than_neighbours_are_refused() -> None:
    with pytest.raises(PolicyError, match="graph-too-dense"):
        drawn(parties(6), bytes(32), Parameters(6, 3))
