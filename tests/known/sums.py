"""What a run's signed receipts must say where every site sent its known vector.

Guarantees: nothing is taken from the run but its manifest, its initial model and who the receipts
say took part. Vectors, rounding and sum are computed here anew; the step is the aggregator's
optimiser, whose own tests hold it to the paper.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import yaml
from numpy.typing import NDArray

from accord_common import tables
from accord_common.canonical import sha256_hex
from accord_common.home import Home
from accord_common.manifest import RunManifest, model_hash
from accord_common.receipts import AggregatorReceipt
from accord_common.schema_file import from_document
from accord_common.tables import Encoded
from accord_server.aggregator.optimizer import Optimizer, mean_factor
from accord_server.demo.federation import Federation
from tests.known.package.vectors import known_vector


def tables_of(federation: Federation) -> dict[str, Encoded]:
    """Each site's rows, by party id."""
    schema = from_document(yaml.safe_load(federation.schema))
    return {
        Home.open(node.home / "accord").profile.party: tables.encode(
            tables.read(share.table.encode(), "csv", schema), schema
        )
        for node, share in zip(federation.nodes, federation.shares, strict=True)
    }


def check_sums(
    manifest: RunManifest,
    initial: bytes,
    receipts: Sequence[AggregatorReceipt],
    sites: Mapping[str, Encoded],
) -> None:
    """Assert that every completed round has the exact sum over its cohort, and the model of it.

    Args:
        manifest: of a run of `known-vectors` with equal weights.
        initial: the model that round 0 starts from.
        receipts: all of the run, oldest first.
        sites: rows by party id.
    """
    assert model_hash(initial) == manifest.initial_model
    assert len({site.weight for site in manifest.roster}) == 1
    model = np.frombuffer(initial, "<f4").astype(np.float32)
    optimizer, vectors = Optimizer(manifest.server), {"model": model}
    for receipt in receipts:
        assert receipt.model_before == model_hash(model.tobytes()), receipt
        if receipt.outcome == "aborted":
            continue
        assert len(receipt.cohort) == len(receipt.uploads) >= manifest.smallest_cohort
        words = _sum(manifest, model, [sites[party] for party in receipt.cohort])
        assert receipt.sum == sha256_hex(words.tobytes()), receipt
        optimizer.step(vectors, words, mean_factor(manifest, tuple(receipt.cohort)))
        assert receipt.model_after == model_hash(model.tobytes()), receipt


def _sum(
    manifest: RunManifest, model: NDArray[np.float32], cohort: Sequence[Encoded]
) -> NDArray[np.unsignedinteger]:
    """Quantise to nearest, add up, and reduce modulo 2^k: words (d,)."""
    bits, total = manifest.secagg.ring_bits, np.zeros(manifest.dimension, np.int64)
    for table in cohort:
        vector = known_vector(model, table).astype(np.float64)
        assert np.abs(vector).max() <= float(manifest.secagg.bound)
        total += np.rint(vector * manifest.secagg.scale).astype(np.int64)
    return (total % (1 << bits)).astype(f"<u{bits // 8}")
