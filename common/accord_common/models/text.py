"""Classification of texts."""

from typing import ClassVar

from accord_common.models.tabular import MulticlassClassification


class TextClassification(MulticlassClassification):
    """One logit for each class, of two or more; `auc` and `accuracy`."""

    name: ClassVar[str] = "text-classification"
    objective: ClassVar[str] = "text-classification"
    kinds: ClassVar[frozenset[str]] = frozenset({"text"})
    targets: ClassVar[frozenset[str]] = frozenset({"binary", "classes"})
    architectures: ClassVar[frozenset[str]] = frozenset({"embedding-mean", "gru"})
