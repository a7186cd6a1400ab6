"""Classification of images."""

from typing import ClassVar

from accord_common.models.tabular import MulticlassClassification


class ImageClassification(MulticlassClassification):
    """One logit for each class, of two or more; `auc` and `accuracy`."""

    name: ClassVar[str] = "image-classification"
    objective: ClassVar[str] = "image-classification"
    kinds: ClassVar[frozenset[str]] = frozenset({"images"})
    targets: ClassVar[frozenset[str]] = frozenset({"binary", "classes"})
    architectures: ClassVar[frozenset[str]] = frozenset({"cnn", "logistic-regression", "mlp"})
