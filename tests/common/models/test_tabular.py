"""Losses, metrics, and a model's score on public rows."""

import numpy as np
import pytest
import torch

from accord_common.errors import AccordError
from accord_common.models.evaluate import evaluate
from accord_common.models.tabular import BinaryClassification, MulticlassClassification
from accord_common.schema import Schema
from accord_common.schema_file import from_document
from accord_common.tables import Encoded

BINARY, SEVERAL = BinaryClassification(), MulticlassClassification()


def schema(kind: str, classes: list[str]) -> Schema:
    return from_document(
        {
            "name": "toy",
            "target": {"column": "y", "type": kind, "classes": classes},
            "columns": [
                {"name": "a", "type": "number", "minimum": -1, "maximum": 1},
                {"name": "b", "type": "number", "minimum": -1, "maximum": 1},
            ],
        }
    )


def test_losses_are_cross_entropies_of_single_rows() -> None:
    losses = BINARY.losses(torch.tensor([[0.0], [2.0]]), torch.tensor([1, 0]))
    assert torch.allclose(losses, torch.tensor([np.log(2), np.log1p(np.exp(2))]).float())
    losses = SEVERAL.losses(torch.zeros(2, 4), torch.tensor([3, 0]))
    assert torch.allclose(losses, torch.full((2,), np.log(4)))


def test_metrics_of_known_scores() -> None:
    logits = np.array([[-1], [2], [0.5], [3]], np.float32)
    labels = np.array([0, 0, 1, 1])
    assert BINARY.metrics(logits, labels) == {"auc": 0.75, "accuracy": 0.75}
    assert BINARY.metrics(logits, np.ones(4, np.int64)) == {"auc": 0.5, "accuracy": 0.75}
    several = np.eye(3, dtype=np.float32)
    assert SEVERAL.metrics(several, np.arange(3)) == {"auc": 1.0, "accuracy": 1.0}
    assert SEVERAL.metrics(several, np.zeros(3, np.int64))["auc"] == 0.5


def test_a_model_is_scored_at_the_given_weights() -> None:
    module = BINARY.build("logistic-regression", {}, schema("binary", ["0", "1"]))
    features = np.array([[1, 0], [-1, 0], [0.5, 0.9]], np.float32)
    table = Encoded(features, np.array([1, 0, 1]))
    assert evaluate(BINARY, module, np.array([1, 0, 0], np.float32), table)["accuracy"] == 1
    assert evaluate(BINARY, module, np.array([-1, 0, 0], np.float32), table)["accuracy"] == 0
    with pytest.raises(AccordError, match="not-finite"):
        evaluate(BINARY, module, np.array([np.nan, 0, 0], np.float32), table)


def test_a_task_refuses_other_targets_and_architectures() -> None:
    three = schema("classes", ["a", "b", "c"])
    with pytest.raises(AccordError, match=r"wrong-target.*binary.*classes"):
        BINARY.build("logistic-regression", {}, three)
    with pytest.raises(AccordError, match=r"wrong-architecture.*'cnn'.*logistic-regression, mlp"):
        SEVERAL.build("cnn", {}, three)
    module = SEVERAL.build("mlp", {"hidden": [5]}, three)
    assert module(torch.zeros(7, 2)).shape == (7, 3)
