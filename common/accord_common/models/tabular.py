"""Classification of table rows: two classes, or several."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from accord_common.models.task import Task
from accord_common.schema import Schema


class BinaryClassification(Task):
    """Two classes, one logit; `auc` and `accuracy` (at probability 1/2)."""

    name: ClassVar[str] = "tabular-binary"
    objective: ClassVar[str] = "binary-classification"
    targets: ClassVar[frozenset[str]] = frozenset({"binary"})
    architectures: ClassVar[frozenset[str]] = frozenset({"logistic-regression", "mlp"})

    def outputs(self, schema: Schema) -> int:
        """One logit."""
        return 1

    def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of the second class."""
        return functional.binary_cross_entropy_with_logits(
            logits[:, 0], labels.to(logits.dtype), reduction="none"
        )

    def metrics(self, logits: NDArray[np.float32], labels: NDArray[np.int64]) -> dict[str, float]:
        """`auc` is 0.5 where only one class is present."""
        scores = logits[:, 0]
        both = 0 < labels.sum() < len(labels)
        return {
            "auc": _area(labels == 1, scores) if both else 0.5,
            "accuracy": float(np.mean((scores > 0) == (labels == 1))),
        }


class MulticlassClassification(Task):
    """One logit for each class; `auc` (mean of one class against the rest) and `accuracy`."""

    name: ClassVar[str] = "tabular-multiclass"
    objective: ClassVar[str] = "multiclass-classification"
    targets: ClassVar[frozenset[str]] = frozenset({"classes"})
    architectures: ClassVar[frozenset[str]] = frozenset({"logistic-regression", "mlp"})

    def outputs(self, schema: Schema) -> int:
        """One logit for each class."""
        return schema.classes

    def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy."""
        return functional.cross_entropy(logits, labels, reduction="none")

    def metrics(self, logits: NDArray[np.float32], labels: NDArray[np.int64]) -> dict[str, float]:
        """`auc` averages over the classes that are present; 0.5 where fewer than two are.

        A class is told from the rest by its probability, not by its logit, which another row's
        logits may all exceed.
        """
        present = np.unique(labels)
        areas = [0.5]
        if len(present) > 1:
            scores = _log_probabilities(logits)
            areas = [_area(labels == label, scores[:, label]) for label in present]
        return {
            "auc": float(np.mean(areas)),
            "accuracy": float(np.mean(logits.argmax(1) == labels)),
        }


def _log_probabilities(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Logarithm of the softmax, (n, classes); ranks rows as probabilities do, without underflow."""
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return result


def _area(positive: NDArray[np.bool_], scores: NDArray[np.floating]) -> float:
    """Area under the ROC curve; both classes must be present."""
    from sklearn.metrics import roc_auc_score  # 1.4 s, which a node that never scores does not pay

    return float(roc_auc_score(positive, scores))
