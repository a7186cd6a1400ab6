"""With a drawn graph and a malicious server no honest input is exposed; see `test_malicious`."""

from random import Random

import pytest

from accord_client import unmasking
from accord_common.secagg import graph
from accord_common.secagg.messages import Unmasking
from tests.graph_driver import drawn_federation, verified_once
from tests.secagg_adversary import Adversary, Knowledge, Place, uploads_of

PLACES: list[Place] = [(0, 0), (0, 1)]
SIZES = [(11, 1, 1), (12, 2, 1), (14, 2, 1), (16, 2, 2)]  # n, losses, colluders


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "COMPLETE_UP_TO", 7)


def attacked(random: Random) -> Adversary:
    n, lost, colluders = random.choice(SIZES)
    fed = drawn_federation(n, lost=lost, colluders=colluders, dimension=2)
    adversary = Adversary(fed, random)
    with verified_once():
        adversary.attack(PLACES)
    return adversary


def smallest_exposed(adversary: Adversary) -> int:
    """How many honest nodes the smallest sum in the open is of, less what it may be of."""
    manifest, known = adversary.fed.manifest, Knowledge(adversary)
    fewest = manifest.smallest_cohort - manifest.secagg.colluders
    return min((len(part) - fewest for part in known.exposed()), default=0)


@pytest.mark.soak(sample=5, full=1000)
def test_no_honest_input_is_exposed(size: int, seed: int) -> None:
    random, opened = Random(seed), 0
    for _ in range(size):
        adversary = attacked(random)
        known = Knowledge(adversary)
        assert smallest_exposed(adversary) >= 0
        assert not known.known_seeds & known.known_keys
        masked = [(body.party, body.round, body.attempt) for body in uploads_of(adversary)]
        assert len(masked) == len(set(masked))
        answers = [Unmasking.from_bytes(e.payload) for e in adversary.answered.values()]
        unmasked = [(body.party, body.round) for body in answers]
        assert len(unmasked) == len(set(unmasked))
        opened += len(known.exposed())
        assert len({place[0] for place in PLACES}) >= len(known.exposed())  # one a round
    assert opened or size < 100  # about one in ten attacks opens an honest sum


def test_a_node_that_asks_for_no_uploads_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unmasking, "_check_uploads", lambda *_: None)
    random = Random(0)
    assert any(smallest_exposed(attacked(random)) < 0 for _ in range(30))
