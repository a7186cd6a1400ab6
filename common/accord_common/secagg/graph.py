"""Who shares secrets and masks with whom: everybody up to 50 nodes, above that a drawn graph.

Guarantees: `parameters` gives a degree k and a share threshold s that hold for every cohort U1 of
`smallest` to n nodes, of which c collude, and any d = n - smallest that are lost, or said to be
lost, by a server that knows the graph. But with probability 2^-40 in the whole run,

1. fewer than s neighbours of any node collude, so colluders never combine a secret by themselves;
2. the graph without colluders and lost nodes is connected, so no sum over a part comes out;

and always

3. every secret keeps s holders, so d lost nodes never stop an attempt;
4. more honest nodes answer R4 of an opened sum than another attempt of that round can miss.

`drawn` places the members on a ring in uniformly random order and joins each to the k/2 on either
side: a Harary graph (Harary 1962) under a random permutation, as in Bell et al. 2020 (CCS '20,
"Secure single-server aggregation with (poly)logarithmic overhead"), whose good graphs are those of
rules 1 to 3; the bounds here are other ones, for losses that an adversary picks.
Probabilities are compared as integers, so all machines find the same k and s.

Why they hold. Survivors that follow each other on the ring are joined unless k/2 positions or more
between them are empty; a graph falls apart only where two such gaps lie, so only where colluders
and lost nodes fill two disjoint runs of k/2 positions. If no two runs hold more than a colluders
between them, and k > d + a, that never happens. A node's neighbours are two such runs, so a bounds
them, too. How many colluders two given runs hold is hypergeometric; there are fewer than n^2/2
pairs of runs, and a smaller cohort has relatively more colluders: hence n for the one and
`smallest` for the other. s = k - d + 1 > a + 1: of a node and its k neighbours at least that many
remain. Each of h honest nodes whose b is known needs s holders; at most c k of these places are
colluders', and a node answers for k + 1 at most: hence rule 4.

Not covered: colluders that are chosen after the draw; who draws, see `draw`. k grows with d + c,
not with log n: the O(log n) of Bell et al. needs losses that do not depend on the graph, or allows
sums over parts of the nodes.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import comb

from accord_common.errors import PolicyError
from accord_common.secagg.keystream import Keystream

COMPLETE_UP_TO = 50  # nodes; a draw takes an exchange more, and runs are held to this (`terms`)
FAILURE_BITS = 40  # a run's draws fail with probability 2^-40 at most, all together
_WORD_BYTES = 4


@dataclass(frozen=True, slots=True)
class Parameters:
    """Degree k, even, and how many of k + 1 shares give a secret back."""

    degree: int
    threshold: int


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """An attempt's graph.

    Args:
        threshold: how many shares give a secret back.
        circles: party -> itself and its neighbours, in roster order: those that hold a share of its
            secrets, and those of whose secrets it holds one.
    """

    threshold: int
    circles: Mapping[str, tuple[str, ...]]

    def recoverable(self, parties: Collection[str], holders: Collection[str]) -> bool:
        """Whether `holders` have enough shares of each of `parties`."""
        held = set(holders)
        return all(len(held.intersection(self.circles[p])) >= self.threshold for p in parties)


def is_drawn(n: int) -> bool:
    """Whether a roster of n nodes draws its graph; else it is complete."""
    return n > COMPLETE_UP_TO


def complete(members: Sequence[str], threshold: int) -> Neighbourhood:
    """Everybody is everybody's neighbour; `members` in roster order."""
    everybody = tuple(members)
    return Neighbourhood(threshold, dict.fromkeys(everybody, everybody))


def drawn(members: Sequence[str], seed: bytes, parameters: Parameters) -> Neighbourhood:
    """Place `members` (roster order) on a ring by the 32-byte `seed`; join each to k others.

    Raises:
        PolicyError: `graph-too-dense` unless there are more members than k.
    """
    if len(members) <= parameters.degree:
        raise PolicyError(
            "graph-too-dense", f"{len(members)} members, each with {parameters.degree} neighbours"
        )
    ring = permuted(members, seed)
    reach = parameters.degree // 2
    return Neighbourhood(
        parameters.threshold,
        {
            party: tuple(sorted(ring[(at + step) % len(ring)] for step in range(-reach, reach + 1)))
            for at, party in enumerate(ring)
        },
    )


def permuted(members: Sequence[str], seed: bytes) -> list[str]:
    """Shuffle by Durstenfeld's algorithm (1964, ACM algorithm 235), without bias.

    A number below m is the next 32-bit word of the stream, little-endian, modulo m; words from the
    largest multiple of m on are passed over.
    """
    ring, words = list(members), _words(seed)
    for last in range(len(ring) - 1, 0, -1):
        size = last + 1
        limit = 2 ** (8 * _WORD_BYTES) // size * size
        chosen = next(word for word in words if word < limit) % size
        ring[last], ring[chosen] = ring[chosen], ring[last]
    return ring


def _words(seed: bytes) -> Iterator[int]:
    """AES-256-CTR under `seed`, zero IV, four bytes at a time."""
    stream, raw = Keystream(seed, by_gcm=False), bytearray(_WORD_BYTES)
    while True:
        stream.fill(memoryview(raw))
        yield int.from_bytes(raw, "little")


@cache
def parameters(n: int, smallest: int, colluders: int, draws: int) -> Parameters:
    """Return the smallest even k, and s, that hold in a run.

    Args:
        n: size of the roster.
        smallest: max(t, n_min); d = n - smallest may be lost.
        colluders: c, of the roster, chosen before any draw.
        draws: how many draws one node takes part in, at most. All nodes together complete fewer
            than twice as many (module `draw`).

    Raises:
        PolicyError: `graph-too-dense` where no k below `smallest` will do.
    """
    lost = n - smallest
    for degree in range(2, smallest, 2):
        most = crowd(n, smallest, colluders, degree, draws)
        threshold = degree - lost + 1
        honest_places = (smallest - colluders) * threshold - colluders * degree
        if degree > lost + most and honest_places > lost * (degree + 1):
            return Parameters(degree, threshold)
    raise PolicyError(
        "graph-too-dense",
        f"no degree below {smallest} holds {n} nodes together when {lost} are lost and "
        f"{colluders} collude",
        hint="Raise n_min or assume fewer colluders.",
    )


def crowd(n: int, smallest: int, colluders: int, degree: int, draws: int) -> int:
    """How many colluders two disjoint runs of degree/2 positions hold between them, at most.

    Holds for all pairs of runs in all draws of a run, but with probability 2^-40: the smallest such
    number by the exact hypergeometric tail.
    """
    pairs, ways = comb(n, 2), comb(smallest, degree)
    allowed = ways  # in units of 1 / (pairs 2 draws 2^40)
    weight = pairs * 2 * draws << FAILURE_BITS
    above, most = 0, min(colluders, degree)
    while most > 0:
        above += comb(colluders, most) * comb(smallest - colluders, degree - most)
        if above * weight > allowed:
            break
        most -= 1
    return most
