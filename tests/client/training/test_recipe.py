"""The demo's recipe learns at the demo's budget: three unlike hospitals, 8 rounds, no seed."""

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

from accord_client.training.train import LocalPlan, train_round
from accord_common.models.evaluate import evaluate
from accord_common.models.tabular import BinaryClassification
from accord_common.privacy.accounting import Tally
from accord_common.privacy.filter import Cap, RdpFilter
from accord_common.schema import Schema
from accord_common.schema_file import from_document
from accord_common.tables import Encoded

ROUNDS, ATTEMPTS = 8, 12
RECIPE = LocalPlan(
    steps=4,
    sampling_rate="0.25",
    population=1,  # each site's own size below
    clipping_norm="1",
    noise_multiplier="3.75",
    learning_rate="0.5",
)
SITES = ((200, 50), (140, 42), (86, 67))  # rows, malignant ones among them


def tables() -> tuple[Schema, list[Encoded], Encoded]:
    """Cut scikit-learn's table into three sites and a public quarter that scales all of it."""
    data = load_breast_cancer()
    malignant = 1 - data.target
    private, public = train_test_split(
        np.arange(569), test_size=143, random_state=0, stratify=malignant
    )
    centre, scale = data.data[public].mean(0), data.data[public].std(0)
    schema = from_document(
        {
            "name": "breast-cancer",
            "target": {"column": "malignant", "type": "binary"},
            "columns": [
                {
                    "name": name,
                    "type": "number",
                    "minimum": 0,
                    "maximum": 5000,
                    "centre": f"{middle:.6f}",
                    "scale": f"{width:.6f}",
                }
                for name, middle, width in zip(data.feature_names, centre, scale, strict=True)
            ],
        }
    )
    features = ((data.data - centre) / scale).astype(np.float32)
    random = np.random.default_rng(0)
    groups = [random.permutation(private[malignant[private] == label]) for label in (0, 1)]
    shares, taken = [], [0, 0]
    for rows, sick in SITES:
        counts = (rows - sick, sick)
        shares.append(
            np.concatenate(
                [groups[k][taken[k] : taken[k] + count] for k, count in enumerate(counts)]
            )
        )
        taken = [start + count for start, count in zip(taken, counts, strict=True)]
    assert sorted(np.concatenate(shares)) == sorted(private)
    encoded = [Encoded(features[rows], malignant[rows].astype(np.int64)) for rows in shares]
    return schema, encoded, Encoded(features[public], malignant[public].astype(np.int64))


def test_the_recipe_keeps_within_the_budget() -> None:
    def epsilon(attempts: int) -> float:
        spent = (RECIPE.noise_multiplier, RECIPE.sampling_rate, RECIPE.steps * attempts)
        return RdpFilter(Cap(epsilon="3", delta="0.00001")).epsilon(Tally("add-remove", (spent,)))

    assert epsilon(ROUNDS) <= 2.4
    assert epsilon(ATTEMPTS) <= 3
    assert Decimal("0.00001") < Decimal(1) / 200


@pytest.mark.soak(sample=10, full=100)
def test_the_recipe_learns_every_time(size: int) -> None:
    schema, sites, public = tables()
    task = BinaryClassification()
    module = task.build("logistic-regression", {}, schema)
    areas = []
    for _ in range(size):
        model = np.zeros(31, np.float32)
        for _ in range(ROUNDS):
            updates = [
                train_round(task, module, model, site, replace(RECIPE, population=site.rows))
                for site in sites
            ]
            model = model + np.mean(updates, axis=0, dtype=np.float32)
        areas.append(evaluate(task, module, model, public)["auc"])
    assert min(areas) >= 0.95
    assert np.median(areas) >= 0.975
