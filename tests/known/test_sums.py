"""The check of sums passes what an honest aggregator signs, and nothing else."""

from typing import Any

import numpy as np
import pytest

from accord_common.canonical import sha256_hex
from accord_common.manifest import RunManifest, model_hash
from accord_common.receipts import AggregatorReceipt
from accord_common.rings import Z32, quantise
from accord_common.tables import Encoded
from accord_server.aggregator.optimizer import Optimizer, mean_factor
from tests.known.package.vectors import known_vector
from tests.known.sums import check_sums
from tests.world import INITIAL_MODEL, World, make_world


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(5)


def sites_of(manifest: RunManifest) -> dict[str, Encoded]:
    labels = np.zeros(2, np.int64)
    return {
        site.party: Encoded(np.full((2, 2), index, np.float32), labels)
        for index, site in enumerate(manifest.roster)
    }


def two_rounds(world: World, manifest: RunManifest) -> list[AggregatorReceipt]:
    """Five, then the last four: summed as nodes and aggregator would."""
    model, sites = np.frombuffer(INITIAL_MODEL, "<f4").copy(), sites_of(manifest)
    optimizer, vectors = Optimizer(manifest.server), {"model": model}
    keys, receipts = world.run_keys(), []
    envelope = world.manifest(keys)
    for round_ in range(2):
        cohort = [site.party for site in manifest.roster[round_:]]
        before, words = model_hash(model.tobytes()), np.zeros(manifest.dimension, np.uint32)
        for party in cohort:
            secagg = manifest.secagg
            words += quantise(known_vector(model, sites[party]), secagg.scale, secagg.bound, Z32)[0]
        optimizer.step(vectors, words, mean_factor(manifest, tuple(cohort)))
        signed = world.aggregator_receipt(keys, envelope, "00" * 32, round_)
        changes: dict[str, Any] = {
            "cohort": cohort,
            "uploads": ["11" * 32] * len(cohort),
            "sum": sha256_hex(words.tobytes()),
            "model_before": before,
            "model_after": model_hash(model.tobytes()),
        }
        receipts.append(AggregatorReceipt.from_bytes(signed.payload).model_copy(update=changes))
    return receipts


def test_the_survivors_sum_passes_and_no_other(world: World) -> None:
    manifest = world.manifest_body(world.run_keys())
    five, four = two_rounds(world, manifest)
    sites = sites_of(manifest)
    check_sums(manifest, INITIAL_MODEL, [five, four], sites)
    others = [site.party for site in manifest.roster[:4]]
    for changes in (
        {"cohort": others},  # another four than those whose sum it is
        {"cohort": five.cohort, "uploads": five.uploads},  # one too many
        {"sum": five.sum},
        {"model_after": five.model_after},
        {"model_before": five.model_before},
    ):
        with pytest.raises(AssertionError):
            check_sums(manifest, INITIAL_MODEL, [five, four.model_copy(update=changes)], sites)


def test_vectors_differ_by_site_and_model(world: World) -> None:
    sites = list(sites_of(world.manifest_body(world.run_keys())).values())
    models = np.zeros(3, np.float32), np.ones(3, np.float32)
    vectors = [known_vector(model, site) for model in models for site in sites[:2]]
    assert len({vector.tobytes() for vector in vectors}) == 4
    assert (known_vector(models[0], sites[0]) == vectors[0]).all()
