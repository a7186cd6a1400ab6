"""A run without privacy at real nodes: plain SGD leaves, infinity is charged, and it is told."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from accord_client.cli.run import describe
from accord_client.deciding import consider
from accord_client.session import Session
from accord_client.stores import Stores
from accord_client.trainer import read_table
from accord_common.envelope import Envelope
from accord_common.fields import now
from accord_common.privacy.filter import Cap
from accord_common.summaries import agreement_summary
from tests.client.institutions import Aggregator, Institutions, make_institutions

PERMITTED = {"non_private": True, "max_sampling_rate": "1"}


@pytest.fixture
def three(tmp_path: Path) -> Institutions:
    return make_institutions(tmp_path, privacy=PERMITTED)


@pytest.fixture
def stores(three: Institutions) -> Iterator[Stores]:
    with three.open(three.parties[0]) as stores:
        yield stores


def without_privacy(three: Institutions, rate: str = "1") -> Envelope:
    return three.manifest(privacy="none", site={"noise_multiplier": "0", "sampling_rate": rate})


def told(three: Institutions, stores: Stores, manifest: Envelope) -> str:
    considered = consider(stores, three.lookup(manifest), manifest.hash, now())
    population = considered.facts.terms.dataset(considered.facts.site.dataset).population
    return " ".join(describe(considered, stores.ledger.tally(population)).split())


def refusal(three: Institutions, stores: Stores, manifest: Envelope) -> str:
    return consider(stores, three.lookup(manifest), manifest.hash, now()).verdict.code


def test_a_round_without_privacy_moves_the_model_by_plain_sgd_and_is_charged_as_such(
    three: Institutions,
) -> None:
    manifest = without_privacy(three)
    aggregator = Aggregator.of(three, manifest)
    start = aggregator.model.astype(np.float64)
    updates = []
    with ExitStack() as stack:
        opened = {party: stack.enter_context(three.open(party)) for party in three.parties}
        sessions = {
            party: Session(stores, three.accept(stores, manifest))
            for party, stores in opened.items()
        }
        for stores in opened.values():
            updates.append(_sgd(stores, start))
        aggregator.round(sessions, 0)
        for stores in opened.values():
            ((entry, _),) = stores.ledger.entries(run=manifest.hash)
            assert (entry.spend.mechanism, entry.spend.noise_multiplier) == ("none", "0")
            assert stores.ledger.tally(entry.spend.population).non_private == 1
    # A step of quantisation is below 10^-8; what remains is float32's rounding.
    assert np.allclose(aggregator.model, start + np.mean(updates, axis=0), atol=1e-6)


def _sgd(stores: Stores, start: NDArray[np.float64]) -> NDArray[np.float64]:
    (dataset,) = stores.datasets.all()
    table = read_table(dataset)
    design = np.hstack([table.features, np.ones((table.rows, 1))]).astype(np.float64)
    model = start.copy()
    for _ in range(5):
        probability = 1 / (1 + np.exp(-design @ model))
        gradient = design.T @ (probability - table.labels) / dataset.size
        model -= 0.5 * gradient * min(1.0, 1 / float(np.linalg.norm(gradient)))
    return model - start


def test_a_release_without_privacy_ends_every_agreement_that_is_for_private_runs_only(
    tmp_path: Path,
) -> None:
    folders = [tmp_path / name for name in ("strict", "lenient")]
    for folder in folders:
        folder.mkdir()
    private_only = make_institutions(folders[0])
    with private_only.open(private_only.parties[0]) as stores:
        assert refusal(private_only, stores, without_privacy(private_only, "0.1")) == (
            "non-private-not-agreed"
        )
        manifest = private_only.manifest()
        assert refusal(private_only, stores, manifest) == ""
        _expose(private_only, stores, manifest)
        considered = consider(stores, private_only.lookup(manifest), manifest.hash, now())
        assert considered.verdict.code == "budget-exceeded"
        assert "non-private" not in considered.verdict.reason  # other projects' affairs
    three = make_institutions(folders[1], privacy=PERMITTED)
    with three.open(three.parties[0]) as stores:
        _expose(three, stores, three.manifest())
        assert refusal(three, stores, three.manifest()) == ""
        assert refusal(three, stores, without_privacy(three)) == ""


def _expose(three: Institutions, stores: Stores, manifest: Envelope) -> None:
    """Charge what another agreement, which permits it, lets a run release."""
    from accord_client.consent import spend_for
    from accord_common.manifest import RunManifest

    spend = spend_for(
        three.world.agreement,
        RunManifest.from_bytes(manifest.payload),
        "ee" * 32,
        stores.party,
        round_=0,
        attempt=0,
    )
    exposed = spend.model_copy(update={"mechanism": "none", "noise_multiplier": "0"})
    stores.ledger.charge(exposed, [Cap(epsilon="3", delta="0.00001", non_private=True)], now)


def test_the_steward_cannot_overlook_it(three: Institutions, stores: Stores) -> None:
    words = told(three, stores, without_privacy(three))
    assert words.startswith("*** WITHOUT PRIVACY: this run protects nobody's record. ***")
    assert "costs epsilon infinity: up to 5 non-private releases" in words
    assert "no agreement that is for private runs only" in words
    private = told(three, stores, three.manifest())
    assert "WITHOUT PRIVACY" not in private and "No guarantee" not in private
    _expose(three, stores, three.manifest())
    after = told(three, stores, three.manifest())
    assert "0 + 1 non-private release is spent before" in after
    assert "No guarantee holds against a non-private release" in after
    assert "RUNS WITHOUT PRIVACY ARE PERMITTED" in agreement_summary(
        three.world.agreement, three.world.agreement_hash
    )
