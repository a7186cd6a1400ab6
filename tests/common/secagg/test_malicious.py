"""With a malicious server no honest input is exposed; and the model that says so can see it.

The last tests break one rule of the node's machine at a time and show that the same adversary then
exposes somebody: what the first asserts is not true of any machine.
"""

from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accord_client import unmasking
from accord_client.secagg import NodeSecAgg
from accord_common.envelope import Envelope
from accord_common.manifest import RunManifest
from accord_common.secagg.messages import Unmasking
from tests.secagg_adversary import Adversary, Knowledge, Place, uploads_of
from tests.secagg_driver import federation

PLACES: list[Place] = [(0, 0), (0, 1), (1, 0)]
SIZES = [(3, 3, 2, 0), (4, 4, 3, 1), (5, 4, 4, 2), (6, 5, 4, 2), (7, 5, 4, 2)]  # n, t, n_min, c


def attacked(size: tuple[int, int, int, int], seed: int, *, bounded: bool = True) -> Adversary:
    n, threshold, least, colluders = size
    assert not bounded or colluders <= min(2 * threshold - n - 1, least - 2)
    fed = federation(n, threshold=threshold, min_cohort=least, colluders=colluders, dimension=2)
    adversary = Adversary(fed, Random(seed))
    adversary.attack(PLACES)
    return adversary


def exposes(adversary: Adversary) -> bool:
    """Whether somebody's input, or too small a sum of inputs, lies open."""
    known, manifest = Knowledge(adversary), adversary.fed.manifest
    fewest = max(2, manifest.smallest_cohort - manifest.secagg.colluders)
    both = known.known_seeds & known.known_keys
    return bool(both) or any(len(part) < fewest for part in known.exposed())


@pytest.mark.soak
@given(st.sampled_from(SIZES), st.integers(0, 2**32))
def test_no_honest_input_is_exposed(size: tuple[int, int, int, int], seed: int) -> None:
    adversary = attacked(size, seed)
    assert not exposes(adversary)
    masked = [(body.party, body.round, body.attempt) for body in uploads_of(adversary)]
    assert len(masked) == len(set(masked))  # nothing is masked twice under one context
    answers = [Unmasking.from_bytes(e.payload) for e in adversary.answered.values()]
    unmasked = [(body.party, body.round) for body in answers]
    assert len(unmasked) == len(set(unmasked))  # one attempt of a round at most


def test_the_adversary_gets_somewhere() -> None:
    """Sums over enough institutions do come out, so the asking is no empty exercise."""
    found = [part for seed in range(20) for part in Knowledge(attacked(SIZES[3], seed)).exposed()]
    assert found
    assert all(len(part) >= 3 for part in found)


def breaks(monkeypatch: pytest.MonkeyPatch, name: str, broken: Any) -> bool:
    monkeypatch.setattr(NodeSecAgg, name, broken)
    return any(exposes(attacked(size, seed)) for seed in range(30) for size in SIZES[2:])


def test_a_threshold_below_the_bound_exposes_somebody() -> None:
    """Why c <= min(2t - n - 1, n_min - 2): here two colluders and one node are a majority."""
    assert any(exposes(attacked((6, 3, 3, 2), seed, bounded=False)) for seed in range(60))


def test_a_node_that_joins_small_lists_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = unmasking.check_list

    def lax(parties: Sequence[str], within: Any, own: str, manifest: RunManifest) -> None:
        if len(parties) >= manifest.smallest_cohort:
            whole(parties, within, own, manifest)

    monkeypatch.setattr(unmasking, "_check_confirmations", lambda *_: None)
    monkeypatch.setattr(unmasking, "check_list", lax)
    assert any(exposes(attacked(size, seed)) for seed in range(30) for size in SIZES[2:])


def test_a_node_that_confirms_twice_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = NodeSecAgg.confirm

    def twice(self: NodeSecAgg, round_: int, attempt: int, uploads: Any) -> Envelope:
        begun = self._begun
        if begun is not None and begun.shares is not None:
            self._begun = begun.model_copy(update={"confirmation": None, "uploads": None})
        return whole(self, round_, attempt, uploads)

    def keeps(self: NodeSecAgg, round_: int, attempt: int, told: Sequence[Envelope]) -> Envelope:
        begun = self._begun
        answer = unmask(self, round_, attempt, told)
        self._begun = begun
        return answer

    unmask = NodeSecAgg.unmask
    monkeypatch.setattr(NodeSecAgg, "unmask", keeps)
    assert breaks(monkeypatch, "confirm", twice)
